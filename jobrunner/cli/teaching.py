"""Commands whose help keeps indented paragraphs, such as examples, as they are written."""

import inspect
import re
from typing import Any, Final

import click

_INDENTED: Final = re.compile(r"\n\n(?=  )")


class _Teaching(click.Command):
    def __init__(self, **attributes: Any) -> None:
        for part in ("help", "epilog"):
            attributes[part] = _kept(attributes.get(part))
        super().__init__(**attributes)


def _kept(text: str | None) -> str | None:
    # A paragraph that begins with a backspace is not filled by click.
    return text and _INDENTED.sub("\n\n\b\n", inspect.cleandoc(text))


class Command(_Teaching):
    """A command with examples in its docstring."""


class Group(_Teaching, click.Group):
    """A group of commands, with examples in its docstring."""

    command_class = Command

"""Commands whose help keeps examples (`$ jobrunner ...`) and indented tables as they are written."""

import inspect
import re
from typing import Any, Final

import click

_WRITTEN: Final = re.compile(r"\n\n(?=\$ |  )")


class _Teaching(click.Command):
    def __init__(self, **attributes: Any) -> None:
        for part in ("help", "epilog"):
            text = attributes.get(part)
            # A paragraph that begins with a backspace is not filled by click.
            attributes[part] = text and _WRITTEN.sub("\n\n\b\n", inspect.cleandoc(text))
        super().__init__(**attributes)


class Command(_Teaching):
    """A command with examples in its docstring."""


class Group(_Teaching, click.Group):
    """A group of commands, with examples in its docstring."""

    command_class = Command

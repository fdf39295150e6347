"""`key=value` arguments: JSON where it parses as JSON, else text, or the content of a file."""

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import click


def parsed(arguments: Iterable[str]) -> dict[str, Any]:
    """Return what the arguments say.

    Raises:
        click.BadParameter: one has no `=`, no key, a key that came before, or names no readable file.
    """
    values: dict[str, Any] = {}
    for argument in arguments:
        key, value = split(argument)
        if key in values:
            raise click.BadParameter(f"{key} is given twice")
        values[key] = as_value(content(key, value[1:]) if value.startswith("@") else value)
    return values


def labels(arguments: Iterable[str]) -> dict[str, str]:
    """Return what the arguments say, every value as the text that it is.

    Raises:
        click.BadParameter: as `parsed`.
    """
    values: dict[str, str] = {}
    for argument in arguments:
        key, value = split(argument)
        if key in values:
            raise click.BadParameter(f"{key} is given twice")
        values[key] = value
    return values


def as_value(text: str) -> Any:
    """Return the JSON value that `text` is, or `text` itself."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def as_text(value: Any) -> str:
    """Return what stands behind the `=` for a value: what `parsed` makes that value of."""
    if isinstance(value, str) and as_value(value) == value and not value.startswith("@"):
        return value
    return json.dumps(value, ensure_ascii=False)


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are Python's own: no JSON


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)  # 1e999 is JSON, but nothing that could be sent on
    return number


def split(argument: str) -> tuple[str, str]:
    """Return what stands before the first `=`, and what behind it.

    Raises:
        click.BadParameter: there is no `=`, or nothing before it.
    """
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{argument!a} is not UTF-8") from None
    key, equals, value = argument.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{argument!r} is not KEY=VALUE")
    return key, value


def content(key: str, name: str) -> str:
    """Return the text of the file of this name, of standard input if it is `-`.

    Raises:
        click.BadParameter: it cannot be read.
    """
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise click.BadParameter(
            f"{key}: {name!r} cannot be read ({error}); for a text that starts with @, write {key}='\"@...\"'"
        ) from None

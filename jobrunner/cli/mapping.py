"""`--map` arguments: what the items of a map job run through."""

import re
from collections.abc import Iterable
from typing import Any, Final

import click

from jobrunner.cli import parameters

_RANGE: Final = re.compile(r"(-?[0-9]+)\.\.(-?[0-9]+)(?:\.\.(-?[0-9]+))?")


def parsed(arguments: Iterable[str]) -> Any:
    """Return the items that the arguments say, as `Client.map` takes them.

    Raises:
        click.BadParameter: one says no values, names a parameter that came before or no readable file, or several files
            with whole items are given.
    """
    given = list(arguments)
    if given[0].startswith("@") and len(given) == 1:
        return _whole_items(given[0], _listed(parameters.content("--map", given[0][1:])))
    axes: dict[str, Any] = {}
    for argument in given:
        if argument.startswith("@"):
            raise click.BadParameter(f"--map {argument} names whole items: give no other --map")
        name, values = parameters.split(argument)
        if name in axes:
            raise click.BadParameter(f"--map {name} is given twice")
        axes[name] = _values(name, values)
    return axes


def _whole_items(argument: str, items: Any) -> Any:
    """Return items that a file holds whole."""
    if isinstance(items, dict):
        return items
    for number, one in enumerate(items, 1):
        if not isinstance(one, dict):
            remedy = f"one object each, or name the parameter: --map NAME={argument}"
            raise click.BadParameter(
                f"--map {argument}: item {number} is {one!r:.60}, no object of parameters: {remedy}"
            )
    return items


def _values(name: str, text: str) -> Any:
    if text.startswith("@"):
        return _listed(parameters.content(name, text[1:]))
    bounds = _RANGE.fullmatch(text)
    try:
        found = range(*map(int, filter(None, bounds.groups()))) if bounds else parameters.as_value(text)
    except ValueError:  # a step of 0, or more digits than Python reads
        found = text
    if not isinstance(found, list | dict | range):
        remedy = "a range such as 0..1000, a JSON list, or @FILE"
        raise click.BadParameter(f"--map {name}: {text!r} says no values: write {remedy}")
    return found


def _listed(text: str) -> Any:
    """Return the list, or the object, that a file holds, or else what its lines say."""
    value = parameters.as_value(text)
    if isinstance(value, list | dict):
        return value
    return [parameters.as_value(line) for line in text.splitlines() if line]

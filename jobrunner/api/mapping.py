"""Map jobs at the door: whether their items fit the task, and their values the task that gets them."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobrunner.api.pointers import MAX_ERRORS, Flaw, Path
from jobrunner.api.published import Published, Shelf, flaws_of, flaws_of_each
from jobrunner.items import Axis, Items


def item_flaws(
    spec: list[Any] | Mapping[str, Any], params: Mapping[str, Any], task: Published
) -> Iterator[Flaw]:
    """Yield what is wrong with a `map` that is well formed, and with the `params` that its items have in common.

    Each value is looked at, but of a range the first and the last: what lies between fails when its turn comes.
    Each path starts at the submission.
    """
    if isinstance(spec, list):
        yield from _within("params", flaws_of(task.leaving_out(task.parameters), params))
        yield from _within("map", _flaws_of_objects(spec, params, task))
        return
    yield from _within("params", flaws_of(task.leaving_out(spec), params))
    for axis in Items.of(spec).axes:
        yield from _within("map", _flaws_of_axis(axis, params, task))


def _flaws_of_objects(spec: list[Any], params: Mapping[str, Any], task: Published) -> Iterator[Flaw]:
    yield from flaws_of_each(task.leaving_out(params), spec)
    if params:
        for index, item in enumerate(spec):
            if not params.keys().isdisjoint(item):
                yield from (Flaw((index, name), _TWICE) for name in item if name in params)


def _flaws_of_axis(axis: Axis, params: Mapping[str, Any], task: Published) -> Iterator[Flaw]:
    name = str(axis.name)
    if name in params:
        yield Flaw((name,), _TWICE)
    if name not in task.parameters:
        yield Flaw((name,), "is not a parameter")
    elif isinstance(axis.values, range):
        ends = [axis.values[0], axis.values[-1]]
        for (place, *_), detail in flaws_of_each(task.of_parameter(name), ends):
            yield Flaw((name, "range"), f"its value {ends[int(place)]} {detail}")
    else:
        found = flaws_of_each(task.of_parameter(name), axis.values)
        yield from (Flaw((name, *path), detail) for path, detail in found)


_NO_STREAM = {"integer", "number", "string", "boolean", "null", "object"}
_TWICE = "is in params too: give it in one of the two"


def reduce_flaws(reduce: str | Mapping[str, Any], shelf: Shelf) -> Iterator[Flaw]:
    """Yield what is wrong with a `reduce` that is well formed; each path starts at it."""
    where: Path = () if isinstance(reduce, str) else ("task",)
    name, params = (reduce, {}) if isinstance(reduce, str) else (reduce["task"], reduce.get("params", {}))
    task = shelf.tasks.get(name)
    if task is None:
        yield Flaw(where, shelf.unknown(name).errors[0]["detail"])
    elif not task.parameters:
        yield Flaw(where, "takes no parameters, but its first one gets the stream of values")
    else:
        first = task.parameters[0]
        if (kind := task.of_parameter(first).get("type")) in _NO_STREAM:
            yield Flaw(
                where,
                f"its first parameter, {first}, is of type {kind}; a stream of values is an Iterator[...]",
            )
        if first in params:
            yield Flaw(("params", first), "gets the stream of values: leave it out")
        rest = {name: value for name, value in params.items() if name != first}
        yield from _within("params", flaws_of(task.leaving_out([first]), rest))


def _within(name: str, flaws: Iterator[Flaw] | Sequence[Flaw]) -> Iterator[Flaw]:
    return (Flaw((name, *path), detail) for path, detail in itertools.islice(flaws, MAX_ERRORS))


def count(spec: list[Any] | Mapping[str, Any]) -> int:
    """Return how many items a `map` has that is well formed; more than can be counted one by one, maybe."""
    return math.prod(len(axis.values) for axis in Items.of(spec).axes)


def largest_bytes(text: str) -> int:
    """Return how many bytes of JSON the parameters of one item are at most, of a `map` in JSON."""
    return sum(len(axis.name or "") + _largest(axis.values) for axis in Items.parse(text).axes)


def _largest(values: Sequence[Any]) -> int:
    if isinstance(values, range):
        return max(len(str(values[0])), len(str(values[-1])))
    return max(map(len, map(bytes, values)))

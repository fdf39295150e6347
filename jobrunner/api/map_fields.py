"""Fields that make a map job: `map` and `reduce`, as far as they can be checked without knowing any task."""

import itertools
from collections.abc import Iterator
from typing import Any, Final

from marshmallow import ValidationError

from jobrunner.api.fields import PRINTABLE, Strict, is_printable, whole
from jobrunner.api.pointers import MAX_ERRORS

_MOST: Final = 10**18  # that a range may reach
_BOUND: Final = {"type": "integer", "minimum": -_MOST, "maximum": _MOST}
_NAME_CHARACTERS: Final = 200
_NO_ITEMS: Final = "is an empty list: give at least one object of parameters"
_NO_AXES: Final = 'is an empty object: name at least one parameter and its values, as in {"n": [1, 2]}'
_NO_VALUES: Final = "is an empty list: give at least one value"


class MapSpec(Strict):
    """What the items of a map job run through; see `jobrunner.items`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            "a list of parameter objects, or an object of what parameters run through: "
            '{"n": [1, 2]}, {"n": {"range": [0, 100]}}',
            **options,
        )

    def read(self, value: Any) -> list[dict[str, Any]] | dict[str, Any]:
        """Take at least one item; name each object, and each axis, that is at fault."""
        if type(value) not in (list, dict):
            raise TypeError
        if not value:
            raise ValidationError(_NO_ITEMS if type(value) is list else _NO_AXES)
        if type(value) is list:
            flaws: dict[Any, Any] = dict(_not_objects(value))
        else:
            flaws = {name: flaw for name, axis in value.items() if (flaw := _axis_flaw(axis)) is not None}
        if flaws:
            raise ValidationError(flaws)
        return with_whole_ranges(value)

    def json_schema(self) -> dict[str, Any]:
        """Allow both forms; that a range is not empty cannot be said."""
        step = {**_BOUND, "not": {"const": 0}}
        bounds = {"type": "array", "prefixItems": [_BOUND, _BOUND, step], "items": False, "minItems": 2}
        a_range = {
            "type": "object",
            "properties": {"range": bounds},
            "required": ["range"],
            "additionalProperties": False,
        }
        axis = {"oneOf": [{"type": "array", "minItems": 1}, a_range]}
        objects = {"type": "array", "minItems": 1, "items": {"type": "object"}}
        axes = {"type": "object", "minProperties": 1, "additionalProperties": axis}
        return {"oneOf": [objects, axes]}


class ReduceSpec(Strict):
    """The task that gets the values of a map job, by its name alone or with its other parameters."""

    def __init__(self, **options: Any) -> None:
        super().__init__('a task\'s name, or {"task": a task\'s name, "params": an object}', **options)

    def read(self, value: Any) -> dict[str, Any]:
        """Return both its name and its parameters; name what is at fault."""
        if type(value) is str:
            if not _is_name(value):
                raise ValueError
            return {"task": value, "params": {}}
        if type(value) is not dict:
            raise TypeError
        flaws = dict(_reduce_flaws(value))
        if flaws:
            raise ValidationError(flaws)
        return {"params": {}, **value}

    def json_schema(self) -> dict[str, Any]:
        """Allow both forms."""
        name = {"type": "string", "minLength": 1, "maxLength": _NAME_CHARACTERS, "pattern": PRINTABLE}
        whole_form = {
            "type": "object",
            "properties": {"task": name, "params": {"type": "object"}},
            "required": ["task"],
            "additionalProperties": False,
        }
        return {"oneOf": [name, whole_form]}


def _not_objects(items: list[Any]) -> Iterator[tuple[int, list[str]]]:
    found = (index for index, item in enumerate(items) if type(item) is not dict)
    return ((index, ["must be an object of parameters"]) for index in itertools.islice(found, MAX_ERRORS))


def _axis_flaw(axis: Any) -> Any:
    """Return what is wrong with the values of one parameter, as marshmallow wants it; None if nothing is."""
    if type(axis) is list:
        return None if axis else [_NO_VALUES]
    if type(axis) is not dict or axis.keys() != {"range"}:
        return ['must be a list of values, or {"range": [start, stop]} or {"range": [start, stop, step]}']
    bounds = axis["range"]
    if type(bounds) is not list or len(bounds) not in (2, 3):
        return {"range": ["must be [start, stop] or [start, stop, step]"]}
    flaws = {place: ["must be a whole number"] for place, one in enumerate(bounds) if not _is_bound(one)}
    if not flaws and not all(bounds[2:]):
        flaws = {2: ["must not be 0"]}
    if flaws:
        return {"range": flaws}
    return _emptiness([whole(one) for one in bounds])


def _emptiness(bounds: list[int]) -> Any:
    """Return what is wrong with a range without numbers; None if it has some."""
    if range(*bounds):
        return None
    where = "below start, for step is negative" if bounds[2:] and bounds[2] < 0 else "above start"
    return {"range": [f"{bounds} is empty: it ends before stop, so stop must be {where}"]}


def with_whole_ranges(spec: list[Any] | dict[str, Any]) -> list[Any] | dict[str, Any]:
    """Return a `map` that is well formed with ints alone in its ranges: 3.0 is a whole number to JSON, and no `int`."""
    if isinstance(spec, list):
        return spec
    return {
        name: axis if isinstance(axis, list) else {"range": [whole(one) for one in axis["range"]]}
        for name, axis in spec.items()
    }


def _is_bound(value: Any) -> bool:
    try:
        return abs(whole(value)) <= _MOST
    except ValueError:
        return False


def _reduce_flaws(value: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    if "task" not in value:
        yield "task", ["is required"]
    elif not _is_name(value["task"]):
        yield "task", ["must be a task's name"]
    if type(value.get("params", {})) is not dict:
        yield "params", ["must be an object"]
    for name in itertools.islice(value.keys() - {"task", "params"}, MAX_ERRORS):
        yield name, ["is not known here; there is task, params"]


def _is_name(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= _NAME_CHARACTERS and is_printable(value)

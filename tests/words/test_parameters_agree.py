"""The schema, by which the API decides, and `arguments`, by which the job process does, must agree."""

import copy
import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator
from msgspec import Meta

from jobrunner.tasks.parameters import Parameters


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


@dataclass
class Point:
    x: float
    y: int = 0
    colour: Colour | None = None


@dataclass
class Tree:
    name: str
    parts: list["Tree"]


def nothing() -> None: ...
def whole(x: int) -> None: ...
def number(x: float) -> None: ...
def words(x: str, y: str = "") -> None: ...
def truth(x: bool) -> None: ...
def either(x: int | str | None, y: float | bool = True) -> None: ...
def lists(x: list[int], y: list[list[str]] | None = None) -> None: ...
def objects(x: dict[str, int], y: Mapping[str, bool | None] | None = None) -> None: ...
def pairs(x: tuple[int, str], y: tuple[bool, ...] = ()) -> None: ...
def choices(x: Colour, y: Level = Level.LOW, z: Literal["a", 1, None] = None) -> None: ...
def records(x: Point, y: list[Point] | None = None) -> None: ...
def deep(x: Tree) -> None: ...
def places(x: Path, y: Path | None = None) -> None: ...
def moments(x: datetime, y: list[datetime] | None = None) -> None: ...
def bounded(
    x: Annotated[int, Meta(ge=-3, lt=5)], y: Annotated[str, Meta(min_length=1, max_length=3)]
) -> None: ...
def many(
    x: Annotated[list[int], Meta(min_length=1, max_length=2)], y: Annotated[float, Meta(gt=0)] = 1.0
) -> None: ...
def anything(x: Any, y: dict[str, Any] | None = None) -> None: ...


FUNCTIONS = [
    *(nothing, whole, number, words, truth, either, lists, objects, pairs, choices, records, deep),
    *(places, moments, bounded, many, anything),
]


@functools.cache
def both(function: Any) -> tuple[Parameters, Draft202012Validator]:
    """The two judges."""
    parameters = Parameters(function)
    return parameters, Draft202012Validator(parameters.schema, validate_formats=True)


names = st.sampled_from(["x", "y", "z", "name", "parts", "colour", "other"])
moment = st.datetimes(min_value=datetime(1, 1, 2), timezones=st.just(UTC)).map(datetime.isoformat)  # noqa: DTZ001
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 6),
    st.integers(-(10**300), 10**300),
    st.integers(-5, 6).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["red", "blue", "a", "b", "2026-01-31T12:00:00", "2026-01-31"]),
    moment,
)
json_values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
points = st.fixed_dictionaries(
    {"x": st.integers(-5, 5)}, optional={"y": st.integers(-5, 5), "colour": st.sampled_from(["red", None])}
)
trees = st.recursive(
    st.fixed_dictionaries({"name": st.text(max_size=3), "parts": st.just([])}),
    lambda inner: st.fixed_dictionaries({"name": st.text(max_size=3), "parts": st.lists(inner, max_size=2)}),
    max_leaves=4,
)
likely = st.one_of(
    plain,
    st.lists(st.integers(-5, 5), max_size=3),
    st.lists(st.lists(st.text(max_size=2), max_size=2), max_size=2),
    st.lists(st.booleans(), max_size=3),
    st.tuples(st.integers(-5, 5), st.text(max_size=2)).map(list),
    st.dictionaries(names, st.integers(-5, 5), max_size=3),
    st.dictionaries(names, st.booleans() | st.none(), max_size=3),
    points,
    st.lists(points, max_size=2),
    trees,
    st.lists(moment, max_size=2),
    json_values,
)
objects_given = st.fixed_dictionaries({}, optional={"x": likely, "y": likely, "z": likely, "other": plain})


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@settings(max_examples=150)
@given(given=st.one_of(objects_given, objects_given.map(lambda given: {"x": 1} | given)))
def test_what_the_schema_takes_the_function_takes_and_what_it_refuses_it_refuses(
    function: Any, given: dict[str, Any]
) -> None:
    parameters, validator = both(function)
    if validator.is_valid(given):
        assert parameters.arguments(given).keys() == given.keys()
        return
    # The one rule that only the door has: no field of a dataclass that the dataclass does not have.
    lenient = copy.deepcopy(parameters.schema)
    for definition in lenient.get("$defs", {}).values():
        definition.pop("additionalProperties", None)
    if not Draft202012Validator(lenient, validate_formats=True).is_valid(given):
        with pytest.raises(msgspec.ValidationError):
            parameters.arguments(given)


def test_a_field_that_a_dataclass_does_not_have_is_refused() -> None:
    _, validator = both(records)
    assert validator.is_valid({"x": {"x": 1.0, "y": 2}})
    assert not validator.is_valid({"x": {"x": 1.0, "why": 2}})
    assert not validator.is_valid({"x": {"x": 1.0}, "y": [{"x": 1.0, "why": 2}]})


FITTING: dict[Any, dict[str, st.SearchStrategy[Any]]] = {
    whole: {"x": st.integers()},
    number: {"x": st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False)},
    words: {"x": st.text(), "y": st.text()},
    truth: {"x": st.booleans()},
    lists: {"x": st.lists(st.integers()), "y": st.none() | st.lists(st.lists(st.text()))},
    objects: {"x": st.dictionaries(st.text(), st.integers())},
    pairs: {"x": st.tuples(st.integers(), st.text()).map(list), "y": st.lists(st.booleans())},
    choices: {
        "x": st.sampled_from(["red", "blue"]),
        "y": st.sampled_from([1, 3]),
        "z": st.sampled_from(["a", 1]),
    },
    records: {"x": points, "y": st.lists(points) | st.none()},
    deep: {"x": trees},
    places: {"x": st.text(), "y": st.none() | st.text()},
    moments: {"x": moment, "y": st.none() | st.lists(moment)},
    anything: {"x": json_values, "y": st.dictionaries(st.text(), json_values)},
}


@pytest.mark.parametrize("function", FITTING, ids=lambda function: function.__name__)
@settings(max_examples=60)
@given(data=st.data())
def test_what_fits_is_taken_by_both(function: Any, data: st.DataObject) -> None:
    given = data.draw(st.fixed_dictionaries(FITTING[function]))
    parameters, validator = both(function)
    assert validator.is_valid(given)
    assert parameters.arguments(given).keys() == given.keys()


def test_a_whole_number_may_be_written_with_a_point() -> None:
    """JSON has one kind of number."""
    assert both(whole)[1].is_valid({"x": 3.0})
    made = both(whole)[0].arguments({"x": 3.0})["x"]
    assert (made, type(made)) == (3, int)


def test_a_number_stays_one_with_a_point_where_one_is_asked_for() -> None:
    def scale(factor: float, times: int) -> None: ...

    made = Parameters(scale).arguments({"factor": 2.0, "times": 3.0})
    assert [(value, type(value)) for value in made.values()] == [(2.0, float), (3, int)]

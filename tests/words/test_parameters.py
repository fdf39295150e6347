"""Each hint that a task's parameter may have: its schema, what it takes, what it makes of it."""

import enum
import json
import math
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Optional, Union

import msgspec
import pytest
from jsonschema_rs import Draft202012Validator
from msgspec import Meta

from jobrunner.errors import TaskDefinitionError
from jobrunner.tasks.parameters import Parameters

NOT_GIVEN: Any = object()


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


class Shape(enum.Enum):
    ROUND = "round"


@dataclass
class Point:
    x: float
    y: float = 0.0


@dataclass
class Tree:
    name: str
    parts: list["Tree"] = field(default_factory=list)


def taking(hint: Any, default: Any = NOT_GIVEN) -> Callable[..., None]:
    """A function whose one parameter `x` has this hint."""

    def function(x: Any) -> None: ...

    function.__annotations__ = {"x": hint, "return": None}
    if default is not NOT_GIVEN:
        function.__defaults__ = (default,)
    return function


def schema_of(hint: Any, default: Any = NOT_GIVEN) -> dict[str, Any]:
    """What the schema says of the parameter."""
    found = Parameters(taking(hint, default)).schema["properties"]["x"]
    assert isinstance(found, dict)
    return found


def made_of(hint: Any, value: Any) -> Any:
    """What the function would be given for this JSON."""
    return Parameters(taking(hint)).arguments({"x": value})["x"]


def test_the_schema_is_that_of_an_object_with_these_parameters_and_no_others() -> None:
    def train(dataset: str, epochs: int = 10, *, verbose: bool = False) -> None: ...

    schema = Parameters(train).schema
    assert schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "dataset": {"type": "string"},
            "epochs": {"type": "integer", "default": 10},
            "verbose": {"type": "boolean", "default": False},
        },
        "required": ["dataset"],
        "additionalProperties": False,
    }


def test_a_function_without_parameters_takes_an_empty_object_alone() -> None:
    def nothing() -> None: ...

    parameters = Parameters(nothing)
    assert parameters.arguments({}) == {}
    with pytest.raises(msgspec.ValidationError, match="unknown field `x`"):
        parameters.arguments({"x": 1})


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (str, {"type": "string"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Any, {}),
        (list, {"type": "array"}),
        (dict, {"type": "object"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045 - people write it
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Union[int, str], {"anyOf": [{"type": "integer"}, {"type": "string"}]}),  # noqa: UP007 - people write it
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (datetime, {"type": "string", "format": "date-time"}),
        (datetime | None, {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
        (list[datetime], {"type": "array", "items": {"type": "string", "format": "date-time"}}),
        (Path, {"type": "string", "format": "path"}),
        (Annotated[int, Meta(ge=1, le=9)], {"type": "integer", "minimum": 1, "maximum": 9}),
        (
            Annotated[str, Meta(min_length=1, pattern="^a")],
            {"type": "string", "minLength": 1, "pattern": "^a"},
        ),
        (
            Annotated[list[int], Meta(max_length=3)],
            {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        ),
        (Annotated[int, Meta(description="how often")], {"type": "integer", "description": "how often"}),
    ],
)
def test_each_hint_has_its_schema(hint: Any, schema: dict[str, Any]) -> None:
    assert schema_of(hint) == schema
    Draft202012Validator(Parameters(taking(hint)).schema)


def test_a_parameter_without_a_hint_takes_anything() -> None:
    def anything(x, y=1): ...  # type: ignore[no-untyped-def]

    schema = Parameters(anything).schema
    assert schema["properties"] == {"x": {}, "y": {"default": 1}}
    assert schema["required"] == ["x"]
    assert Parameters(anything).arguments({"x": [{"a": None}]}) == {"x": [{"a": None}]}


@pytest.mark.parametrize(
    ("hint", "given", "made"),
    [
        (int, 3, 3),
        (int, 10**30, 10**30),
        (float, 1.5, 1.5),
        (float, 2, 2.0),
        (str, "ä\n", "ä\n"),
        (bool, True, True),
        (None, None, None),
        (Any, {"a": [1, None]}, {"a": [1, None]}),
        (list[int], [1, 2], [1, 2]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 2], {1, 2}),
        (int | None, None, None),
        (int | str, "3", "3"),
        (Literal["a", 1, None], 1, 1),
        (Colour, "red", Colour.RED),
        (Level, 3, Level.HIGH),
        (Shape, "round", Shape.ROUND),
        (Point, {"x": 1.5}, Point(1.5, 0.0)),
        (Point | None, {"x": 1.5, "y": 2}, Point(1.5, 2.0)),
        (list[Point], [{"x": 1.5}], [Point(1.5)]),
        (Tree, {"name": "a", "parts": [{"name": "b"}]}, Tree("a", [Tree("b")])),
        (datetime, "2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (datetime, "2026-01-31T14:00:00+02:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (datetime | None, None, None),
        (Path, "a/b.csv", Path("a/b.csv")),
        (list[Path], ["a", "b"], [Path("a"), Path("b")]),
        (Path | None, None, None),
        (Annotated[int, Meta(ge=1, le=9)], 9, 9),
    ],
)
def test_json_becomes_what_the_hint_says(hint: Any, given: Any, made: Any) -> None:
    found = made_of(hint, given)
    assert found == made
    assert type(found) is type(made)


@pytest.mark.parametrize(
    ("hint", "given"),
    [
        (int, "3"),
        (int, 3.5),
        (int, True),
        (int, None),
        (float, "1.5"),
        (float, False),
        (str, 1),
        (bool, 1),
        (None, 0),
        (list[int], [1, "a"]),
        (list[int], {"0": 1}),
        (dict[str, int], {"a": "b"}),
        (tuple[int, str], [1]),
        (int | None, "a"),
        (Literal["a", "b"], "c"),
        (Colour, "RED"),
        (Level, 2),
        (Point, {"y": 1.0}),
        (Point, {"x": "a"}),
        (Point, [1.0]),
        (Path, 1),
        (datetime, "2026-01-31"),
        (datetime, "yesterday"),
        (Annotated[int, Meta(ge=1, le=9)], 0),
        (Annotated[int, Meta(ge=1, le=9)], 10),
        (Annotated[str, Meta(min_length=1)], ""),
        (Annotated[list[int], Meta(max_length=1)], [1, 2]),
    ],
)
def test_what_does_not_fit_is_refused_by_the_schema_and_by_the_function(hint: Any, given: Any) -> None:
    assert not Draft202012Validator(Parameters(taking(hint)).schema, validate_formats=True).is_valid(
        {"x": given}
    )
    with pytest.raises(msgspec.ValidationError, match=r"`\$\.x"):
        made_of(hint, given)


def test_a_parameter_that_is_missing_is_named() -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field `x`"):
        Parameters(taking(int)).arguments({})


# -- moments ---------------------------------------------------------------------------------


@dataclass
class Window:
    begin: datetime
    end: datetime | None = None


@pytest.mark.parametrize(
    ("hint", "given"),
    [
        (datetime, "2026-01-31T12:00:00"),
        (datetime | None, "2026-01-31T12:00:00"),
        (list[datetime], ["2026-01-31T12:00:00"]),
        (dict[str, list[datetime]], {"a": ["2026-01-31T12:00:00"]}),
        (tuple[datetime, ...], ["2026-01-31T12:00:00"]),
        (Annotated[datetime, Meta(description="when")], "2026-01-31T12:00:00"),
        (typing.Sequence[datetime], ["2026-01-31T12:00:00"]),
        (Window, {"begin": "2026-01-31T12:00:00"}),
        (Window | None, {"begin": "2026-01-31T12:00:00Z", "end": "2026-01-31T13:00:00"}),
    ],
)
def test_a_moment_without_a_zone_is_refused_wherever_it_stands(hint: Any, given: Any) -> None:
    """It means another moment elsewhere.  A hint that would let one through is refused itself."""
    try:
        parameters = Parameters(taking(hint))
    except TaskDefinitionError:
        return
    assert not Draft202012Validator(parameters.schema, validate_formats=True).is_valid({"x": given})
    with pytest.raises(msgspec.ValidationError, match="timezone"):
        parameters.arguments({"x": given})


# -- defaults --------------------------------------------------------------------------------


def test_what_is_not_given_is_left_to_pythons_own_default() -> None:
    def train(dataset: str, epochs: int = 10, sizes: list[int] | None = None) -> None: ...

    assert Parameters(train).arguments({"dataset": "d"}) == {"dataset": "d"}
    assert Parameters(train).arguments({"dataset": "d", "sizes": None}) == {"dataset": "d", "sizes": None}


@pytest.mark.parametrize(
    ("hint", "default", "shown"),
    [
        (int, 10, 10),
        (int | None, None, None),
        (list[int], [1, 2], [1, 2]),
        (tuple[int, ...], (1, 2), [1, 2]),
        (Colour, Colour.BLUE, "blue"),
        (Level, Level.LOW, 1),
        (Point, Point(1.0, 2.0), {"x": 1.0, "y": 2.0}),
        (Path, Path("out/a.png"), "out/a.png"),
        (datetime, datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31T00:00:00Z"),
        (Annotated[int, Meta(ge=1)], 5, 5),
    ],
)
def test_a_default_is_shown_as_json(hint: Any, default: Any, shown: Any) -> None:
    schema = json.loads(json.dumps(Parameters(taking(hint, default)).schema))
    assert schema["properties"]["x"]["default"] == shown
    assert "required" not in schema or schema["required"] == []


@pytest.mark.parametrize("default", [math.inf, -math.inf, math.nan, [math.inf], object(), 1j, lambda: 1])
def test_a_default_that_is_no_json_is_not_shown(default: Any) -> None:
    schema = Parameters(taking(Any, default)).schema
    assert schema["properties"]["x"] == {}
    json.dumps(schema, allow_nan=False)


def test_the_type_that_stands_for_left_out_does_not_show() -> None:
    assert schema_of(Point | None, None) == {
        "anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}],
        "default": None,
    }


# -- dataclasses in the schema ---------------------------------------------------------------


def test_a_dataclass_is_defined_once_beside_the_parameters() -> None:
    def draw(start: Point, end: Point, tree: Tree) -> None: ...

    schema = Parameters(draw).schema
    assert sorted(schema["$defs"]) == ["Point", "Tree"]
    assert schema["properties"]["start"] == schema["properties"]["end"] == {"$ref": "#/$defs/Point"}
    assert "title" not in schema


def test_a_dataclass_may_have_any_name() -> None:
    named: Any = dataclass(type("parameters", (), {"__annotations__": {"a": int}, "__module__": __name__}))
    parameters = Parameters(taking(named))
    assert parameters.arguments({"x": {"a": 1}})["x"].a == 1
    assert Draft202012Validator(parameters.schema).is_valid({"x": {"a": 1}})
    assert not Draft202012Validator(parameters.schema).is_valid({"x": {"a": "1"}})


# -- what is refused -------------------------------------------------------------------------


class Custom:
    pass


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


T = typing.TypeVar("T", bound=Custom)


@pytest.mark.parametrize(
    ("hint", "why"),
    [
        (Custom, r"a parameter has a type that JSON cannot carry: .*Custom"),
        (Custom | None, r"JSON cannot carry: .*Custom"),
        (list[Custom], r"JSON cannot carry: .*Custom"),
        (PurePath, r"JSON cannot carry: pathlib\.PurePath"),
        (object, r"JSON cannot carry"),
        (Callable[[int], int], r"JSON cannot carry"),
        (T, r"JSON cannot carry"),
        (Mixed, r"JSON cannot carry: Enums must contain either all str or all int"),
        (Point | Tree, r"JSON cannot carry: Type unions may not contain more than one dataclass"),
        (dict[int, str], r"JSON cannot carry: .*key"),
        (dict[str, dict[Level, str]], r"JSON cannot carry: .*key"),
        (5, r"JSON cannot carry|cannot be read"),
        ("NoSuchName", r"a type hint cannot be read: name 'NoSuchName' is not defined"),
        ("datetime.no_such_attribute", r"a type hint cannot be read"),
        ("not a type(", r"a type hint cannot be read"),
    ],
)
@pytest.mark.parametrize("default", [NOT_GIVEN, None], ids=["required", "with a default"])
def test_a_hint_that_json_cannot_carry_is_refused_with_the_functions_name(
    hint: Any, why: str, default: Any
) -> None:
    with pytest.raises(TaskDefinitionError, match=why) as caught:
        Parameters(taking(hint, default))
    assert str(caught.value).startswith("taking.<locals>.function: a ")

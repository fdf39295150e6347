"""Each hint that a task's parameter may have: its schema, what it takes, what it makes of it."""

import json
import math
import typing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import msgspec
import pytest
from jsonschema_rs import Draft202012Validator
from msgspec import Meta

from jobrunner.tasks.parameters import Parameters
from tests.words.hints import Colour, Level, Point, Shape, Tree, made_of, schema_of, taking


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
        (
            Annotated[datetime, Meta(description="when")],
            {"type": "string", "format": "date-time", "description": "when"},
        ),
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


@dataclass
class Written:
    """With hints as they were written before Python 3.9 and as they are now."""

    old_list: typing.List[int]  # noqa: UP006
    old_dict: typing.Dict[str, int]  # noqa: UP006
    old_tuple: typing.Tuple[int, ...]  # noqa: UP006
    sequence: typing.Sequence[str]
    mapping: typing.Mapping[str, "Point"]
    maybe: typing.Optional[int]  # noqa: UP045
    deep: dict[str, list["Written | None"]]


def test_a_dataclass_may_be_hinted_in_any_way() -> None:
    given: dict[str, Any] = {
        "old_list": [1],
        "old_dict": {"a": 1},
        "old_tuple": [1, 2],
        "sequence": ["a"],
        "mapping": {"a": {"x": 1.0}},
        "maybe": None,
        "deep": {"a": [None]},
    }
    found = made_of(Written, given)
    assert (found.old_tuple, found.mapping, found.deep) == ((1, 2), {"a": Point(1.0)}, {"a": [None]})
    assert found == made_of(Written | None, given)

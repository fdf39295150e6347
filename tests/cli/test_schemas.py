"""Parameters for people: what they are, and an example that the API takes."""

import shlex
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import example as example_value
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.cli import parameters, schemas
from jobrunner.cli.tasks import example
from jobrunner.tasks.registry import REGISTRY
from tests.cli.modules import trials

OPTIONS: dict[str, Any] = {}


def _schema(name: str) -> dict[str, Any]:
    (task,) = (one for one in REGISTRY.values() if one.function is getattr(trials, name))
    return task.parameters.schema


def _said(command: str) -> dict[str, Any]:
    """Return the parameters of a command as `jobrunner submit` reads them."""
    return parameters.parsed(word for word in shlex.split(command) if "=" in word)


def test_the_example_of_a_task_is_one_that_fits_its_schema() -> None:
    schema = _schema("draw")
    said = example({"name": "draw", "doc": "", "params": schema, "options": OPTIONS})
    assert said.startswith("jobrunner submit draw ")
    assert set(_said(said)) == set(schema["required"])
    jsonschema_rs.validator_for(schema, validate_formats=True).validate(_said(said))


def test_without_the_example_values_the_schema_would_refuse() -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validator_for(_schema("draw")).validate({"line": "..."})


def test_the_fields_of_a_dataclass_stand_below_the_parameter() -> None:
    found = [(one.depth, one.name, one.kind, one.default) for one in schemas.fields(_schema("draw"))]
    assert found[:8] == [
        (0, "line", "Line", "(must be given)"),
        (1, "start", "Point", "(must be given)"),
        (2, "x", "number", "(must be given)"),
        (2, "y", "number", "0.0"),
        (1, "end", "Point | null", "null"),
        (2, "x", "number", "(must be given)"),
        (2, "y", "number", "0.0"),
        (1, "tags", "array of string", "(its own)"),
    ]
    kinds = {name: kind for depth, name, kind, _ in found if depth == 0}
    assert kinds["points"] == "array of Point"
    assert kinds["by_name"] == "object of Point"
    assert kinds["mood"] == '"bad" | "good"'
    assert kinds["palette"] == '"fire" | "very cold"'
    assert kinds["fill"] == "boolean"
    assert kinds["either"] == "integer | string"
    assert kinds["width"] == "integer > 5"
    assert kinds["anything"] == "anything"


def test_a_dataclass_that_holds_itself_is_shown_once() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "value": {}}}
    schema = {"properties": {"node": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": node}}
    assert [(one.depth, one.name) for one in schemas.fields(schema)] == [
        (0, "node"),
        (1, "next"),
        (1, "value"),
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "maximum": -3},
        {"type": "integer", "minimum": 7, "maximum": 7},
        {"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 6},
        {"type": "number", "exclusiveMinimum": 10},
        {"type": "number", "maximum": 0.25},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "number", "minimum": 0.2, "maximum": 0.3},
        {"type": "integer", "multipleOf": 60, "minimum": 100},
        {"type": "string", "minLength": 30},
        {"type": "string", "maxLength": 2},
        {"type": "string", "format": "uuid"},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 3},
        {"type": "null"},
        {"const": {"a": 1}},
        {"type": "string", "pattern": "^[0-9]+$", "examples": ["42"]},
        {"anyOf": [{"type": "null"}, {"type": "string", "format": "date"}]},
    ],
)
def test_a_sample_fits_its_schema(schema: dict[str, Any]) -> None:
    found = schemas.sample(schema, {})
    jsonschema_rs.validator_for(schema, validate_formats=True).validate(found)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(_json)
@example_value("5")
@example_value("@file")
@example_value('"quoted"')
@example_value(" true ")
def test_a_value_written_as_an_argument_is_read_as_that_value(value: Any) -> None:
    assert parameters.parsed([f"key={parameters.as_text(value)}"]) == {"key": value}

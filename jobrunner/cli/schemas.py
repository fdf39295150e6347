"""JSON Schema of a task's parameters, for people: what it allows, in few words, and a value that it allows."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from jobrunner.cli import words

Schema = Mapping[str, Any]

_LIMITS: Final = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_NESTED: Final = ("anyOf", "prefixItems")  #: what holds a list of schemas
_TEXTS: Final = {
    "date-time": "2030-01-31T06:00:00Z",
    "date": "2030-01-31",
    "time": "06:00:00Z",
    "duration": "PT1H",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "decimal": "1.5",
    "path": "/path/to/file",
}  #: by format


class Field(NamedTuple):
    """A parameter, or a field of one: `depth` tells of which; `default` is for people."""

    depth: int
    name: str
    kind: str
    default: str


def fields(params: Schema) -> Iterator[Field]:
    """Yield each parameter, and below it the fields of the dataclasses in it."""
    return _fields(params, params.get("$defs", {}), ())


def _fields(owner: Schema, definitions: Schema, inside: tuple[str, ...]) -> Iterator[Field]:
    required = owner.get("required", ())
    for name, schema in owner.get("properties", {}).items():
        default = "(must be given)" if name in required else _default(schema)
        yield Field(len(inside), name, kind(schema, definitions), default)
        for reference in dict.fromkeys(_references(schema)):
            if reference not in inside:  # else it would never end
                yield from _fields(definitions.get(reference, {}), definitions, (*inside, reference))


def _default(schema: Schema) -> str:
    return words.value(schema["default"], 40) if "default" in schema else "(its own)"


def _references(schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        yield _referred(schema)
    for part in ("items", "additionalProperties"):
        yield from _references(schema.get(part))
    for part in _NESTED:
        for one in schema.get(part, ()):
            yield from _references(one)


def _referred(schema: Schema) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def kind(schema: Schema, definitions: Schema) -> str:
    """Say what a schema allows, in few words."""
    found = choices(schema, definitions)
    if "anyOf" in schema:
        return " | ".join(kind(one, definitions) for one in schema["anyOf"])
    if found and schema.get("type") != "boolean":
        return " | ".join(map(words.value, found))
    if "$ref" in schema:
        return _referred(schema)
    named = str(schema.get("type", "anything"))
    inner = schema.get("items") or schema.get("additionalProperties")
    of = f" of {kind(inner, definitions)}" if isinstance(inner, dict) and inner else ""
    limits = [f"{sign} {words.number(schema[key])}" for key, sign in _LIMITS.items() if key in schema]
    return " ".join([f"{named}{of}", *limits])


def choices(schema: Schema, definitions: Schema) -> list[Any]:
    """Return every value that a schema allows; nothing if they are many."""
    if "$ref" in schema:
        return choices({"enum": definitions.get(_referred(schema), {}).get("enum", [])}, {})
    if "anyOf" in schema:
        return [value for one in schema["anyOf"] for value in choices(one, definitions)]
    if "const" in schema:
        return [schema["const"]]
    if schema.get("type") == "boolean":
        return [True, False]
    return list(schema.get("enum", ()))


def sample(schema: Schema, definitions: Schema) -> Any:
    """Return a value that a schema allows; the text `...` stands for one that cannot be guessed."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return sample(definitions.get(_referred(schema), {}), definitions)
    if found := choices(schema, definitions):
        return found[0]
    if "anyOf" in schema:
        return sample(next((one for one in schema["anyOf"] if one.get("type") != "null"), {}), definitions)
    make = _SAMPLES.get(schema.get("type", ""))
    return "..." if make is None else make(schema, definitions)


def _object(schema: Schema, definitions: Schema) -> dict[str, Any]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    if not properties and isinstance(others, dict):
        return {"key": sample(others, definitions)}
    return {name: sample(properties[name], definitions) for name in schema.get("required", ())}


def _array(schema: Schema, definitions: Schema) -> list[Any]:
    first = [sample(one, definitions) for one in schema.get("prefixItems", ())]
    items = schema.get("items")
    if not isinstance(items, dict):
        return first
    return first + [sample(items, definitions)] * max(1 - len(first), schema.get("minItems", 0) - len(first))


def _number(schema: Schema, _: Schema) -> Any:
    """Return 1 if it is allowed, else what is allowed near a limit or between two."""
    step = schema.get("multipleOf", 1)
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    most = schema.get("maximum", schema.get("exclusiveMaximum", least + 2 * step))
    low, high = least // step * step, most // step * step
    candidates = [1, low, low + step, high, high - step]
    if schema["type"] == "number":
        candidates = [float(one) for one in (*candidates, (least + most) / 2)]
    return next((one for one in candidates if _is_allowed(one, schema)), candidates[0])


def _is_allowed(number: float, schema: Schema) -> bool:
    return bool(
        schema.get("minimum", number) <= number <= schema.get("maximum", number)
        and schema.get("exclusiveMinimum", -math.inf) < number < schema.get("exclusiveMaximum", math.inf)
        and number % schema.get("multipleOf", number or 1) == 0
    )


def _text(schema: Schema, _: Schema) -> str:
    if "pattern" in schema:
        return "..."
    if schema.get("contentEncoding") == "base64":
        return "AAAA"
    text = _TEXTS.get(schema.get("format", ""), "text")
    return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]


_SAMPLES: Final[Mapping[str, Callable[[Schema, Schema], Any]]] = {
    "object": _object,
    "array": _array,
    "integer": _number,
    "number": _number,
    "string": _text,
    "null": lambda *_: None,
}

"""The OpenAPI 3.1 document, made of the routes, the table of operations, and the schemas that check and shape."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from flask import Flask
from marshmallow import Schema, fields
from werkzeug.routing import Rule

import jobrunner
from jobrunner import answers
from jobrunner.api import problems
from jobrunner.api.operations import ALWAYS, OPERATIONS, WITH_BODY, Anything, Operation, Text
from jobrunner.errors import JobrunnerError

_REF: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"<(?:(\w+):)?(\w+)>")
_JOB_ID: Final = {"type": "integer", "minimum": 1, "maximum": 10**18 - 1}
_NAME: Final = {"type": "string", "minLength": 1}
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"


def document(app: Flask) -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, dict[str, Any]] = {}
    shapes = {shape for one in OPERATIONS.values() for _, shape in one.answers if isinstance(shape, type)}
    _, components = msgspec.json.schema_components({answers.Problem, *shapes}, ref_template=_REF)
    for rule, method in _routes(app):
        path = _PARAMETER.sub(r"{\2}", rule.rule)
        paths.setdefault(path, {})[method.lower()] = _operation(app, rule)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jobrunner",
            "version": jobrunner.__version__,
            "description": "Runs CPU-bound Python on all the cores of one machine and shows its results as they come.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": {name: _dated(shape) for name, shape in components.items()}},
    }


def _routes(app: Flask) -> Iterator[tuple[Rule, str]]:
    for rule in sorted(app.url_map.iter_rules(), key=lambda one: one.rule):
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule, method


def _operation(app: Flask, rule: Rule) -> dict[str, Any]:
    known = OPERATIONS[rule.endpoint]
    summary = inspect.getdoc(app.view_functions[rule.endpoint]) or ""
    told: dict[str, Any] = {
        "operationId": rule.endpoint.rpartition(".")[2],
        "summary": summary.splitlines()[0],
        "tags": [rule.endpoint.partition(".")[0]],
        "parameters": [*_in_path(rule), *_in_query(known.query()), *_in_headers(known.headers)],
        "responses": dict(_responses(known)),
    }
    if known.body is not None:
        told["requestBody"] = _request_body(known, known.body())
    return told


def _in_path(rule: Rule) -> Iterator[dict[str, Any]]:
    for converter, name in _PARAMETER.findall(rule.rule):
        schema = _JOB_ID if converter == "job_id" else _NAME
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(schema: Schema) -> Iterator[dict[str, Any]]:
    for name, field in schema.fields.items():
        required = {"required": True} if field.required else {}
        yield {"name": name, "in": "query", **required, "schema": _field_schema(field)}


def _in_headers(headers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for name, meaning in headers.items():
        yield {"name": name, "in": "header", "description": meaning, "schema": {"type": "string"}}


# -- bodies ---------------------------------------------------------------------------------------


def _request_body(known: Operation, schema: Schema) -> dict[str, Any]:
    one = _object_schema(schema)
    body = {"type": "array", "minItems": 1, "items": one} if known.is_list else one
    return {"required": known.body_required, "content": {_JSON: {"schema": body}}}


def _object_schema(schema: Schema) -> dict[str, Any]:
    return {
        "type": "object",
        "description": inspect.getdoc(type(schema)) or "",
        "properties": {name: _field_schema(field) for name, field in schema.fields.items()},
        "required": [name for name, field in schema.fields.items() if field.required],
        "additionalProperties": False,
    }


def _field_schema(field: fields.Field[Any]) -> dict[str, Any]:
    if isinstance(field, fields.List):
        return {"type": "array", "items": _field_schema(field.inner)}
    if not hasattr(field, "json_schema"):  # marshmallow's own String, for a cursor
        return {"type": "string"}
    told: dict[str, Any] = field.json_schema()
    return {"anyOf": [told, {"type": "null"}]} if field.allow_none else told


# -- answers --------------------------------------------------------------------------------------


def _responses(known: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    for status in dict.fromkeys(status for status, _ in known.answers):
        shapes = [shape for given, shape in known.answers if given is status]
        yield str(status.value), {"description": _described(status, shapes), **_content(shapes)}
    refused = (*known.refuses, *ALWAYS, *(WITH_BODY if known.body is not None else ()))
    yield from _refusals(refused)


def _described(status: HTTPStatus, shapes: list[Any]) -> str:
    told = [shape.description for shape in shapes if isinstance(shape, Text | Anything)]
    told += [(inspect.getdoc(shape) or "").splitlines()[0] for shape in shapes if isinstance(shape, type)]
    return " ".join(told) or f"{status.phrase}."


def _content(shapes: list[Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for shape in shapes:
        if isinstance(shape, Text):
            content[shape.media_type] = {"schema": {"type": "string"}}
        elif isinstance(shape, Anything):
            content[_JSON] = {"schema": {}}
        elif shape is not None:
            content[_JSON] = {"schema": {"$ref": _REF.format(name=shape.__name__)}}
    return {"content": content} if content else {}


def _refusals(kinds: Iterable[type[JobrunnerError]]) -> Iterator[tuple[str, dict[str, Any]]]:
    by_status: dict[HTTPStatus, list[str]] = {}
    for kind in kinds:
        told = f"`/problems/{problems.slug(kind)}`: {problems.title(kind)}."
        by_status.setdefault(problems.STATUS[kind], []).append(told)
    shape = {"$ref": _REF.format(name=answers.Problem.__name__)}
    for status in sorted(by_status):
        told = " ".join(dict.fromkeys(by_status[status]))
        yield str(status.value), {"description": told, "content": {_PROBLEM: {"schema": shape}}}


def _dated(shape: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an answer with its moments marked as such; see `jobrunner.answers`."""
    for name, schema in shape.get("properties", {}).items():
        if name == "at" or name.endswith("_at"):
            for one in schema.get("anyOf", [schema]):
                if one.get("type") == "string":
                    one["format"] = "date-time"
    return shape

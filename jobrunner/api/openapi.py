"""The OpenAPI 3.1 document, made of the routes, the table of operations, and the schemas that check and shape."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from marshmallow import Schema, fields
from werkzeug.routing import Rule

import jobrunner
from jobrunner import answers
from jobrunner.api import auth, headers, problems
from jobrunner.api.context import Api
from jobrunner.api.headers import Header
from jobrunner.api.operations import ALWAYS, OPERATIONS, WITH_BODY, WITH_SCOPE, Anything, Operation, Text
from jobrunner.api.refusals import InsufficientScopeError, NotFinishedError
from jobrunner.errors import JobrunnerError
from jobrunner.store.tokens import Scope

_REF: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"<(?:(\w+):)?(\w+)>")
_JOB_ID: Final = {"type": "integer", "minimum": 1, "maximum": 10**18 - 1}
_NAME: Final = {"type": "string", "minLength": 1}
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_BEARER: Final = "bearer"
_ABOUT: Final = """\
Runs CPU-bound Python on all the cores of one machine and shows its results as they come.

Paths answer with and without a slash at their end.  Every GET takes HEAD too: the same without a body, at once.  A
method that a path does not take is answered with 405, and `Allow` names those that it takes.  Whatever goes wrong is
told as `application/problem+json`, whose `type` leads to an explanation.  No header of CORS is ever sent.
"""


#: what a request may be answered with before anybody has read what it asks for
UNREAD: Final[Mapping[HTTPStatus, str]] = {
    HTTPStatus.BAD_REQUEST: "It is no HTTP.",
    HTTPStatus.REQUEST_TIMEOUT: "It came too slowly.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "Its first line is too long.",
    HTTPStatus.EXPECTATION_FAILED: "Its `Expect` is not `100-continue`.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "Its headers are too large, or too many.",
    HTTPStatus.NOT_IMPLEMENTED: "Its `Transfer-Encoding` is not `chunked`.",
}


def document(api: Api) -> dict[str, Any]:
    """Return the document; whether a token is needed, it tells of this service as it is at the moment."""
    paths: dict[str, dict[str, Any]] = {}
    for rule, method in routes(api):
        path = path_template(rule)
        paths.setdefault(path, {})[method.lower()] = _operation(api, rule)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jobrunner",
            "version": jobrunner.__version__,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(_components()),
            "responses": {status.name: _unread(why) for status, why in UNREAD.items()},
            "securitySchemes": {_BEARER: _security_scheme()},
        },
    }


def routes(api: Api) -> Iterator[tuple[Rule, str]]:
    """Yield each route with each method that has a meaning of its own, in order."""
    for rule in sorted(api.url_map.iter_rules(), key=lambda one: one.rule):
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule, method


def path_template(rule: Rule) -> str:
    """Return `/jobs/{job_id}` for the rule of that path."""
    return _PARAMETER.sub(r"{\2}", rule.rule)


def what_it_does(api: Api, rule: Rule) -> str:
    """Return the first line of the docstring of the rule's view."""
    return (inspect.getdoc(api.view_functions[rule.endpoint]) or "").partition("\n")[0]


def _operation(api: Api, rule: Rule) -> dict[str, Any]:
    known = OPERATIONS[rule.endpoint]
    needed = auth.NEEDED[rule.endpoint]
    told: dict[str, Any] = {
        "operationId": _operation_id(rule),
        "summary": what_it_does(api, rule),
        "tags": [rule.endpoint.partition(".")[0]],
        "security": _security(needed, is_locked=api.keyring.is_locked),
        "parameters": [*_in_path(rule), *_in_query(known.query()), *map(_in_header, known.headers)],
        "responses": dict(_responses(api, known, needs_scope=needed is not None)),
    }
    if known.body is not None:
        told["requestBody"] = _request_body(known, known.body)
    return told


def _operation_id(rule: Rule) -> str:
    return str(rule.endpoint).rpartition(".")[2]


# -- who may --------------------------------------------------------------------------------------


def _security_scheme() -> dict[str, Any]:
    told = "Made by `jobrunner token create`.  As long as none was ever made, none is needed on this machine."
    return {"type": "http", "scheme": "bearer", "description": told}


def _security(needed: Scope | None, *, is_locked: bool) -> list[dict[str, list[str]]]:
    if needed is None:
        return []
    with_token = {_BEARER: [needed.value]}
    return [with_token] if is_locked else [{}, with_token]


# -- requests -------------------------------------------------------------------------------------


def _in_path(rule: Rule) -> Iterator[dict[str, Any]]:
    for converter, name in _PARAMETER.findall(rule.rule):
        schema = _JOB_ID if converter == "job_id" else _NAME
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(schema: Schema) -> Iterator[dict[str, Any]]:
    for name, field in schema.fields.items():
        required = {"required": True} if field.required else {}
        yield {"name": name, "in": "query", **_meaning(field), **required, "schema": _field_schema(field)}


def _in_header(header: Header) -> dict[str, Any]:
    return {
        "name": header.name,
        "in": "header",
        "description": header.description,
        "schema": dict(header.schema),
    }


def _request_body(known: Operation, kind: type[Schema]) -> dict[str, Any]:
    one = {"$ref": _REF.format(name=kind.__name__)}
    limits = {"type": "array", "minItems": 1, "items": one} if known.is_list else one
    example = {} if known.example is None else {"example": known.example}
    return {"required": known.body_required, "content": {_JSON: {"schema": limits, **example}}}


def _object_schema(schema: Schema) -> dict[str, Any]:
    return {
        "type": "object",
        "description": inspect.getdoc(type(schema)) or "",
        "properties": {name: _or_null(field) | _meaning(field) for name, field in schema.fields.items()},
        "required": [name for name, field in schema.fields.items() if field.required],
        "additionalProperties": False,
        **getattr(schema, "also", {}),
    }


def _meaning(field: fields.Field[Any]) -> dict[str, Any]:
    return {"description": field.metadata["means"]} if "means" in field.metadata else {}


def _field_schema(field: fields.Field[Any]) -> dict[str, Any]:
    if isinstance(field, fields.List):
        return {"type": "array", "items": _field_schema(field.inner)}
    if not hasattr(field, "json_schema"):  # marshmallow's own String, for a cursor
        return {"type": "string"}
    told: dict[str, Any] = field.json_schema()
    return told


def _or_null(field: fields.Field[Any]) -> dict[str, Any]:
    told = _field_schema(field)
    return {"anyOf": [told, {"type": "null"}]} if field.allow_none else told


# -- answers --------------------------------------------------------------------------------------


def _responses(api: Api, known: Operation, *, needs_scope: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    for status in dict.fromkeys(status for status, _ in known.answers):
        shapes = [shape for given, shape in known.answers if given is status]
        told = {"description": _described(status, shapes), **_content(shapes)}
        told |= _given(known.gives.get(status, ()))
        if known.job_id is not None:
            told["links"] = dict(_links(api, known.job_id))
        yield str(status.value), told
    refused = {*known.refuses, *ALWAYS}
    refused |= {*(WITH_SCOPE if needs_scope else ()), *(WITH_BODY if known.body is not None else ())}
    told_of = dict(_refusals(known, refused))
    unread = {str(one.value): {"$ref": f"#/components/responses/{one.name}"} for one in UNREAD}
    yield from sorted((unread | told_of).items())


def _described(status: HTTPStatus, shapes: list[Any]) -> str:
    told = [shape.description for shape in shapes if isinstance(shape, Text | Anything)]
    told += [(inspect.getdoc(shape) or "").splitlines()[0] for shape in shapes if isinstance(shape, type)]
    return " ".join(told) or f"{status.phrase}."


def _content(shapes: list[Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for shape in shapes:
        if isinstance(shape, Text):
            content[shape.media_type] = {"schema": dict(shape.schema)}
        elif isinstance(shape, Anything):
            content[_JSON] = {"schema": {}}
        elif shape is not None:
            content[_JSON] = {"schema": {"$ref": _REF.format(name=shape.__name__)}}
    return {"content": content} if content else {}


def _given(given: Iterable[Header]) -> dict[str, Any]:
    told = {
        one.name: {
            "description": one.description,
            **({"required": True} if one.always else {}),
            "schema": dict(one.schema),
        }
        for one in given
    }
    return {"headers": told} if told else {}


def _links(api: Api, job_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what can be asked of the job whose id is at `job_id` in an answer."""
    for rule, _ in routes(api):
        if "job_id" in rule.arguments:
            told = {"operationId": _operation_id(rule), "parameters": {"job_id": f"$response.body#{job_id}"}}
            yield _operation_id(rule), told


def _refusals(
    known: Operation, kinds: Iterable[type[JobrunnerError]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    by_status: dict[HTTPStatus, list[type[JobrunnerError]]] = {}
    for kind in kinds:
        by_status.setdefault(problems.STATUS[kind], []).append(kind)
    shape = {"$ref": _REF.format(name=answers.Problem.__name__)}
    for status in sorted(by_status):
        found = sorted(by_status[status], key=problems.slug)
        told = " ".join(f"`/problems/{problems.slug(kind)}`: {problems.title(kind)}." for kind in found)
        given = (*_given_with(found), *known.gives.get(status, ()))
        yield (
            str(status.value),
            {"description": told, **_given(given), "content": {_PROBLEM: {"schema": shape}}},
        )


def _given_with(kinds: list[type[JobrunnerError]]) -> Iterator[Header]:
    """Yield the headers that answers with these problems have."""
    challenging = [hasattr(kind, "challenge") or kind is InsufficientScopeError for kind in kinds]
    if any(challenging):
        yield headers.CHALLENGE._replace(always=all(challenging))
    later = [kind in problems.RETRY_AFTER_SECONDS or kind is NotFinishedError for kind in kinds]
    if any(later):
        yield headers.RETRY_AFTER._replace(always=all(later))


def _unread(why: str) -> dict[str, Any]:
    shape = {"$ref": _REF.format(name=answers.Problem.__name__)}
    return {"description": why, "content": {_PROBLEM: {"schema": shape}}}


# -- shapes ---------------------------------------------------------------------------------------


def _components() -> Iterator[tuple[str, dict[str, Any]]]:
    shapes = {shape for one in OPERATIONS.values() for _, shape in one.answers if isinstance(shape, type)}
    _, told = msgspec.json.schema_components({answers.Problem, *shapes}, ref_template=_REF)
    for name in sorted(told):
        yield name, _dated(told[name])
    bodies = {one.body for one in OPERATIONS.values() if one.body is not None}
    for kind in sorted(bodies, key=lambda one: one.__name__):
        yield kind.__name__, _object_schema(kind())


def _dated(shape: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an answer with its moments marked as such; see `jobrunner.answers`."""
    for name, schema in shape.get("properties", {}).items():
        if name == "at" or name.endswith("_at"):
            for one in schema.get("anyOf", [schema]):
                if one.get("type") == "string":
                    one["format"] = "date-time"
    return shape

"""Reading a request's query string, strictly: a misspelt filter must not show everything."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from flask import request
from marshmallow import Schema, fields

from jobrunner.api import schemas
from jobrunner.api.refusals import InvalidQueryError

_NONE: Final = schemas.NoQuery()


def read(schema: Schema = _NONE) -> dict[str, Any]:
    """Return what the query string says.

    Raises:
        InvalidQueryError: it says something that `schema` does not take, or one thing twice.
    """
    if not request.query_string and (defaults := _defaults(type(schema))) is not None:
        return dict(defaults)
    given: dict[str, Any] = {}
    errors = []
    for name, values in request.args.lists():
        repeatable = isinstance(schema.fields.get(name), fields.List)
        if len(values) > 1 and not repeatable:
            errors.append({"parameter": name, "detail": "is given more than once"})
        given[name] = values if repeatable else values[0]
    loaded, flaws = schemas.load(schema, [given])
    errors += [{"parameter": str(flaw.path[1]), "detail": flaw.detail} for flaw in flaws]
    if errors:
        raise InvalidQueryError(errors)
    return loaded[0]


@cache
def _defaults(kind: type[Schema]) -> Mapping[str, Any] | None:
    """Return what holds where nothing is asked for; None if something must be."""
    loaded, _ = schemas.load(kind(), [{}])
    return loaded[0] if loaded else None

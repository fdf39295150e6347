"""`/` and `/problems`: what there is, and what a problem's `type` means."""

import inspect
import re
from typing import Any, Final

from flask import Blueprint, Response

import jobrunner
from jobrunner.api import openapi, problems, query
from jobrunner.api.context import this_api
from jobrunner.api.refusals import PathNotFoundError
from jobrunner.api.replies import json_reply

routes: Final = Blueprint("index", __name__)
_KINDS: Final = {problems.slug(kind): kind for kind in problems.STATUS}


@routes.get("/")
def show_index() -> Response:
    """List what this API takes."""
    query.read()
    api = this_api()
    endpoints: list[dict[str, Any]] = [
        {"method": method, "path": re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), "does": does}
        for rule in api.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        for does in (inspect.getdoc(api.view_functions[rule.endpoint]) or "").splitlines()[:1]
    ]
    endpoints.sort(key=lambda one: (one["path"], one["method"]))
    return json_reply({"name": "jobrunner", "version": jobrunner.__version__, "endpoints": endpoints})


@routes.get("/openapi.json")
def show_openapi() -> Response:
    """Describe all of this for programs: OpenAPI 3.1."""
    query.read()
    return json_reply(openapi.document(this_api()))


@routes.get("/problems")
def list_problems() -> Response:
    """List the problems that an answer may name as its `type`."""
    query.read()
    items = [
        {"type": f"/problems/{name}", "title": problems.title(kind), "status": problems.STATUS[kind]}
        for name, kind in sorted(_KINDS.items())
    ]
    return json_reply({"items": items})


@routes.get("/problems/<name>")
def show_problem(name: str) -> Response:
    """Explain a problem in plain words."""
    query.read()
    kind = _KINDS.get(name)
    if kind is None:
        raise PathNotFoundError(f"/problems/{name}")
    status = problems.STATUS[kind]
    text = f"{inspect.getdoc(kind)}\n\nHTTP status: {status.value} {status.phrase}\n"
    return Response(text, mimetype="text/plain")

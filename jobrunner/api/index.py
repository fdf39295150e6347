"""`/` and `/problems`: what there is, and what a problem's `type` means; for programs, and as pages for a browser."""

import inspect
from typing import Any, Final

from flask import Blueprint, Response
from werkzeug.routing import Rule

import jobrunner
from jobrunner.api import openapi, pages, problems, query
from jobrunner.api.context import Api, this_api
from jobrunner.api.operations import OPERATIONS
from jobrunner.api.refusals import PathNotFoundError
from jobrunner.api.replies import json_reply
from jobrunner.errors import JobrunnerError

routes: Final = Blueprint("index", __name__)
routes.after_request(pages.by_accept)
_KINDS: Final = {problems.slug(kind): kind for kind in problems.STATUS}


@routes.get("/")
def show_index() -> Response:
    """List what this API takes."""
    query.read()
    api = this_api()
    if pages.wanted("application/json"):
        return _index_page(api)
    endpoints = [
        {"method": method, "path": openapi.path_template(rule), "does": openapi.what_it_does(api, rule)}
        for rule, method in openapi.routes(api)
    ]
    return json_reply({"name": "jobrunner", "version": jobrunner.__version__, "endpoints": endpoints})


def _index_page(api: Api) -> Response:
    about = "It speaks JSON; `/openapi.json` describes it for programs.  What takes no parameters is linked."
    rows = [
        (method, _shown(rule, method), openapi.what_it_does(api, rule))
        for rule, method in openapi.routes(api)
    ]
    return pages.page(f"jobrunner {jobrunner.__version__}", [about], rows)


def _shown(rule: Rule, method: str) -> str:
    path = openapi.path_template(rule)
    asks = any(field.required for field in OPERATIONS[rule.endpoint].query().fields.values())
    return path if method != "GET" or rule.arguments or asks else pages.link(path, path)


@routes.get("/openapi.json")
def show_openapi() -> Response:
    """Describe all of this for programs: OpenAPI 3.1."""
    query.read()
    return json_reply(openapi.document(this_api()))


@routes.get("/problems")
def list_problems() -> Response:
    """List the problems that an answer may name as its `type`."""
    query.read()
    items: list[dict[str, Any]] = [
        {"type": f"/problems/{name}", "title": problems.title(kind), "status": problems.STATUS[kind]}
        for name, kind in sorted(_KINDS.items())
    ]
    if pages.wanted("application/json"):
        rows = [(one["status"], pages.link(one["type"], one["type"]), one["title"]) for one in items]
        return pages.page("Problems", ["What an answer may name as its `type`."], rows)
    return json_reply({"items": items})


@routes.get("/problems/<name>")
def show_problem(name: str) -> Response:
    """Explain a problem in plain words."""
    query.read()
    kind = _KINDS.get(name)
    if kind is None:
        raise PathNotFoundError(f"/problems/{name}")
    text = _explanation(kind)
    if pages.wanted("text/plain"):
        title, *paragraphs = text.split("\n\n")
        return pages.page(title.rstrip("."), paragraphs)
    return Response(f"{text}\n", mimetype="text/plain")


def _explanation(kind: type[JobrunnerError]) -> str:
    status = problems.STATUS[kind]
    return f"{inspect.getdoc(kind)}\n\nHTTP status: {status.value} {status.phrase}"

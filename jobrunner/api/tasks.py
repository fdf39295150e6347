"""`/tasks`: what can be submitted, as the dispatchers have published it."""

from typing import Final

from flask import Blueprint, Response
from msgspec import Raw

from jobrunner.api import modules, query
from jobrunner.api.context import this_api
from jobrunner.api.replies import json_reply
from jobrunner.store import catalogue

routes: Final = Blueprint("tasks", __name__)


@routes.get("/tasks")
def list_tasks() -> Response:
    """List every task that can be submitted, and the modules whose tasks cannot."""
    query.read()
    with this_api().store.read() as connection:
        items = [Raw(description) for description in catalogue.descriptions(connection)]
        errors = modules.broken(connection)
    return json_reply({"items": items, "module_errors": errors})


@routes.get("/tasks/<name>")
def show_task(name: str) -> Response:
    """Show a task: what it does, what it takes, what holds for its jobs unless they say otherwise."""
    query.read()
    with this_api().store.read() as connection:
        return json_reply(Raw(catalogue.description(connection, name)))

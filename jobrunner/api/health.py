"""`/livez` and `/readyz`: for whoever watches over the service."""

from typing import Final

from flask import Blueprint, Response

from jobrunner.api import auth, checks
from jobrunner.api.context import this_api
from jobrunner.api.refusals import NotReadyError
from jobrunner.api.replies import json_reply

routes: Final = Blueprint("health", __name__)


@routes.get("/livez")
def show_alive() -> Response:
    """Say that the API answers."""
    return json_reply({"alive": True})


@routes.get("/readyz")
def show_ready() -> Response:
    """Say whether a job that is submitted now would be kept and run; to those who may read also why not."""
    outcomes = checks.run(this_api())
    if not auth.may_read():
        outcomes = [{**outcome, "detail": "to be told takes a token"} for outcome in outcomes]
    if not all(outcome["ok"] for outcome in outcomes):
        raise NotReadyError(outcomes)
    return json_reply({"ready": True, "checks": outcomes})

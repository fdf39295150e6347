"""Many jobs at a time: which of them have finished, and cancelling those that have not begun.

For a client that has thousands of jobs and would rather not ask for each.
"""

from collections.abc import Sequence
from typing import Any, Final

from flask import Blueprint, Response
from msgspec import Raw

from jobrunner.api import body, query, schemas, waiting
from jobrunner.api.context import this_api
from jobrunner.api.pointers import invalid_fields
from jobrunner.api.replies import json_reply
from jobrunner.clock import utc_now
from jobrunner.store import jobs, moves
from jobrunner.store.jobs import Finished

routes: Final = Blueprint("many", __name__)
_FINISHED: Final = schemas.FinishedQuery()
_CANCELLATION: Final = schemas.ManyCancellation()


@routes.get("/jobs/finished")
def list_finished() -> Response:
    """List the final jobs with a label, of these ids, in short; with `wait`, as soon as there is one."""
    asked = query.read(_FINISHED)

    def look() -> list[Finished]:
        with this_api().store.read() as connection:
            return jobs.finished(connection, asked["label"], asked["ids"], asked["limit"])

    found = waiting.until_some(look, waiting.seconds(asked["wait"]))
    return json_reply({"items": [_shape(one) for one in found]})


def _shape(one: Finished) -> dict[str, Any]:
    shape: dict[str, Any] = {"id": one.id, "state": one.state, "attempt": one.attempt}
    if not one.is_cut:
        shape["result"] = None if one.result is None else Raw(one.result)
    return shape | {"error": None if one.error is None else Raw(one.error)}


@routes.post("/jobs/cancel")
def cancel_queued() -> Response:
    """Cancel those of many jobs that are queued; what runs is left alone."""
    query.read()
    asked, flaws = schemas.load(_CANCELLATION, [body.read()])
    if flaws:
        raise invalid_fields(flaw._replace(path=flaw.path[1:]) for flaw in flaws)
    ids: Sequence[int] = asked[0]["ids"]
    with this_api().store.write(durable=True) as connection:
        cancelled = moves.cancel_queued(connection, ids, now=utc_now())
    this_api().ring()
    return json_reply({"ids": cancelled})

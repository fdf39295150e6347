"""`/jobs`: listing, showing, cancelling, asking again, deleting."""

from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from marshmallow import Schema

from jobrunner.api import body, cursor, query, schemas, waiting
from jobrunner.api.context import this_api
from jobrunner.api.intake import require_room
from jobrunner.api.pointers import Flaw, invalid_fields
from jobrunner.api.refusals import AlreadyFinishedError
from jobrunner.api.replies import (
    job_reply,
    json_reply,
    situation,
    tagged,
    unchanged,
)
from jobrunner.api.shapes import job_shape
from jobrunner.clock import utc_now
from jobrunner.lifecycle import State
from jobrunner.store import items, jobs, lists, moves, retention
from jobrunner.store.jobs import Job
from jobrunner.store.lists import Filter

routes: Final = Blueprint("jobs", __name__)
_LIST: Final = schemas.JobsQuery()
_WAIT: Final = schemas.WaitQuery()
_CANCELLATION: Final = schemas.Cancellation()
_RETRY: Final = schemas.Retry()


@routes.get("/jobs")
def list_jobs() -> Response:
    """List jobs, newest first."""
    asked = query.read(_LIST)
    wanted = Filter(
        states=tuple(asked["state"]),
        task=asked["task"],
        queue=asked["queue"],
        labels=tuple(asked["label"]),
        created_after=asked["created_after"],
    )
    before_id = None if asked["after"] is None else cursor.decode(asked["after"], wanted)
    with this_api().store.read() as connection:
        found = lists.page(connection, wanted, before_id=before_id, limit=asked["limit"] + 1)
        around = situation(connection)
        maps = items.of_jobs(connection, [job.id for job in found if job.item_count is not None])
        shown = [job_shape(job, around, maps.get(job.id)) for job in found[: asked["limit"]]]
    following = cursor.encode(found[-2].id, wanted) if len(found) > asked["limit"] else None
    headers = {} if following is None else {"Link": _link(following)}
    return json_reply({"items": shown, "next": following}, headers=headers)


def _link(following: str) -> str:
    kept = [(name, value) for name, value in request.args.items(multi=True) if name != "after"]
    return f'</jobs?{urlencode([*kept, ("after", following)])}>; rel="next"'


@routes.get("/jobs/<job_id:job_id>")
def show_job(job_id: int) -> Response:
    """Show how a job stands; with `wait`, as soon as there is news of it."""
    waiting.until_other_than_known(job_id, waiting.seconds(query.read(_WAIT)["wait"]))
    store = this_api().store
    if (answer := unchanged(store, job_id)) is not None:
        return answer
    job = jobs.get(store, job_id)
    return tagged(job.version, job_reply(job, situation(store)))


@routes.post("/jobs/<job_id:job_id>/cancel")
def cancel_job(job_id: int) -> Response:
    """Cancel a job: at once if it is queued, else as soon as its process has stopped."""
    query.read()
    grace_seconds = _grace_seconds()
    with this_api().store.write(durable=True) as connection:
        _refuse_finished(jobs.get(connection, job_id))
        state = moves.cancel(connection, job_id, grace_seconds=grace_seconds, now=utc_now())
        status = HTTPStatus.OK if state is State.CANCELLED else HTTPStatus.ACCEPTED
        reply = job_reply(jobs.get(connection, job_id), situation(connection), status)
    this_api().ring()
    return reply


def _grace_seconds() -> float:
    return float(_body(_CANCELLATION).get("grace_seconds", this_api().settings.grace_seconds))


def _body(schema: Schema) -> schemas.Loaded:
    """Return what the body says, which may be left out."""
    asked, flaws = schemas.load(schema, [body.read_if_any({})])
    if flaws:
        raise invalid_fields(flaw._replace(path=flaw.path[1:]) for flaw in flaws)
    return asked[0]


def _refuse_finished(job: Job) -> None:
    if job.state in (State.SUCCEEDED, State.FAILED):
        raise AlreadyFinishedError(job.id, job.state, "cancel")


@routes.post("/jobs/<job_id:job_id>/retry")
def retry_job(job_id: int) -> Response:
    """Queue a failed or cancelled job again; of a map job, with `only`, what has not succeeded."""
    query.read()
    only_failed = "only" in _body(_RETRY)
    with this_api().store.write(durable=True) as connection:
        if only_failed and jobs.get(connection, job_id).item_count is None:
            raise invalid_fields([Flaw(("only",), f"goes with a map job alone, and job {job_id} is none")])
        require_room(jobs.counts(connection)[State.QUEUED], 1, this_api().settings.max_queued)
        moves.requeue(connection, job_id, only_failed=only_failed, now=utc_now())
        reply = job_reply(jobs.get(connection, job_id), situation(connection), HTTPStatus.ACCEPTED)
    this_api().ring()
    return reply


@routes.delete("/jobs/<job_id:job_id>")
def delete_job(job_id: int) -> Response:
    """Delete a job that is final, with all its history."""
    query.read()
    retention.remove(this_api().store, job_id)
    return Response(status=HTTPStatus.NO_CONTENT)

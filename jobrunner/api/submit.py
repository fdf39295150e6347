"""`POST /jobs`, `POST /jobs/batch`: what is answered with 202 is on disk."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response
from sqlalchemy import Connection

from jobrunner.api import body, published, query, submissions
from jobrunner.api.context import this_api
from jobrunner.api.pointers import Flaw, invalid_fields
from jobrunner.api.refusals import BatchTooLargeError
from jobrunner.api.replies import job_reply, json_reply
from jobrunner.clock import utc_now
from jobrunner.errors import QueueFullError
from jobrunner.lifecycle import State
from jobrunner.store import jobs
from jobrunner.store.engine import CHECKPOINT_BYTES_WITHOUT_DAEMON
from jobrunner.store.jobs import NewJob

routes: Final = Blueprint("submit", __name__)


@routes.post("/jobs")
def submit() -> Response:
    """Submit a job."""
    query.read()
    new = _checked([body.read()], single=True)
    _keep_log_small()
    with this_api().store.write(durable=True) as connection:
        [job_id] = _store(connection, new)
        reply = job_reply(connection, jobs.get(connection, job_id), HTTPStatus.ACCEPTED)
    this_api().wake_dispatchers()
    reply.headers["Location"] = f"/jobs/{job_id}"
    return reply


@routes.post("/jobs/batch")
def submit_batch() -> Response:
    """Submit many jobs, all or none."""
    query.read()
    items = body.read()
    if not isinstance(items, list) or not items:
        raise invalid_fields([Flaw((), "must be a list of at least one job")])
    limit = this_api().settings.max_batch
    if len(items) > limit:
        raise BatchTooLargeError(f"the batch has {len(items)} jobs, max_batch is {limit}")
    new = _checked(items, single=False)
    _keep_log_small()
    with this_api().store.write(durable=True) as connection:
        ids = _store(connection, new)
    this_api().wake_dispatchers()
    return json_reply({"ids": ids}, HTTPStatus.ACCEPTED)


def _checked(items: list[Any], *, single: bool) -> list[NewJob]:
    with this_api().store.read() as connection:
        shelf = published.find(connection, submissions.task_names(items))
    limit = this_api().settings.max_params_bytes
    return submissions.checked(items, shelf, single=single, max_params_bytes=limit, now=utc_now())


def _store(connection: Connection, new: Sequence[NewJob]) -> list[int]:
    require_room(connection, len(new))
    return jobs.submit(connection, new, now=utc_now())


def require_room(connection: Connection, wanted: int) -> None:
    """Raise QueueFullError unless so many more jobs may be queued."""
    queued, limit = jobs.counts(connection)[State.QUEUED], this_api().settings.max_queued
    if queued + wanted > limit:
        raise QueueFullError(queued, limit)


def _keep_log_small() -> None:
    # Before the write, not after it: if this fails, the answer says so, and nothing was stored.
    this_api().store.checkpoint_if_large(CHECKPOINT_BYTES_WITHOUT_DAEMON)

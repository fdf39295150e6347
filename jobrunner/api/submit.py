"""`POST /jobs`, `POST /jobs/batch`: what is answered with 202 is on disk."""

import contextlib
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from flask import Blueprint, Response
from sqlalchemy import Connection

from jobrunner.api import body, idempotency, published, query, schemas, submissions, waiting
from jobrunner.api.context import this_api
from jobrunner.api.idempotency import Claim
from jobrunner.api.pointers import Flaw, invalid_fields
from jobrunner.api.refusals import BatchTooLargeError
from jobrunner.api.replies import job_reply, json_reply
from jobrunner.clock import utc_now
from jobrunner.errors import JobNotFoundError, QueueFullError, StoreError, TooManyQueuesError
from jobrunner.lifecycle import State
from jobrunner.store import jobs, queues
from jobrunner.store.engine import CHECKPOINT_BYTES_WITHOUT_DAEMON
from jobrunner.store.jobs import NewJob

routes: Final = Blueprint("submit", __name__)
MAX_QUEUES: Final = 1000  #: a counter for each is kept, and read
_WAIT: Final = schemas.WaitQuery()
_Reply: TypeAlias = Callable[[Connection, Sequence[int]], Response]


@routes.post("/jobs")
def submit() -> Response:
    """Submit a job; with `wait`, answer when it is final."""
    wait_seconds = waiting.seconds(query.read(_WAIT)["wait"])
    asked = body.read()
    [job_id], answer = _answered([asked], idempotency.read(asked), _job_reply, single=True)
    # It is stored: what goes wrong from here on must not look as if it were not.
    with contextlib.suppress(StoreError, JobNotFoundError):
        if wait_seconds:
            waiting.until_final(job_id, wait_seconds)
            with this_api().store.read() as connection:
                answer = idempotency.as_replayed(answer, _job_reply(connection, [job_id]))
    return answer


def _job_reply(connection: Connection, ids: Sequence[int]) -> Response:
    job = jobs.get(connection, ids[0])
    reply = job_reply(connection, job, HTTPStatus.OK if job.is_final else HTTPStatus.ACCEPTED)
    reply.headers["Location"] = f"/jobs/{job.id}"
    return reply


@routes.post("/jobs/batch")
def submit_batch() -> Response:
    """Submit many jobs, all or none."""
    query.read()
    asked = body.read()
    if not isinstance(asked, list) or not asked:
        raise invalid_fields([Flaw((), "must be a list of at least one job")])
    limit = this_api().settings.max_batch
    if len(asked) > limit:
        raise BatchTooLargeError(f"the batch has {len(asked)} jobs, max_batch is {limit}")
    return _answered(asked, idempotency.read(asked), _ids_reply, single=False)[1]


def _ids_reply(_: Connection, ids: Sequence[int]) -> Response:
    return json_reply({"ids": list(ids)}, HTTPStatus.ACCEPTED)


def _answered(
    items: list[Any], claim: Claim | None, reply: _Reply, *, single: bool
) -> tuple[Sequence[int], Response]:
    """Store the jobs, unless the same request has stored them before; return their ids and the `reply`."""
    store = this_api().store
    if claim is not None:
        # Before all checks: its task may be gone by now, or the queue full.
        with store.read() as connection:
            if (known := claim.replayed(connection)) is not None:
                return known, idempotency.replayed(reply(connection, known))
    new = _checked(items, single=single)
    _keep_log_small()
    with store.write(durable=True) as connection:
        # Again, under the lock: two of the same may have come at once.
        if claim is not None and (known := claim.replayed(connection)) is not None:
            return known, idempotency.replayed(reply(connection, known))
        ids = _store(connection, new, claim)
        answer = reply(connection, ids)
    this_api().ring()
    return ids, answer


def _checked(items: list[Any], *, single: bool) -> list[NewJob]:
    with this_api().store.read() as connection:
        shelf = published.find(connection, submissions.task_names(items))
    limit = this_api().settings.max_params_bytes
    return submissions.checked(items, shelf, single=single, max_params_bytes=limit, now=utc_now())


def _store(connection: Connection, new: Sequence[NewJob], claim: Claim | None) -> Sequence[int]:
    require_room(connection, len(new))
    _require_few_queues(connection, {one.queue for one in new})
    ids = jobs.submit(connection, new, now=utc_now())
    if claim is not None:
        claim.keep(connection, ids)
    return ids


def require_room(connection: Connection, wanted: int) -> None:
    """Raise QueueFullError unless so many more jobs may be queued."""
    queued, limit = jobs.counts(connection)[State.QUEUED], this_api().settings.max_queued
    if queued + wanted > limit:
        raise QueueFullError(queued, limit)


def _require_few_queues(connection: Connection, wanted: set[str]) -> None:
    if len(wanted | queues.names(connection)) > MAX_QUEUES:
        raise TooManyQueuesError(MAX_QUEUES)


def _keep_log_small() -> None:
    # Before the write, not after it: if this fails, the answer says so, and nothing was stored.
    this_api().store.checkpoint_if_large(CHECKPOINT_BYTES_WITHOUT_DAEMON)

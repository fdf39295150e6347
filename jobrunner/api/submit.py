"""`POST /jobs`, `POST /jobs/batch`: what is answered with 202 is on disk."""

import contextlib
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response

from jobrunner.api import body, idempotency, published, query, schemas, submissions, waiting
from jobrunner.api.context import this_api
from jobrunner.api.intake import Stored
from jobrunner.api.pointers import Flaw, invalid_fields
from jobrunner.api.refusals import BatchTooLargeError
from jobrunner.api.replies import job_reply, json_reply, situation
from jobrunner.api.situation import Unseen
from jobrunner.api.submissions import Limits
from jobrunner.clock import utc_now
from jobrunner.errors import JobNotFoundError, StoreError
from jobrunner.store import jobs
from jobrunner.store.jobs import Job, NewJob

routes: Final = Blueprint("submit", __name__)
_WAIT: Final = schemas.WaitQuery()


@routes.post("/jobs")
def submit() -> Response:
    """Submit a job; with `wait`, answer when it is final."""
    wait_seconds = waiting.seconds(query.read(_WAIT)["wait"])
    stored = _stored(body.read(), single=True)
    job, around = stored.first, situation(this_api().store)
    # It is stored: what goes wrong from here on must not look as if it were not.
    with contextlib.suppress(StoreError, JobNotFoundError):
        if wait_seconds:
            waiting.until_final(job.id, wait_seconds)
            job, around = jobs.get(this_api().store, job.id), situation(this_api().store)
    try:
        reply = job_reply(job, around, _status(job))
    except StoreError:
        reply = job_reply(job, Unseen(around.now, stored.map_job), _status(job))
    reply.headers["Location"] = f"/jobs/{job.id}"
    return _marked(reply, stored)


def _status(job: Job) -> HTTPStatus:
    return HTTPStatus.OK if job.is_final else HTTPStatus.ACCEPTED


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
    stored = _stored(asked, single=False)
    return _marked(json_reply({"ids": list(stored.ids)}, HTTPStatus.ACCEPTED), stored)


def _marked(answer: Response, stored: Stored) -> Response:
    return idempotency.replayed(answer) if stored.is_replayed else answer


def _stored(asked: Any, *, single: bool) -> Stored:
    """Store the jobs, unless the same request has stored them before."""
    api, claim = this_api(), idempotency.read(asked)
    # Before all checks: its task may be gone by now, or the queue full.
    if claim is not None and (known := claim.replayed(api.store)) is not None:
        with contextlib.suppress(JobNotFoundError):  # it is being removed, and its key with it
            return Stored.of(api.store, known, is_replayed=True)
    return api.intake.store(_checked([asked] if single else asked, single=single), claim)


def _checked(items: list[Any], *, single: bool) -> list[NewJob]:
    api = this_api()
    shelf = published.find(api.store, submissions.task_names(items))
    limits = Limits(api.settings.max_params_bytes, api.settings.max_items)
    return submissions.checked(items, shelf, single=single, limits=limits, now=utc_now())

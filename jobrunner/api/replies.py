"""Answers: JSON, entity tags, and when to ask again."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

import msgspec
from flask import Response, request

from jobrunner.api.context import this_api
from jobrunner.api.shapes import job_shape
from jobrunner.api.situation import Situation, Unseen
from jobrunner.clock import utc_now
from jobrunner.lifecycle import FINAL
from jobrunner.store import jobs
from jobrunner.store.jobs import Job
from jobrunner.store.quick import Source

NDJSON: Final = "application/x-ndjson"  #: a JSON value on each line
_LONGEST_SECONDS: Final = 60  # between two looks at a job that is scheduled for later


def json_reply(
    value: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """Return `value` as JSON; a `msgspec.Raw` inside is taken as the JSON that it is."""
    return Response(one_line(value), status, headers, mimetype="application/json")


def one_line(value: Any) -> bytes:
    """Return `value` as JSON that ends with a line break, for those who read it in a terminal."""
    return msgspec.json.encode(value) + b"\n"


def wants_lines() -> bool:
    """Whether the client would rather have NDJSON than JSON."""
    return request.accept_mimetypes.best_match(["application/json", NDJSON]) == NDJSON


def job_reply(job: Job, around: Situation | Unseen, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return the job as it stands, and when to ask again."""
    return with_retry_after(job, json_reply(job_shape(job, around, around.map_job(job)), status))


def situation(source: Source) -> Situation:
    """Return what surrounds the jobs of the answer at hand."""
    return Situation(source, now=utc_now(), lease_seconds=this_api().settings.lease_seconds)


def unchanged(source: Source, job_id: int) -> Response | None:
    """Return 304 to a client that knows the job as it stands, without reading the job; else None."""
    known = request.if_none_match
    if not known:
        return None
    version, state = jobs.version(source, job_id)
    if not known.contains_weak(str(version)):
        return None
    answer = tagged(version, Response(status=HTTPStatus.NOT_MODIFIED))
    if state not in FINAL:
        answer.headers["Retry-After"] = "1"
    return answer


def tagged(version: int, response: Response) -> Response:
    """Return `response` with the job's version as its entity tag."""
    response.set_etag(str(version))
    return response


def with_retry_after(job: Job, response: Response) -> Response:
    """Return `response` with `Retry-After` if the job may still change."""
    if not job.is_final:
        response.headers["Retry-After"] = str(seconds_until_news(job, utc_now()))
    return response


def seconds_until_news(job: Job, now: datetime) -> int:
    """Return after how many whole seconds it is worth to ask about the job again."""
    wait = timedelta() if job.due_at is None else job.due_at - now
    return min(max(1, math.ceil(wait.total_seconds())), _LONGEST_SECONDS)

"""Answers: JSON, entity tags, and when to ask again."""

import math
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

import msgspec
from flask import Response, request

from jobrunner.clock import utc_now
from jobrunner.store.jobs import Job

_LONGEST_SECONDS: Final = 60  # between two looks at a job that is scheduled for later


def json_reply(
    value: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """Return `value` as JSON; a `msgspec.Raw` inside is taken as the JSON that it is."""
    return Response(msgspec.json.encode(value), status, headers, mimetype="application/json")


def text_reply(text: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return plain text."""
    return Response(text, status, mimetype="text/plain")


def client_has(version: int) -> bool:
    """Whether the client says that it knows this version of the job."""
    return request.if_none_match.contains_weak(str(version))


def not_modified(version: int) -> Response:
    """Return the answer to a client that knows this version."""
    return tagged(Response(status=HTTPStatus.NOT_MODIFIED), version)


def tagged(response: Response, version: int) -> Response:
    """Return `response` with the job's version as its entity tag."""
    response.set_etag(str(version))
    return response


def about(job: Job, response: Response) -> Response:
    """Return `response` with `Retry-After` if the job may still change."""
    if not job.is_final:
        response.headers["Retry-After"] = str(seconds_until_news(job))
    return response


def seconds_until_news(job: Job) -> int:
    """Return after how many whole seconds it is worth to ask about the job again."""
    wait = timedelta() if job.due_at is None else job.due_at - utc_now()
    return min(max(1, math.ceil(wait.total_seconds())), _LONGEST_SECONDS)

"""`/jobs/{id}/events`: a job's history as server-sent events, with exact resume."""

import itertools
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import msgspec
from flask import Blueprint, Response, request

from jobrunner.api import query, schemas
from jobrunner.api.context import this_api
from jobrunner.api.following import News, follow, pieces
from jobrunner.api.refusals import InvalidQueryError
from jobrunner.api.replies import one_line
from jobrunner.reports import EventKind
from jobrunner.store import jobs
from jobrunner.store.events import Event

routes: Final = Blueprint("events", __name__)
_EVENTS: Final = schemas.EventsQuery()
_RECONNECT: Final = b"retry: 2000\n\n"  # milliseconds
_SIGN_OF_LIFE: Final = b":\n\n"


@routes.get("/jobs/<job_id:job_id>/events")
def stream_events(job_id: int) -> Response:
    """Stream all that happens to a job, from the event after `Last-Event-ID` on."""
    after = _seen(query.read(_EVENTS)["after"])
    with this_api().store.read() as connection:
        job = jobs.get(connection, job_id)
    if job.is_final and after >= job.version:
        return Response(status=HTTPStatus.NO_CONTENT)  # tells a browser not to connect again
    answer = Response(_stream(job_id, follow(job_id, after)), mimetype="text/event-stream")
    answer.headers["X-Accel-Buffering"] = "no"  # a proxy must not keep events to itself
    return answer


def _seen(asked: int) -> int:
    """Return the last event that the client has seen: its header wins, for a browser sends it by itself."""
    last = request.headers.get("Last-Event-ID", "")
    if not last:
        return asked
    if not (last.isascii() and last.isdecimal() and len(last) <= schemas.SEQ_DIGITS):
        raise InvalidQueryError([{"parameter": "Last-Event-ID", "detail": "must be the id of an event"}])
    return int(last)


def _stream(job_id: int, news: Iterator[News]) -> Iterator[bytes]:
    # Not a loop of its own, which would keep what it told last while nothing comes.
    return itertools.chain([_RECONNECT], itertools.chain.from_iterable(map(partial(_frames, job_id), news)))


def _frames(job_id: int, news: News) -> Iterator[bytes]:
    yield from pieces(map(_event, news.events)) if news.events else (_SIGN_OF_LIFE,)
    if news.is_last:
        told = {"id": job_id, "state": news.state, "version": news.version}
        yield _frame(news.version, "end", told)


def _event(event: Event) -> bytes:
    told: dict[str, Any] = {"seq": event.seq, "attempt": event.attempt, "at": event.at}
    match event.kind:
        case EventKind.STATE:
            told |= msgspec.json.decode(event.data)
        case EventKind.LOG:
            told["text"] = event.data
        case EventKind.PROGRESS:
            told["progress"] = msgspec.Raw(event.data)
        case EventKind.PARTIAL:
            told["value"] = msgspec.Raw(event.data)
            told |= {} if event.item is None else {"index": event.item}
    return _frame(event.seq, event.kind, told)


def _frame(seq: int, name: str, told: dict[str, Any]) -> bytes:
    return f"id: {seq}\nevent: {name}\ndata: ".encode() + one_line(told) + b"\n"

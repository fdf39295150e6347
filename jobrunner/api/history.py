"""What a job has left so far: its result, its partial results, its log, its attempts."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Final

from flask import Blueprint, Response
from msgspec import Raw
from sqlalchemy import Connection

from jobrunner.api import piecemeal, query, schemas, waiting
from jobrunner.api.context import this_api
from jobrunner.api.following import News, follow, is_over, pieces
from jobrunner.api.refusals import AttemptNotFoundError, JobFailedError, NotFinishedError
from jobrunner.api.replies import (
    NDJSON,
    json_reply,
    one_line,
    tagged,
    unchanged,
    wants_lines,
    with_retry_after,
)
from jobrunner.api.shapes import attempt_shape
from jobrunner.lifecycle import FINAL
from jobrunner.reports import EventKind
from jobrunner.store import attempts, events, items, jobs
from jobrunner.store.events import Event
from jobrunner.store.jobs import Job
from jobrunner.store.lookout import Standing

routes: Final = Blueprint("history", __name__)
_WAIT: Final = schemas.WaitQuery()
_PARTIALS: Final = schemas.PartialsQuery()
_LOG: Final = schemas.LogQuery()
_SIGN_OF_LIFE: Final = b"\n"
_CHUNK: Final = 64  # events read at a time, for one may be a megabyte
_PAGE_CHARACTERS: Final = 16 << 20  # of partial results in one answer, beside its last one


@routes.get("/jobs/<job_id:job_id>/result")
def show_result(job_id: int) -> Response:
    """Show what the task returned, bare; with `wait`, as soon as it has.  Of a map job, the values of all items."""
    waiting.until_final(job_id, waiting.seconds(query.read(_WAIT)["wait"]))
    with this_api().store.read() as connection:
        if (answer := unchanged(connection, job_id)) is not None:
            return answer
        job = jobs.get(connection, job_id)
        is_map = job.item_count is not None and items.get(connection, job_id).reduce_task is None
    if not job.is_final:
        raise NotFinishedError(job)
    if job.result is None:
        raise JobFailedError(job)
    return tagged(job.version, piecemeal.values_of(job) if is_map else json_reply(Raw(job.result)))


@routes.get("/jobs/<job_id:job_id>/partials")
def list_partials(job_id: int) -> Response:
    """List the values that the task, or one attempt, has yielded; as NDJSON, also those that it will yield."""
    asked = query.read(_PARTIALS)
    after, attempt = asked["after"], asked["attempt"]
    if attempt is not None:
        with this_api().store.read() as connection:
            _require_attempt(jobs.get(connection, job_id), attempt)
    if wants_lines():
        news = follow(job_id, after, (EventKind.PARTIAL,), attempt)
        return Response(itertools.chain.from_iterable(map(_lines, news)), mimetype=NDJSON)
    _await_partial(job_id, after, attempt, waiting.seconds(asked["wait"]))
    with this_api().store.read() as connection:
        job = jobs.get(connection, job_id)
        found, rest = _partials(connection, job_id, after, attempt, asked["limit"])
    page = {
        "items": [_shape(one) for one in found],
        "next_after": found[-1].seq if found else after,
        "complete": is_over(job, attempt) and not rest,
    }
    return with_retry_after(job, json_reply(page))


def _lines(news: News) -> Iterable[bytes]:
    return pieces(one_line(_shape(one)) for one in news.events) if news.events else (_SIGN_OF_LIFE,)


def _shape(one: Event) -> dict[str, Any]:
    index = {} if one.item is None else {"index": one.item}
    return {"seq": one.seq, "attempt": one.attempt, "at": one.at, "value": Raw(one.data), **index}


def _require_attempt(job: Job, number: int) -> None:
    if number > job.attempt:
        raise AttemptNotFoundError(job.id, number, job.attempt)


def _await_partial(job_id: int, after: int, attempt: int | None, wait_seconds: float) -> None:
    seen = after  # the version up to which there is nothing for him

    def is_news(standing: Standing) -> bool:
        return standing.state in FINAL or standing.version > seen

    def is_enough(standing: Standing) -> bool:
        nonlocal seen
        if standing.state in FINAL or standing.version <= after:
            return standing.state in FINAL
        seen = standing.version
        with this_api().store.read() as connection:
            found, _ = _partials(connection, job_id, after, attempt, limit=1)
            return bool(found) or is_over(jobs.get(connection, job_id), attempt)

    waiting.until(job_id, is_enough, wait_seconds, is_news)


def _partials(
    connection: Connection, job_id: int, after: int, attempt: int | None, limit: int
) -> tuple[list[Event], bool]:
    """Return a page of partial results, fewer than `limit` if they are large, and whether more may be there."""
    found = events.after(
        connection,
        job_id,
        seq=after,
        kinds=(EventKind.PARTIAL,),
        attempt=attempt,
        limit=limit + 1,
        most_characters=_PAGE_CHARACTERS,
    )
    return found[:limit], events.fills(found, limit + 1, _PAGE_CHARACTERS)


@routes.get("/jobs/<job_id:job_id>/log")
def show_log(job_id: int) -> Response:
    """Show what the job's last attempt, or another one, has printed; with `follow`, also what it will print."""
    asked = query.read(_LOG)
    with this_api().store.read() as connection:
        job = jobs.get(connection, job_id)
        number = asked["attempt"] or job.attempt
        _require_attempt(job, number)
        text = "".join(_log(connection, job_id, number))
    if asked["tail"] is not None:
        text = last_lines(text, asked["tail"])
    if asked["follow"]:
        news = follow(job_id, job.version, (EventKind.LOG,), asked["attempt"])
        told = itertools.chain.from_iterable(map(_text, news))
        return Response(itertools.chain([text.encode()], told), mimetype="text/plain")
    return with_retry_after(job, Response(text, mimetype="text/plain"))


def _text(news: News) -> Iterator[bytes]:
    return pieces(one.data.encode() for one in news.events)


def _log(connection: Connection, job_id: int, attempt: int) -> Iterator[str]:
    seq = 0
    kinds = (EventKind.LOG,)
    while chunk := events.after(connection, job_id, seq=seq, kinds=kinds, attempt=attempt, limit=_CHUNK):
        yield from (one.data for one in chunk)
        seq = chunk[-1].seq


def last_lines(text: str, count: int) -> str:
    """Return the last `count` lines; what follows the last line break is a line too."""
    end = len(text) - text.endswith("\n")
    for _ in range(count):
        end = text.rfind("\n", 0, max(0, end))
        if end < 0:
            return text
    return text[end + 1 :] if count else ""


@routes.get("/jobs/<job_id:job_id>/attempts")
def list_attempts(job_id: int) -> Response:
    """List every run of a job, and how it ended."""
    query.read()
    with this_api().store.read() as connection:
        job = jobs.get(connection, job_id)
        items: list[dict[str, Any]] = [attempt_shape(one) for one in attempts.of_job(connection, job_id)]
    return with_retry_after(job, json_reply({"items": items}))

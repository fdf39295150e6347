"""Following a job's history: what is there, then what comes, until the job is final and all of it was told."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from flask import request

from jobrunner.api.context import Api, this_api
from jobrunner.api.refusals import TooManyWaitingError
from jobrunner.api.waiting import client
from jobrunner.errors import JobNotFoundError, StoreError
from jobrunner.lifecycle import FINAL, State
from jobrunner.reports import EventKind
from jobrunner.store import events, jobs
from jobrunner.store.engine import Store
from jobrunner.store.events import Event
from jobrunner.store.jobs import Job

BEAT_SECONDS: Final = 10.0  #: between two signs of life, which are the way to notice that a client is gone
_CHUNK: Final = 4096  # events read at a time, ...
_CHUNK_CHARACTERS: Final = 1 << 20  # ... or so much of them and the last one: a slow client may keep it long
_PIECE_BYTES: Final = 64 << 10  # that are sent at once
_log = logging.getLogger(__name__)


class News(NamedTuple):
    """What a look found: events in order, none if nothing is new, and how the job stood.

    Attributes:
        is_full: more may be there already.
        is_last: no more will come, and all of it was told.
    """

    events: list[Event]
    version: int
    state: State
    is_full: bool
    is_last: bool


class _Wanted(NamedTuple):
    """What is followed: all of a job's history, or some of it."""

    job_id: int
    kinds: Sequence[EventKind]
    attempt: int | None


def follow(
    job_id: int, after: int, kinds: Sequence[EventKind] = tuple(EventKind), attempt: int | None = None
) -> Iterator[News]:
    """Yield what is new after the event `after`, and an empty one every BEAT_SECONDS while nothing is.

    It ends after the last; when the client is gone; when this process is about to end; and, once it has begun, when
    the job is gone or the store cannot be read, for then there is no other way to say so.  For a HEAD it is empty.

    Raises:
        JobNotFoundError: there is no such job.
        StoreError: the store cannot be read.
        TooManyWaitingError: so many wait already that nobody else may.
    """
    if request.method == "HEAD":  # which takes nobody's place
        with this_api().store.read() as connection:
            jobs.version(connection, job_id)
        return iter(())
    news = _news(this_api(), _Wanted(job_id, kinds, attempt), after, client_is_gone=client())
    first = next(news)  # while a refusal can still be answered
    return itertools.chain([first], _as_long_as_it_goes(news, job_id))


def is_over(job: Job, attempt: int | None = None) -> bool:
    """Whether the job, or this attempt of it, has nothing more to say, unless somebody asks for a retry."""
    if attempt is None or job.is_final:
        return job.is_final
    return attempt < job.attempt or (attempt == job.attempt and job.state is State.QUEUED)


def pieces(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes with small frames put together, and large ones alone: what is sent is kept until it is."""
    gathered: list[bytes] = []
    size = 0
    for frame in frames:
        gathered.append(frame)
        size += len(frame)
        if size >= _PIECE_BYTES:
            piece, gathered, size = b"".join(gathered), [], 0
            yield piece
    if gathered:
        yield b"".join(gathered)


def _news(api: Api, wanted: _Wanted, after: int, *, client_is_gone: Callable[[], bool]) -> Iterator[News]:
    told = 0  # the version up to which all was told
    with (
        api.watcher.place() as is_free,
        api.watcher.waiter(wanted.job_id, lambda standing: standing.version != told) as waiter,
    ):
        if not is_free:
            raise TooManyWaitingError(api.settings.max_waiting)
        while True:
            news = _look(api.store, wanted, after)
            told = news.version
            after = news.events[-1].seq if news.events else after
            yield news
            if news.is_last or api.watcher.is_closed or client_is_gone():
                return
            news = news._replace(events=[])  # not kept while nothing comes
            if not news.is_full:
                waiter.wait(BEAT_SECONDS)


def _look(store: Store, wanted: _Wanted, after: int) -> News:
    job_id, kinds, attempt = wanted
    bounds = {"limit": _CHUNK, "most_characters": _CHUNK_CHARACTERS}
    with store.read() as connection:
        version, state = jobs.version(connection, job_id)
        # The whole job, with its result, only for those who ask for one attempt.
        has_ended = state in FINAL if attempt is None else is_over(jobs.get(connection, job_id), attempt)
        found = events.after(connection, job_id, seq=after, kinds=kinds, attempt=attempt, **bounds)
    is_full = events.fills(found, **bounds)
    return News(found, version, state, is_full, is_last=has_ended and not is_full)


def _as_long_as_it_goes(news: Iterator[News], job_id: int) -> Iterator[News]:
    try:
        yield from news
    except (JobNotFoundError, StoreError) as error:
        _log.info("what is told of job %d breaks off: %s", job_id, error)

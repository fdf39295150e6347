"""Following a job's history: what is there, then what comes, until the job is final and all of it was told."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from flask import request

from jobrunner.api.context import Api, this_api
from jobrunner.api.refusals import TooManyWaitingError
from jobrunner.api.waiting import client
from jobrunner.lifecycle import State
from jobrunner.reports import EventKind
from jobrunner.store import events, jobs
from jobrunner.store.events import Event
from jobrunner.store.jobs import Job

BEAT_SECONDS: Final = 10.0  #: between two signs of life, which are the way to notice that a client is gone
_CHUNK: Final = 64  # events read at a time, for one may be a megabyte


class News(NamedTuple):
    """What a look found: the job as it stood, and events in order; nothing new if there are none.

    Attributes:
        is_last: no more will come, and all of it was told.
    """

    job: Job
    events: list[Event]
    is_last: bool


def follow(
    job_id: int, after: int, kinds: Sequence[EventKind] = tuple(EventKind), attempt: int | None = None
) -> Iterator[News]:
    """Yield what is new after the event `after`, and an empty one every BEAT_SECONDS while nothing is.

    It ends after the last; when the client is gone; or when this process is about to end.  For a HEAD it is empty.

    Raises:
        JobNotFoundError: there is no such job.
        TooManyWaitingError: so many wait already that nobody else may.
    """
    if request.method == "HEAD":  # which takes nobody's place
        with this_api().store.read() as connection:
            jobs.version(connection, job_id)
        return iter(())
    wanted = {"kinds": kinds, "attempt": attempt, "limit": _CHUNK}
    news = _news(this_api(), job_id, after, wanted, client_is_gone=client())
    first = next(news)  # while a refusal can still be answered
    return itertools.chain([first], news)


def is_over(job: Job, attempt: int | None = None) -> bool:
    """Whether the job, or this attempt of it, has nothing more to say, unless somebody asks for a retry."""
    if attempt is None or job.is_final:
        return job.is_final
    return attempt < job.attempt or (attempt == job.attempt and job.state is State.QUEUED)


def _news(
    api: Api, job_id: int, after: int, wanted: dict[str, Any], *, client_is_gone: Callable[[], bool]
) -> Iterator[News]:
    with api.watcher.place() as is_free:
        if not is_free:
            raise TooManyWaitingError(api.settings.max_waiting)
        while True:
            with api.store.read() as connection:
                job = jobs.get(connection, job_id)
                found = events.after(connection, job_id, seq=after, **wanted)
            is_last = is_over(job, wanted["attempt"]) and len(found) < _CHUNK
            yield News(job, found, is_last)
            if is_last or api.watcher.is_closed or client_is_gone():
                return
            after = found[-1].seq if found else after
            if len(found) < _CHUNK:
                api.watcher.wait(job_id, job.version, BEAT_SECONDS)

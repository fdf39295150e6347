"""Queues: which there are, how many jobs each holds, and which are paused."""

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from jobrunner.errors import QueueNotFoundError
from jobrunner.lifecycle import State
from jobrunner.store.quick import Quick, Source
from jobrunner.store.tables import paused_queue, tally

DEFAULT: Final = "default"


class Queue(NamedTuple):
    """A queue; `paused_since` is None while its jobs are started."""

    name: str
    jobs: dict[State, int]
    paused_since: datetime | None


def all_queues(connection: Connection) -> list[Queue]:
    """Return, by name, every queue that holds jobs or is paused, and the one that a task's jobs go to by default."""
    since = {row.name: row.since for row in connection.execute(select(paused_queue))}
    jobs = {name: dict.fromkeys(State, 0) for name in (DEFAULT, *since)}
    for row in connection.execute(select(tally).where(_HOLDS_JOBS)):
        jobs.setdefault(row.queue, dict.fromkeys(State, 0))[State(row.state)] = row.jobs
    return [Queue(name, jobs[name], since.get(name)) for name in sorted(jobs)]


def get(connection: Connection, name: str) -> Queue:
    """Return the queue.

    Raises:
        QueueNotFoundError: it is not there, as `all_queues` says.
    """
    known = all_queues(connection)
    found = next((one for one in known if one.name == name), None)
    if found is None:
        raise QueueNotFoundError(name, [one.name for one in known])
    return found


def names(source: Source) -> set[str]:
    """Return the names of the queues that hold jobs or are paused."""
    return {name for (name,) in _NAMES.rows(source)} | paused(source)


_HOLDS_JOBS: Final = tally.c.jobs > 0
_NAMES: Final = Quick(select(tally.c.queue).where(_HOLDS_JOBS).distinct())


def paused(source: Source) -> frozenset[str]:
    """Return the names of the queues that are paused."""
    return frozenset(name for (name,) in _PAUSED.rows(source))


_PAUSED: Final = Quick(select(paused_queue.c.name))


def pause(connection: Connection, name: str, *, now: datetime) -> None:
    """Have no job of this queue started until it is resumed; what runs goes on."""
    row = insert(paused_queue).values(name=name, since=now)
    connection.execute(row.on_conflict_do_nothing())


def resume(connection: Connection, name: str) -> None:
    """Have the jobs of this queue started again."""
    connection.execute(delete(paused_queue).where(paused_queue.c.name == name))


def forget_empty(connection: Connection) -> None:
    """Delete the counters that have come down to nothing: names that were used once must not pile up for ever."""
    connection.execute(_FORGET)


_FORGET: Final = delete(tally).where(tally.c.jobs == 0)

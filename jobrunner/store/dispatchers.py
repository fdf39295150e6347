"""Dispatchers: who lives, who holds a lease, whose jobs are lost."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from jobrunner.errors import LeaseLostError
from jobrunner.store.quick import Quick, Source
from jobrunner.store.tables import dispatcher


@dataclass(frozen=True, slots=True)
class Process:
    """Which process a dispatcher is: a pid means something only in its place (see `kernel.place`)."""

    host: str
    place: str
    pid: int
    started_ticks: int


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """A dispatcher that has not ended, as its last heartbeat left it; `slots`, `module_errors` are JSON."""

    id: int
    host: str
    place: str
    pid: int
    started_ticks: int
    started_at: datetime
    heartbeat_at: datetime
    workers: int
    slots: str
    module_errors: str


def register(connection: Connection, process: Process, *, workers: int, now: datetime) -> int:
    """Enter a new dispatcher; return its id."""
    row = {
        "host": process.host,
        "place": process.place,
        "pid": process.pid,
        "started_ticks": process.started_ticks,
        "started_at": now,
        "heartbeat_at": now,
        "workers": workers,
        "slots": "[]",
        "module_errors": "{}",
    }
    return int(connection.execute(insert(dispatcher).values(row).returning(dispatcher.c.id)).scalar_one())


def heartbeat(
    connection: Connection, dispatcher_id: int, *, slots: list[dict[str, Any]], now: datetime
) -> None:
    """Say that the dispatcher lives, and what its workers do.

    Raises:
        LeaseLostError: it was given up for dead.
    """
    alive = (dispatcher.c.id == dispatcher_id) & dispatcher.c.ended_at.is_(None)
    beat = update(dispatcher).where(alive).values(heartbeat_at=now, slots=json.dumps(slots))
    if connection.execute(beat).rowcount != 1:
        raise LeaseLostError(dispatcher_id)


def set_module_errors(connection: Connection, dispatcher_id: int, errors: Mapping[str, str]) -> None:
    """Keep, by module, why it cannot be imported."""
    row = dispatcher.c.id == dispatcher_id
    connection.execute(update(dispatcher).where(row).values(module_errors=json.dumps(dict(errors))))


def end(connection: Connection, dispatcher_id: int, *, now: datetime) -> bool:
    """Close the dispatcher's entry: it stopped, or is given up for dead; return whether it was open."""
    alive = (dispatcher.c.id == dispatcher_id) & dispatcher.c.ended_at.is_(None)
    return connection.execute(update(dispatcher).where(alive).values(ended_at=now)).rowcount == 1


def alive(source: Source) -> list[Dispatcher]:
    """Return every dispatcher that has not ended; one of them may be dead and not yet found."""
    return [Dispatcher(*row) for row in _ALIVE.rows(source)]


_ALIVE: Final = Quick(
    select(*(dispatcher.c[name] for name in Dispatcher.__slots__))
    .where(dispatcher.c.ended_at.is_(None))
    .order_by(dispatcher.c.id)
)


def gone(connection: Connection, here: Process, started_ticks: Callable[[int], int | None]) -> list[int]:
    """Return the ids of dispatchers that have not ended, but whose process certainly has.

    That can be known of the caller's own place, where a pid tells, and of its own host before it was booted
    again.  Anywhere else only the heartbeat tells.

    Args:
        connection: to read with.
        here: the process that asks.
        started_ticks: when a pid was started; None if there is no such process.
    """

    def is_gone(one: Dispatcher) -> bool:
        if one.place == here.place:
            return started_ticks(one.pid) != one.started_ticks
        if one.host != here.host or _boot(one.place) == _boot(here.place):
            return False
        # The systemd of a container shows a boot id of its own to some processes and not to others.
        return started_ticks(one.pid) != one.started_ticks

    return [one.id for one in alive(connection) if is_gone(one)]


def _boot(place: str) -> str:
    return place.partition("/")[0]

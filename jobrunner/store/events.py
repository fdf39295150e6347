"""A job's history: reading its events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from jobrunner.reports import EventKind
from jobrunner.store.tables import event


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a job's history; `data` is JSON, but plain text for a log."""

    seq: int
    kind: EventKind
    attempt: int
    at: datetime
    data: str


def after(
    connection: Connection,
    job_id: int,
    *,
    seq: int = 0,
    kinds: Sequence[EventKind] = tuple(EventKind),
    attempt: int | None = None,
    limit: int = 1000,
) -> list[Event]:
    """Return at most `limit` events of the job after `seq`, in order."""
    query = select(event.c.seq, event.c.kind, event.c.attempt, event.c.at, event.c.data)
    query = query.where(event.c.job_id == job_id, event.c.seq > seq).order_by(event.c.seq).limit(limit)
    if len(kinds) < len(EventKind):
        query = query.where(event.c.kind.in_(kinds))
    if attempt is not None:
        query = query.where(event.c.attempt == attempt)
    return [
        Event(row.seq, EventKind(row.kind), row.attempt, row.at, row.data)
        for row in connection.execute(query)
    ]

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
    most_characters: int | None = None,
) -> list[Event]:
    """Return at most `limit` events of the job after `seq`, in order.

    Args:
        connection: one to read with.
        job_id: of a job, which may not be there.
        seq: of the last event that is not wanted.
        kinds: of the events that are wanted.
        attempt: whose events are wanted; None: everyone's.
        limit: of events.
        most_characters: of data, beside the last event: once there are so many, no more is read.
    """
    query = select(event.c.seq, event.c.kind, event.c.attempt, event.c.at, event.c.data)
    query = query.where(event.c.job_id == job_id, event.c.seq > seq).order_by(event.c.seq).limit(limit)
    if len(kinds) < len(EventKind):
        query = query.where(event.c.kind.in_(kinds))
    if attempt is not None:
        query = query.where(event.c.attempt == attempt)
    found: list[Event] = []
    characters = 0
    with connection.execute(query) as rows:
        for row in rows:
            found.append(Event(row.seq, EventKind(row.kind), row.attempt, row.at, row.data))
            characters += len(row.data)
            if most_characters is not None and characters >= most_characters:
                break
    return found

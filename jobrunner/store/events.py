"""A job's history: reading its events."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
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
    item: int | None = None  #: the index of the item whose value this is


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
    query = select(*_COLUMNS).where(event.c.job_id == job_id, event.c.seq > seq)
    query = query.order_by(event.c.seq).limit(limit)
    if len(kinds) < len(EventKind):
        query = query.where(event.c.kind.in_(kinds))
    if attempt is not None:
        query = query.where(event.c.attempt == attempt)
    found: list[Event] = []
    characters = 0
    with connection.execute(query) as rows:
        for row in rows:
            for one in _told_by(row, seq):
                found.append(one)
                characters += len(one.data)
                if len(found) == limit or (most_characters is not None and characters >= most_characters):
                    return found
    return found


def fills(found: Sequence[Event], limit: int, most_characters: int) -> bool:
    """Whether these are as many as were asked for, so that more may be there."""
    return len(found) >= limit or sum(len(one.data) for one in found) >= most_characters


def _told_by(row: Any, seq: int) -> Iterator[Event]:
    """Yield the events after `seq` that a row stands for."""
    kind = EventKind(row.kind)
    if row.item_count is None:
        yield Event(row.seq, kind, row.attempt, row.at, row.data)
        return
    values = _VALUES.decode(row.data)
    before = row.seq - row.item_count  # the seq of the event before the row's first
    for place in range(max(0, seq - before), row.item_count):
        value = bytes(values[place]).decode()
        yield Event(before + 1 + place, kind, row.attempt, row.at, value, row.item + place)


_COLUMNS: Final = (
    event.c.seq,
    event.c.kind,
    event.c.attempt,
    event.c.at,
    event.c.data,
    event.c.item,
    event.c.item_count,
)
_VALUES: Final = msgspec.json.Decoder(list[msgspec.Raw])

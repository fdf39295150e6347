"""Throughput: what the slots counted, sampled by each dispatcher while something happens.

Samples are added each second, and thinned as they grow old: what they count is kept, when exactly it was is not.
`series` reads them.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import BigInteger, Connection, delete, func, insert, select, type_coerce

from jobrunner.store.tables import throughput

#: By age: how long a time one sample stands for.  A quarter of an hour is the longest that rates look back at.
STEPS: Final = (
    (timedelta(days=1), timedelta(minutes=1)),
    (timedelta(hours=1), timedelta(seconds=10)),
)
KEPT: Final = timedelta(days=90)  #: 130,000 samples of a minute by then, some 9 MB for each dispatcher
SPAN: Final = timedelta(minutes=2)  #: thinned in one transaction: 120 samples of each dispatcher
DROPPED: Final = 500  #: moments whose samples are dropped in one transaction

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Sample:
    """What happened in the `seconds` before `at`, summed over the workers of one dispatcher.

    `queued` is how many jobs were queued at `at`, for whichever dispatcher; None: not known.
    """

    at: datetime
    seconds: float
    done: int
    failed: int
    partials: int
    busy_seconds: float
    queued: int | None = None


_COUNTED: Final = tuple(
    throughput.c[name] for name in ("seconds", "done", "failed", "partials", "busy_seconds")
)


def add(connection: Connection, dispatcher_id: int, sample: Sample) -> None:
    """Keep a sample."""
    row = {name: getattr(sample, name) for name in Sample.__slots__}
    connection.execute(insert(throughput), [{"dispatcher_id": dispatcher_id, **row}])


def since(connection: Connection, moment: datetime) -> Sample:
    """Return the sum of all samples after `moment`, over all dispatchers."""
    sums = (func.coalesce(func.sum(column), 0) for column in _COUNTED)
    row = connection.execute(select(*sums).where(throughput.c.at > moment)).one()
    return Sample(moment, *row)


# -- what is old ---------------------------------------------------------------------------------


def first_unthinned(
    connection: Connection, step: timedelta, *, after: datetime, before: datetime
) -> datetime | None:
    """Return when the first sample was taken that does not stand for a whole `step`; None if there is none.

    Args:
        connection: to read with.
        step: from one sample to the next, once they are thinned.
        after: where to begin.
        before: where to end.  The step that this moment lies in is left alone.
    """
    within_step = type_coerce(throughput.c.at, BigInteger) % (step // _MICROSECOND)
    query = select(throughput.c.at).where(
        throughput.c.at > after, throughput.c.at <= _begin(before, step), within_step != 0
    )
    return connection.execute(query.order_by(throughput.c.at).limit(1)).scalar()


def thin(connection: Connection, step: timedelta, *, first: datetime, before: datetime) -> None:
    """Put one sample in the place of all that a dispatcher took in each `step`, for `SPAN` from `first` on.

    Args:
        connection: a write transaction.
        step: as in `first_unthinned`, which says `first`.
        first: a moment in the first step.
        before: as in `first_unthinned`.
    """
    begin = _begin(first, step)
    end = min(begin + SPAN, _begin(before, step))
    old = delete(throughput).where(throughput.c.at > begin, throughput.c.at <= end)
    columns = throughput.c.at, throughput.c.dispatcher_id, throughput.c.queued, *_COUNTED
    taken = sorted(connection.execute(old.returning(*columns)).all(), key=lambda row: row.at)
    sums: dict[tuple[datetime, int], list[float]] = defaultdict(lambda: [0] * len(_COUNTED))
    last: dict[tuple[datetime, int], int | None] = {}
    for at, dispatcher_id, queued, *counted in taken:
        key = _end(at, step), dispatcher_id
        sums[key] = [a + b for a, b in zip(sums[key], counted, strict=True)]
        last[key] = queued
    names = [column.name for column in _COUNTED]
    rows = [
        {"at": key[0], "dispatcher_id": key[1], "queued": last[key], **dict(zip(names, counted, strict=True))}
        for key, counted in sums.items()
    ]
    if rows:
        connection.execute(insert(throughput), rows)


def oldest_at(connection: Connection) -> datetime | None:
    """Return when the oldest sample was taken; None if there is none."""
    return connection.execute(select(func.min(throughput.c.at))).scalar()


def drop(connection: Connection, *, before: datetime) -> None:
    """Delete the oldest of the samples that were taken up to `before`."""
    oldest = select(throughput.c.at).where(throughput.c.at <= before).order_by(throughput.c.at).limit(DROPPED)
    connection.execute(delete(throughput).where(throughput.c.at.in_(oldest)))


def _begin(moment: datetime, step: timedelta) -> datetime:
    """Return the end of the last step that is over at `moment`."""
    return moment - (moment - _EPOCH) % step


def _end(moment: datetime, step: timedelta) -> datetime:
    """Return the end of the step that `moment` lies in; a step's end belongs to it, as a sample's `at` does."""
    return moment + (_EPOCH - moment) % step

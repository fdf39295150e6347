"""Throughput over time, in steps of one length, from the samples of all dispatchers."""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Connection, Row, func, select, type_coerce

from jobrunner.store import throughput
from jobrunner.store.tables import throughput as samples

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Step(NamedTuple):
    """One step.

    Attributes:
        at: its end.
        done: attempts that succeeded in it.
        failed: attempts that ended otherwise.
        busy: how many workers were busy at a time, in the mean.
        queued: jobs that were queued at its end; None: nobody looked so early.
    """

    at: datetime
    done: int
    failed: int
    busy: float
    queued: int | None


def finest(window: timedelta) -> timedelta:
    """Return the shortest step for which all samples of the last `window` are fine enough."""
    return next((step for age, step in throughput.STEPS if window > age), timedelta(seconds=1))


def series(connection: Connection, *, until: datetime, step_seconds: int, steps: int) -> list[Step]:
    """Return what happened in the last `steps` whole steps up to `until`, oldest first.

    Steps are counted from 1970 on, so that two looks at the same time agree.  Where nothing was sampled, nothing
    happened, and as many jobs are queued as before.
    """
    step = timedelta(seconds=step_seconds)
    last = (until - _EPOCH) // step
    begin = _EPOCH + (last - steps) * step
    by_number = {row.number: row for row in _sums(connection, begin, _EPOCH + last * step, step)}
    queued = _queued(connection, begin)
    found: list[Step] = []
    for number in range(last - steps + 1, last + 1):
        at = _EPOCH + number * step
        row = by_number.get(number)
        if row is None:
            found.append(Step(at, 0, 0, 0.0, queued))
            continue
        queued = row.queued
        found.append(Step(at, row.done, row.failed, row.busy_seconds / step_seconds, queued))
    return found


def _sums(
    connection: Connection, begin: datetime, end: datetime, step: timedelta
) -> list[Row[tuple[int, int, int, float, int | None]]]:
    """Return the sums of each step in which there are samples, and what the last of them says of the queue."""
    width = step // _MICROSECOND  # moments are microseconds in the store
    number = (type_coerce(samples.c.at, BigInteger) + (width - 1)) // width
    summed = (
        select(
            number.label("number"),
            func.max(samples.c.at).label("last_at"),
            func.sum(samples.c.done).label("done"),
            func.sum(samples.c.failed).label("failed"),
            func.sum(samples.c.busy_seconds).label("busy_seconds"),
        )
        .where(samples.c.at > begin, samples.c.at <= end)
        .group_by("number")
        .subquery()
    )
    told = (summed.c.number, summed.c.done, summed.c.failed, summed.c.busy_seconds)
    query = select(*told, func.max(samples.c.queued).label("queued")).join_from(
        summed, samples, samples.c.at == summed.c.last_at
    )
    return list(connection.execute(query.group_by(*told)))


def _queued(connection: Connection, moment: datetime) -> int | None:
    """Return how many jobs were queued, when somebody last looked before `moment`."""
    query = select(samples.c.queued).where(samples.c.at <= moment).order_by(samples.c.at.desc()).limit(1)
    return connection.execute(query).scalar()

"""Throughput: what the slots counted, sampled by each dispatcher while something happens."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from jobrunner.store.tables import throughput


@dataclass(frozen=True, slots=True)
class Sample:
    """What happened in the `seconds` before `at`, summed over the workers of one dispatcher."""

    at: datetime
    seconds: float
    done: int
    failed: int
    partials: int
    busy_seconds: float


def add(connection: Connection, dispatcher_id: int, sample: Sample) -> None:
    """Keep a sample."""
    row = {name: getattr(sample, name) for name in Sample.__slots__}
    connection.execute(insert(throughput), [{"dispatcher_id": dispatcher_id, **row}])


def since(connection: Connection, moment: datetime) -> Sample:
    """Return the sum of all samples after `moment`, over all dispatchers."""
    sums = (func.coalesce(func.sum(throughput.c[name]), 0) for name in Sample.__slots__[1:])
    row = connection.execute(select(*sums).where(throughput.c.at > moment)).one()
    return Sample(moment, *row)

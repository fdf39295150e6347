"""Attempts: one row for each run of a job."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, select

from jobrunner.lifecycle import Ending
from jobrunner.store.tables import attempt


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job; `error` is JSON.  What is not known yet is None."""

    number: int
    dispatcher_id: int
    worker: int | None
    started_at: datetime
    finished_at: datetime | None
    outcome: Ending | None
    error: str | None
    peak_memory_bytes: int | None
    cpu_seconds: float | None


def of_job(connection: Connection, job_id: int) -> list[Attempt]:
    """Return the job's attempts, first to last."""
    columns = (attempt.c[name] for name in Attempt.__slots__)
    query = select(*columns).where(attempt.c.job_id == job_id).order_by(attempt.c.number)
    found = [Attempt(*row) for row in connection.execute(query)]
    return [one if one.outcome is None else replace(one, outcome=Ending(one.outcome)) for one in found]

"""Jobs that were lost with what ran them: they start one after another; see `retry.lost_seconds`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, bindparam, select, update

from jobrunner.lifecycle import Ending, State
from jobrunner.store.moves import QUEUES
from jobrunner.store.quick import Quick
from jobrunner.store.tables import attempt, dispatcher, job


class Lost(NamedTuple):
    """A queued job whose last attempt was lost with what ran it."""

    id: int
    due_at: datetime | None
    dispatcher_id: int  #: that ran the attempt
    workers: int  #: that it had


LOST_AMONG: Final = (
    1_000  #: that would start next, of those of a queue that may run now, and of those that wait
)


def _lost_among(where: ColumnElement[bool], *order: ColumnElement[Any]) -> Select[Any]:
    first = select(job.c.id).where(where).order_by(*order).limit(LOST_AMONG).subquery()
    return (
        select(job.c.id, job.c.due_at, attempt.c.dispatcher_id, dispatcher.c.workers, attempt.c.started_at)
        .select_from(first)
        .join(job, job.c.id == first.c.id)
        .join(attempt, (attempt.c.job_id == job.c.id) & (attempt.c.number == job.c.attempt))
        .join(dispatcher, dispatcher.c.id == attempt.c.dispatcher_id)
        # One that somebody has asked for again has its budgets whole, and is no longer suspected.
        .where(job.c.crash_retries_used > 0, attempt.c.outcome == Ending.LOST.value)
    )


_IS_READY: Final = job.c.ready_rank.is_not(None)
_LOST_READY: Final = Quick(
    _lost_among(
        _IS_READY & job.c.item_count.is_(None) & (job.c.queue == bindparam("queue")),
        job.c.ready_rank,
        job.c.id,
    )
)
_LOST_MAPS: Final = Quick(_lost_among(_IS_READY & job.c.item_count.is_not(None), job.c.ready_rank, job.c.id))
_LOST_LATER: Final = Quick(_lost_among(job.c.due_at.is_not(None), job.c.due_at))
_POSTPONE: Final = (
    update(job)
    .where(job.c.id == bindparam("job_id"), job.c.state == State.QUEUED)
    .values(due_at=bindparam("new_due_at"))
)


def lost(connection: Connection) -> list[Lost]:
    """Return the queued jobs whose last attempt was lost, what started last first.

    Only the first LOST_AMONG of each queue that may run now are looked at, and as many that wait: a long queue costs
    no more.
    """
    found = [*_LOST_MAPS.rows(connection), *_LOST_LATER.rows(connection)]
    for (queue,) in QUEUES.rows(connection):
        found += _LOST_READY.rows(connection, queue=queue)
    found.sort(key=lambda row: (row[4], row[0]), reverse=True)
    return [Lost(*row[:4]) for row in found]


def postpone(connection: Connection, due_at: Mapping[int, datetime]) -> None:
    """Let queued jobs, by their ids, wait until these moments."""
    if due_at:
        rows = [{"job_id": job_id, "new_due_at": moment} for job_id, moment in due_at.items()]
        connection.execute(_POSTPONE, rows)

"""Recording: what attempts reported becomes rows, many reports in one transaction.

A report speaks for one attempt.  If its job has moved on, the report is refused: exactly one
attempt's end is recorded, whatever was killed, lost or late.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)

from jobrunner import retry
from jobrunner.errors import StaleAttemptError
from jobrunner.lifecycle import FINAL, Ending, Event, State, target
from jobrunner.reports import Ended, EventKind, Report, error
from jobrunner.store import item_reports
from jobrunner.store.item_reports import ItemRows, MapStanding
from jobrunner.store.jobs import state_data
from jobrunner.store.maps import close_all
from jobrunner.store.quick import Quick, QuickMany, in_list
from jobrunner.store.tables import Moment, attempt, event, job
from jobrunner.store.tally import count_moved


@dataclass
class Recorded:
    """What came of a batch of reports."""

    refused: list[Report] = field(default_factory=list)  #: the job has moved on from their attempt
    requeued: bool = False  #: some job is queued again: a dispatcher may want to look


_SELECT: Final = Quick(
    select(
        job.c.id,
        job.c.state,
        job.c.attempt,
        job.c.version,
        job.c.partials,
        job.c.cancel_grace_seconds,
        job.c.retries,
        job.c.crash_retries,
        job.c.retries_used,
        job.c.crash_retries_used,
        job.c.item_count,
        job.c.queue,
    ).where(job.c.id.in_(in_list("ids")))
)


def _began(claimed_at: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """Return when an attempt began: not when it was claimed, if it is known to have waited after that."""
    return func.max(claimed_at, func.coalesce(bindparam("began_at", type_=Moment), claimed_at))


_FENCE: Final = (
    (job.c.id == bindparam("job_id"))
    & (job.c.state == literal_column("'running'"))
    & (job.c.attempt == bindparam("number"))
)
_SPEAK: Final = QuickMany(
    update(job)
    .where(_FENCE)
    .values(
        version=bindparam("new_version"),
        partials=bindparam("new_partials"),
        progress=func.coalesce(bindparam("new_progress"), job.c.progress),
    )
)
_END: Final = QuickMany(
    update(job)
    .where(_FENCE)
    .values(
        state=bindparam("new_state"),
        version=bindparam("new_version"),
        partials=bindparam("new_partials"),
        progress=func.coalesce(bindparam("new_progress"), job.c.progress),
        result=bindparam("new_result"),
        error=bindparam("new_error"),
        due_at=bindparam("new_due_at"),
        started_at=case((bindparam("new_state") == State.QUEUED, null()), else_=_began(job.c.started_at)),
        finished_at=bindparam("new_finished_at"),
        retries_used=job.c.retries_used + bindparam("retries_charged"),
        crash_retries_used=job.c.crash_retries_used + bindparam("crash_retries_charged"),
        dispatcher_id=None,
        cancel_grace_seconds=None,
    )
)
_END_ATTEMPT: Final = QuickMany(
    update(attempt)
    .where(attempt.c.job_id == bindparam("of_job"), attempt.c.number == bindparam("of_number"))
    .values(
        worker=bindparam("new_worker"),
        started_at=_began(attempt.c.started_at),
        finished_at=bindparam("new_finished_at"),
        outcome=bindparam("new_outcome"),
        error=bindparam("new_error"),
        peak_memory_bytes=bindparam("new_peak_memory_bytes"),
        cpu_seconds=bindparam("new_cpu_seconds"),
    )
)
_INSERT_EVENT: Final = QuickMany(insert(event), "job_id", "seq", "kind", "attempt", "at", "data")


@dataclass
class _Standing:
    """Where a job stands while its reports are read."""

    id: int
    state: State
    attempt: int
    version: int
    partials: int
    cancel_grace_seconds: float | None
    retries: int
    crash_retries: int
    retries_used: int
    crash_retries_used: int
    item_count: int | None
    queue: str
    progress: str | None = None
    spoke: bool = False


class _Rows:
    """The rows that a batch becomes."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.endings: list[dict[str, Any]] = []
        self.attempts: list[dict[str, Any]] = []
        self.items = ItemRows()


def record(connection: Connection, reports: Sequence[Report]) -> Recorded:
    """Write the reports, in order, into one write transaction; refuse those of an attempt that is over.

    Raises:
        StaleAttemptError: a job changed inside the transaction, which SQLite's write lock forbids.
    """
    found = _SELECT.rows(connection, ids=json.dumps(list({report.job_id for report in reports})))
    standings = {row[0]: _Standing(*row) for row in found}
    map_jobs = {
        one.id: (one.item_count, one.crash_retries)
        for one in standings.values()
        if one.item_count is not None
    }
    maps = item_reports.standings(connection, map_jobs) if map_jobs else {}
    rows, recorded = _Rows(), Recorded()
    for report in reports:
        job_now = standings.get(report.job_id)
        if job_now is None or (job_now.state, job_now.attempt) != (State.RUNNING, report.attempt):
            recorded.refused.append(report)
            continue
        _speak(job_now, report, rows.events)
        ended, verdict = report.ended, None
        if (map_now := maps.get(report.job_id)) is not None:
            ended, verdict = _settle(connection, job_now, map_now, report, rows)
        if ended is not None:
            recorded.requeued |= _end(job_now, report.at, ended, verdict or _verdict(job_now, ended), rows)
    _write(connection, standings, maps, rows)
    return recorded


def _settle(
    connection: Connection, job_now: _Standing, map_now: MapStanding, report: Report, rows: _Rows
) -> tuple[Ended | None, retry.Verdict | None]:
    """Take in what a report says of a map job's items; return how its attempt has ended, if it has.

    The verdict is None where a map job is like any other: when its reduce task runs.
    """
    ended, cancelling = report.ended, job_now.cancel_grace_seconds is not None
    if ended is not None and map_now.is_reducing:
        has_begun = ended.ending is not Ending.RELEASED or ended.worker is not None
        if ended.error is not None:
            message = f"its items succeeded, its reduce task did not: {ended.error['message']}"
            ended = ended._replace(error=ended.error | {"message": message})
        return ended, None if has_begun else retry.Verdict(Event.RELEASE)
    if ended is not None and ended.ending in (Ending.LOST, Ending.RELEASED):
        blamed = ended.chunks if ended.ending is Ending.LOST else ()
        failures = item_reports.lost(connection, report, map_now, blamed)
        report = report._replace(said=(), items=tuple(failures))
    more = item_reports.settle(map_now, report, job_now.version, rows.items)
    brought = item_reports.values_in(report)
    job_now.version += brought
    job_now.partials += brought
    job_now.spoke |= bool(report.items)
    _speak(job_now, report._replace(said=tuple(more)), rows.events)
    # Not before the last word on its last chunk: what comes after the end is refused.
    is_last = report.closed is not None and not map_now.open_chunks
    if map_now.is_swept and (ended is not None or is_last):
        last = item_reports.ended(connection, job_now.id, map_now)
        event_then = Event.FAIL if map_now.failed else Event.SUCCEED
        if last is not None:
            return last, retry.Verdict(Event.STOP if cancelling and map_now.failed else event_then)
    if ended is None:
        return None, None
    return ended, retry.sweep_verdict(ended.ending, cancel_requested=cancelling, turn=ended.turn)


def _speak(job_now: _Standing, report: Report, events: list[dict[str, Any]]) -> None:
    for kind, data in report.said:
        job_now.version += 1
        if kind == EventKind.PARTIAL:
            job_now.partials += 1
        elif kind == EventKind.PROGRESS:
            job_now.progress = data
        events.append(_event(job_now, kind, report.at, data))
        job_now.spoke = True


def _event(job_now: _Standing, kind: EventKind, at: datetime, data: str) -> dict[str, Any]:
    return {
        "job_id": job_now.id,
        "seq": job_now.version,
        "kind": kind.value,
        "attempt": job_now.attempt,
        "at": at,
        "data": data,
    }


def _verdict(job_now: _Standing, ended: Ended) -> retry.Verdict:
    budgets = retry.Budgets(
        job_now.retries, job_now.crash_retries, job_now.retries_used, job_now.crash_retries_used
    )
    cancelling = job_now.cancel_grace_seconds is not None
    return retry.verdict(ended.ending, budgets, cancel_requested=cancelling, turn=ended.turn)


def _end(job_now: _Standing, at: datetime, ended: Ended, verdict: retry.Verdict, rows: _Rows) -> bool:
    state = target(State.RUNNING, verdict.event)
    if state is None:
        raise StaleAttemptError(job_now.id, job_now.attempt)
    said = ended.error
    if ended.ending is Ending.RELEASED and verdict.event is Event.FAIL:
        said = error(Ending.LOST, "its dispatcher had to stop, and crash_retries is 0: it is not run twice")
    due_at = at + timedelta(seconds=verdict.delay_seconds) if verdict.delay_seconds else None
    job_now.state, job_now.version = state, job_now.version + 1
    error_text = None if said is None else json.dumps(said)
    began_at = None if ended.began_at is None else min(ended.began_at, at)
    rows.events.append(_event(job_now, EventKind.STATE, at, _told(state, verdict, said, due_at)))
    rows.endings.append(
        {
            "job_id": job_now.id,
            "number": job_now.attempt,
            "new_state": state.value,
            "new_version": job_now.version,
            "new_partials": job_now.partials,
            "new_progress": job_now.progress,
            "new_result": ended.result,
            "new_error": None if state in (State.SUCCEEDED, State.CANCELLED) else error_text,
            "new_due_at": due_at,
            "began_at": began_at,
            "new_finished_at": at if state in FINAL else None,
            "retries_charged": int(verdict.charged == "retries"),
            "crash_retries_charged": int(verdict.charged == "crash_retries"),
        }
    )
    rows.attempts.append(
        {
            "of_job": job_now.id,
            "of_number": job_now.attempt,
            "new_error": error_text,
            "began_at": began_at,
            **_used(at, ended),
        }
    )
    return state is State.QUEUED


def _used(at: datetime, ended: Ended) -> dict[str, Any]:
    return {
        "new_worker": ended.worker,
        "new_finished_at": at,
        "new_outcome": ended.ending.value,
        "new_peak_memory_bytes": ended.peak_memory_bytes,
        "new_cpu_seconds": ended.cpu_seconds,
    }


def _told(state: State, verdict: retry.Verdict, said: dict[str, Any] | None, due_at: datetime | None) -> str:
    """Return the data of the state event: the new state, and why if it is not simply done."""
    more: dict[str, Any] = {}
    if said is not None:
        more["error"] = {"kind": said["kind"], "message": said["message"]}
    if verdict.charged is not None:
        more["charged_to"] = verdict.charged
    if due_at is not None:
        more["due_at"] = due_at.isoformat()
    return state_data(state, **more)


def _write(
    connection: Connection, standings: dict[int, _Standing], maps: dict[int, MapStanding], rows: _Rows
) -> None:
    spoke = [
        {
            "job_id": job_now.id,
            "number": job_now.attempt,
            "new_version": job_now.version,
            "new_partials": job_now.partials,
            "new_progress": job_now.progress,
        }
        for job_now in standings.values()
        if job_now.spoke and job_now.state == State.RUNNING  # else its end tells the rest
    ]
    if rows.events:
        _INSERT_EVENT.execute(connection, rows.events)
    if maps:
        item_reports.write(connection, maps, rows.items)
        close_all(connection, (job_id for job_id in maps if standings[job_id].state != State.RUNNING))
    if spoke:
        _guarded(connection, _SPEAK, spoke)
    if rows.endings:
        _guarded(connection, _END, rows.endings)
        _END_ATTEMPT.execute(connection, rows.attempts)
        moved = (standings[row["job_id"]] for row in rows.endings)
        count_moved(connection, ((one.queue, State.RUNNING, one.state) for one in moved))


def _guarded(connection: Connection, statement: QuickMany, rows: list[dict[str, Any]]) -> None:
    if statement.execute(connection, rows) != len(rows):
        raise StaleAttemptError(rows[0]["job_id"], rows[0]["number"])

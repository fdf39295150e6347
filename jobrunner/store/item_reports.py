"""Recording what becomes of a map job's items: values, failures, and the job's end with the last of them."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, EventKind, ItemFailed, Report, Values, error
from jobrunner.store import maps
from jobrunner.store.quick import Quick, QuickMany, in_list
from jobrunner.store.tables import chunk, event, item, map_job

RESULT: Final = "null"  #: of a map job without a reduce task: its values are its result

_OPEN: Final = select(func.count()).where(chunk.c.job_id == map_job.c.job_id).scalar_subquery()
_STANDINGS: Final = Quick(
    select(
        map_job.c.job_id, map_job.c.done, map_job.c.failed, map_job.c.max_failed, map_job.c.reduce_task, _OPEN
    ).where(map_job.c.job_id.in_(in_list("ids")))
)
_KEEP: Final = QuickMany(
    insert(event), "job_id", "seq", "kind", "attempt", "at", "data", "item", "item_count"
)
_COUNT: Final = QuickMany(
    update(map_job)
    .where(map_job.c.job_id == bindparam("of_job"))
    .values(done=bindparam("new_done"), failed=bindparam("new_failed"))
)
_FAILED: Final = upsert(item)
_FAIL: Final = _FAILED.on_conflict_do_update(
    index_elements=[item.c.job_id, item.c.number],
    set_={
        "state": _FAILED.excluded.state,
        "retries_used": item.c.retries_used + _FAILED.excluded.retries_used,
        "crash_retries_used": item.c.crash_retries_used + _FAILED.excluded.crash_retries_used,
        "attempt": _FAILED.excluded.attempt,
        "at": _FAILED.excluded.at,
        "error": _FAILED.excluded.error,
    },
)
_FORGET: Final = QuickMany(
    delete(item).where(item.c.job_id == bindparam("of_job"), item.c.number == bindparam("of_number"))
)
_CLOSE: Final = QuickMany(
    delete(chunk).where(chunk.c.job_id == bindparam("of_job"), chunk.c.first == bindparam("of_first"))
)
_FIRST_FAILED: Final = (
    select(item.c.number, item.c.error)
    .where(item.c.job_id == bindparam("job_id"), item.c.state == "failed")
    .order_by(item.c.number)
    .limit(1)
)


@dataclass
class MapStanding:
    """How far a map job has come while its reports are read."""

    done: int
    failed: int
    max_failed: int | None
    reduce_task: str | None
    open_chunks: int
    item_count: int
    crash_retries: int
    first_failed: tuple[int, dict[str, Any]] | None = None  #: of the reports that were read so far

    @property
    def is_swept(self) -> bool:
        """Whether nothing is left to do of its items, or too many have failed."""
        too_many_failed = self.max_failed is not None and self.failed > self.max_failed
        return self.done + self.failed == self.item_count or too_many_failed

    @property
    def is_reducing(self) -> bool:
        """Whether all its items have succeeded, and none is in hand: what ends now is its reduce task."""
        return self.done == self.item_count and not self.open_chunks and self.reduce_task is not None

    def progress(self, last: ItemFailed) -> str:
        """Return how far it has come, in JSON, with a word about the item that failed last."""
        how = "has failed" if last.is_final else "failed and is tried again"
        message = f"item {last.item} {how}: {_short(last.error)}"
        return json.dumps({"done": self.done + self.failed, "total": self.item_count, "message": message})


@dataclass
class ItemRows:
    """The rows that a batch becomes, beside those of jobs."""

    values: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    forgotten: list[dict[str, Any]] = field(default_factory=list)
    closed: list[dict[str, Any]] = field(default_factory=list)


def standings(connection: Connection, jobs: dict[int, tuple[int, int]]) -> dict[int, MapStanding]:
    """Return how far map jobs have come; `jobs` are their item counts and crash retries, by id."""
    found = _STANDINGS.rows(connection, ids=json.dumps(list(jobs)))
    told: dict[int, list[Any]] = {job_id: [*row, *jobs[job_id]] for job_id, *row in found}
    return {job_id: MapStanding(*row) for job_id, row in told.items()}


def settle(
    standing: MapStanding, report: Report, version: int, rows: ItemRows
) -> list[tuple[EventKind, str]]:
    """Take in what a report says of items; return what else it tells.

    Args:
        standing: is moved on.
        report: speaks for the job's present attempt.
        version: of the job; each value is an event of its own.
        rows: get what is to be written.
    """
    failures = []
    for one in report.items:
        if isinstance(one, Values):
            version += one.item_count
            standing.done += one.item_count
            rows.values.append(_value_row(report, one, version))
            if one.item_count == 1:  # only such may have failed before: it travels alone then
                rows.forgotten.append({"of_job": report.job_id, "of_number": one.first})
        else:
            standing.failed += one.is_final
            failures.append(one)
            rows.failures.append(_failure_row(report, one))
            if one.is_final and (standing.first_failed is None or one.item < standing.first_failed[0]):
                standing.first_failed = one.item, one.error
    if report.closed is not None:
        standing.open_chunks -= 1
        rows.closed.append({"of_job": report.job_id, "of_first": report.closed})
    return [(EventKind.PROGRESS, standing.progress(failures[-1]))] if failures else []


def values_in(report: Report) -> int:
    """Return how many values a report brings."""
    return sum(one.item_count for one in report.items if isinstance(one, Values))


def _value_row(report: Report, one: Values, seq: int) -> dict[str, Any]:
    return {
        "job_id": report.job_id,
        "seq": seq,
        "kind": EventKind.PARTIAL.value,
        "attempt": report.attempt,
        "at": report.at,
        "data": one.data,
        "item": one.first,
        "item_count": one.item_count,
    }


def _failure_row(report: Report, one: ItemFailed) -> dict[str, Any]:
    return {
        "job_id": report.job_id,
        "number": one.item,
        "state": "failed" if one.is_final else "queued",
        "retries_used": int(one.charged == "retries"),
        "crash_retries_used": int(one.charged == "crash_retries"),
        "attempt": report.attempt,
        "at": report.at,
        "error": json.dumps(one.error),
    }


def ended(connection: Connection, job_id: int, standing: MapStanding) -> Ended | None:
    """Return how the job has ended, of which nothing is left to do; None if its reduce task comes now."""
    if not standing.failed:
        return Ended(Ending.SUCCEEDED, result=RESULT) if standing.reduce_task is None else None
    found = connection.execute(_FIRST_FAILED, {"job_id": job_id}).first()
    first = standing.first_failed
    if found is not None and (first is None or found.number < first[0]):
        first = found.number, json.loads(found.error)
    number, told = first or (0, error(Ending.LOST, "its error is lost"))
    left = standing.item_count - standing.done - standing.failed
    early = f" (max_failed is {standing.max_failed}, {left} did not run)" if left else ""
    message = f"{standing.failed} of {standing.item_count} items failed{early}, the first is item {number}: "
    return Ended(Ending(told["kind"]), error=told | {"message": message + _short(told)})


def lost(
    connection: Connection, report: Report, standing: MapStanding, blamed: tuple[int, ...] | None
) -> list[ItemFailed]:
    """Return the items that pay for what they were lost with.

    Nobody knows which of a chunk's items was running.  If they must not run twice, all that are not settled have
    failed.  Else the first of them pays, and travels alone from then on: should it be to blame, it meets nobody.

    Args:
        connection: of the transaction that the report is recorded in.
        report: of the attempt's end.
        standing: of its job.
        blamed: the first items of the chunks to blame; None: all in hand.
    """
    failures: dict[int, ItemFailed] = {}  # by item: what an open chunk gave back may be in another one
    for chunk_items in maps.chunks_in_hand(connection, report.job_id):
        left = maps.missing(connection, report.job_id, chunk_items)
        if standing.crash_retries == 0:
            failures |= {number: _lost(number, None) for span in left for number in span}
        elif blamed is None or chunk_items.start in blamed:
            span = next(left, range(0))
            tries = maps.tries(connection, report.job_id, span.start) if span else maps.Tries()
            left_over = standing.crash_retries - tries.crash_retries_used
            failures |= {number: _lost(number, left_over) for number in span[:1]}
    return [failures[number] for number in sorted(failures)]


def _lost(number: int, left: int | None) -> ItemFailed:
    if left is None:
        why = "what ran it died or had to stop, and crash_retries is 0: it may have run, and is not run twice"
        return ItemFailed(number, error(Ending.LOST, why), None, is_final=True)
    told = error(Ending.LOST, "what ran it died while its chunk was in hand")
    return ItemFailed(number, told, "crash_retries" if left else None, is_final=not left)


def write(connection: Connection, standings: dict[int, MapStanding], rows: ItemRows) -> None:
    """Write the rows, and how far the jobs have come."""
    if rows.values:
        _KEEP.execute(connection, rows.values)
    if rows.failures:
        connection.execute(_FAIL, rows.failures)
    if rows.forgotten:  # after the failures: an item may have failed and then succeeded within one batch
        _FORGET.execute(connection, rows.forgotten)
    if rows.closed:
        _CLOSE.execute(connection, rows.closed)
    if rows.values or rows.failures:
        counts = [
            {"of_job": job_id, "new_done": one.done, "new_failed": one.failed}
            for job_id, one in standings.items()
        ]
        _COUNT.execute(connection, counts)


def _short(told: dict[str, Any]) -> str:
    kind = (told["kind"] == Ending.EXCEPTION and told["type"]) or told["kind"]
    return f"{kind}: {told['message']}"[:1000]

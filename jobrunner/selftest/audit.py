"""The audit: what the store holds at the end, against what the journal says it must."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from jobrunner.lifecycle import FINAL, State
from jobrunner.reports import EventKind
from jobrunner.selftest import wishes
from jobrunner.selftest.journal import Deed, Record, Submission
from jobrunner.store import audit as store_audit
from jobrunner.store import events, lists
from jobrunner.store.contradiction import Kind
from jobrunner.store.jobs import Job
from jobrunner.store.lists import Filter

PAGE_JOBS: Final = 500  #: that are read at a time


class Line(StrEnum):
    """What must not have happened: the lines of the audit, in order."""

    LOST = "lost"
    TWICE = "recorded twice"
    PARTIALS = "partial results with gaps or out of order"
    AFTER_FINAL = "accepted after final"
    WRONG = "wrong result"
    UNATTENDED = "still running with nobody running it"
    ONCE = "run twice, promised at most once"
    KEY = "stored twice for one Idempotency-Key"
    OTHER = "other contradictions in the books"
    ORPHANS = "orphan processes"
    FILE = "PRAGMA integrity_check"


class Finding(NamedTuple):
    """One thing that is wrong; `job_id` is None where no one job is meant."""

    line: Line
    job_id: int | None
    detail: str


_BOOKS: Final[Mapping[Kind, Line]] = {
    Kind.FILE: Line.FILE,
    Kind.REFERENCE: Line.OTHER,
    Kind.TALLY: Line.OTHER,
    Kind.GAP: Line.PARTIALS,
    Kind.PATH: Line.OTHER,
    Kind.AFTER_FINAL: Line.AFTER_FINAL,
    Kind.TWICE: Line.TWICE,
    Kind.LATE: Line.AFTER_FINAL,
    Kind.PARTIALS: Line.PARTIALS,
    Kind.ATTEMPTS: Line.OTHER,
    Kind.UNATTENDED: Line.UNATTENDED,
    Kind.ITEM_TWICE: Line.TWICE,
    Kind.ITEM_LOST: Line.LOST,
    Kind.ITEMS: Line.OTHER,
    Kind.CHUNK: Line.OTHER,
}


def findings(connection: Connection, record: Record, runs: Path) -> Iterator[Finding]:
    """Find all that is wrong in a store that nobody uses any more.

    Args:
        connection: one to read with, until the last has been taken.
        record: the journal.
        runs: the file in which each execution has noted itself.
    """
    for one in store_audit.contradictions(connection):
        yield Finding(_BOOKS[one.kind], one.job_id, one.detail)
    asked = {wish["params"]["stamp"]: wish for submission in record.submissions for wish in submission.jobs}
    stored: dict[str, list[int]] = {}
    for job in _all_jobs(connection):
        stamp = json.loads(job.params).get("stamp")
        stored.setdefault(stamp, []).append(job.id)
        if stamp in asked:
            yield from _of_job(connection, job, asked[stamp], record.deeds.get(job.id, ()))
        else:
            yield Finding(Line.OTHER, job.id, "nobody has asked for it")
    for submission in record.submissions:
        yield from _of_submission(submission, stored)
    yield from _of_runs(runs, asked, stored)


def _all_jobs(connection: Connection) -> Iterator[Job]:
    before_id: int | None = None
    while page := lists.page(connection, Filter(), before_id=before_id, limit=PAGE_JOBS):
        yield from page
        before_id = page[-1].id


# -- submissions -----------------------------------------------------------------------------------


def _of_submission(submission: Submission, stored: Mapping[str, Sequence[int]]) -> Iterator[Finding]:
    line = Line.TWICE if submission.key is None else Line.KEY
    there = [stored.get(stamp, ()) for stamp in submission.stamps]
    for stamp, ids in zip(submission.stamps, there, strict=True):
        if len(ids) > 1:
            yield from (Finding(line, job_id, f"{stamp} is stored {len(ids)} times") for job_id in ids)
    if not submission.acknowledgements:
        if any(there) and not all(there):
            yield Finding(Line.OTHER, None, f"of a batch only a part is stored: {there}")
        return
    first, *later = submission.acknowledgements
    for job_id, stamp, ids in zip(first.ids, submission.stamps, there, strict=True):
        if job_id not in ids:
            yield Finding(Line.LOST, job_id, f"{stamp} was acknowledged, it is stored as {list(ids)}")
    for answer in later:
        if answer.ids != first.ids or not answer.replayed:
            detail = f"{submission.key} was answered {first} and then {answer}"
            yield from (Finding(Line.KEY, job_id, detail) for job_id in answer.ids)


def _of_runs(
    runs: Path, asked: Mapping[str, Mapping[str, Any]], stored: Mapping[str, Sequence[int]]
) -> Iterator[Finding]:
    lines = runs.read_text(encoding="ascii").split("\n")[:-1] if runs.exists() else []
    executions = Counter(line.split()[0] for line in lines)
    attempts = Counter(lines)
    for name, times in executions.items():
        stamp = name.partition("/")[0]  # what follows is an item of it
        if stamp not in asked:
            yield Finding(Line.OTHER, None, f"{name} ran, and nobody has asked for it")
        elif times > 1 and asked[stamp]["crash_retries"] == 0:
            yield from _each(Line.ONCE, stored.get(stamp), f"{name} ran {times} times")
    for line, times in attempts.items():
        if times > 1 and "/" not in line:  # an item whose process died is tried again in the same attempt
            stamp, number = line.split()
            yield from _each(Line.ONCE, stored.get(stamp), f"attempt {number} of {stamp} ran {times} times")


def _each(line: Line, ids: Sequence[int] | None, detail: str) -> Iterator[Finding]:
    """Yield a finding for each job; one of no job, where none is stored."""
    yield from (Finding(line, job_id, detail) for job_id in ids or (None,))


# -- jobs --------------------------------------------------------------------------------------------


def _of_job(
    connection: Connection, job: Job, wish: Mapping[str, Any], deeds: Sequence[Deed]
) -> Iterator[Finding]:
    asked = (wish["task"], wish["params"], wishes.items(wish))
    if (job.task, json.loads(job.params), job.item_count) != asked:
        yield Finding(Line.LOST, job.id, f"another was asked for: {wish}")
        return
    if job.state is State.RUNNING:
        yield Finding(Line.UNATTENDED, job.id, f"attempt {job.attempt} never ended")
    elif job.state not in FINAL:
        yield Finding(Line.LOST, job.id, f"it is still {job.state}")
    else:
        yield from _of_end(job, wish, deeds)
    if job.item_count is None:
        yield from _of_partials(connection, job, wish)
    else:
        yield from _of_values(connection, job, wish)


def _of_end(job: Job, wish: Mapping[str, Any], deeds: Sequence[Deed]) -> Iterator[Finding]:
    said = expect(wish, deeds)
    if said.seen is not None and (job.state, job.version) != said.seen:
        state, version = said.seen
        detail = f"it was {state} for good at version {version}, it is {job.state} at {job.version}"
        yield Finding(Line.AFTER_FINAL, job.id, detail)
    elif job.state not in said.states:
        yield Finding(Line.WRONG, job.id, f"it is {job.state}: {job.error}")
    elif job.state is State.SUCCEEDED:
        result, wanted = json.loads(job.result or "null"), wishes.result(wish, job.attempt)
        if result != wanted:
            yield Finding(Line.WRONG, job.id, f"its result is {result}, not {wanted}")
    elif job.state is State.FAILED:
        kind = json.loads(job.error or "{}").get("kind")
        if kind not in wishes.error_kinds(wish):
            yield Finding(Line.WRONG, job.id, f"it failed by {kind}: {job.error}")


def _of_partials(connection: Connection, job: Job, wish: Mapping[str, Any]) -> Iterator[Finding]:
    found: dict[int, list[Any]] = {}
    for one in events.after(connection, job.id, kinds=[EventKind.PARTIAL], limit=10**9):
        found.setdefault(one.attempt, []).append(json.loads(one.data))
    if job.state is State.SUCCEEDED:
        found.setdefault(job.attempt, [])
    for attempt, values in found.items():
        wanted = wishes.partials(wish, attempt)
        is_all = job.state is State.SUCCEEDED and attempt == job.attempt
        if not is_all:
            wanted = wanted[: len(values)]
        if values != wanted:
            at = next((n for n, (a, b) in enumerate(zip(values, wanted, strict=False)) if a != b), None)
            where = "" if at is None else f", number {at + 1} is {values[at]}"
            detail = f"attempt {attempt} has {len(values)} partial results of {len(wanted)}{where}"
            yield Finding(Line.PARTIALS, job.id, detail)


def _of_values(connection: Connection, job: Job, wish: Mapping[str, Any]) -> Iterator[Finding]:
    """Look at what each item has returned; the books themselves tell whether all are there, and none twice."""
    for one in events.after(connection, job.id, kinds=[EventKind.PARTIAL], limit=10**9):
        said, wanted = json.loads(one.data), wishes.value(wish, one.attempt, one.item or 0)
        if said != wanted:
            detail = f"the value of item {one.item} in attempt {one.attempt} is {said}, not {wanted}"
            yield Finding(Line.WRONG, job.id, detail)


@dataclass
class Expectation:
    """What the journal allows of a job that has ended.

    Attributes:
        states: where it may have ended.
        seen: state and version in which it was seen for good; None if it was not.
    """

    states: frozenset[State]
    seen: tuple[State, int] | None = None


def expect(wish: Mapping[str, Any], deeds: Sequence[Deed]) -> Expectation:
    """Return what must have become of a job to which this was done, in this order.

    What nobody answered may have been heard, at once or later.
    """
    said = Expectation(wishes.states(wish))
    open_cancel, open_retry = False, False
    for what, status, state, version in deeds:
        is_open = status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if what == "cancel" and status != HTTPStatus.CONFLICT:
            said.states |= {State.CANCELLED}
            open_cancel |= is_open
        elif what == "retry" and status != HTTPStatus.CONFLICT:
            open_retry |= is_open
            said.seen = None
            if not open_retry and not open_cancel:
                said.states = wishes.states(wish)
        if state in FINAL and version is not None and not open_retry:
            said.seen = State(state), version
    return said

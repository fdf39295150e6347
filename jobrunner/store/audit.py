"""The audit: where the books of a store contradict themselves.

It reads jobs, attempts and events side by side, in the order of job ids, so that a million jobs need no more memory
than one.  A store that was only ever written by this program has no contradiction, whatever was killed.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, func, select

from jobrunner.lifecycle import FINAL, MOVES, Ending, State
from jobrunner.reports import EventKind
from jobrunner.store.audit_items import ItemAudit
from jobrunner.store.audit_rows import BATCH, ByJob, asked_for
from jobrunner.store.contradiction import Contradiction, Kind
from jobrunner.store.engine import Store
from jobrunner.store.tables import attempt, dispatcher, event, job, removal, tally

TURN: Final = 10_000  #: jobs that are read in one view of a store at work, in about half a second


def contradictions(connection: Connection) -> Iterator[Contradiction]:
    """Find them all, as of one moment: a store at work may be read too.

    A job that is being removed loses its oldest events first and its row last, so of such a job only what is left is
    checked: that it is without gap, and ends where the job stands.

    Args:
        connection: one to read with, until the last has been taken.
    """
    damaged = False
    for one in _spanning(connection):
        yield one
        damaged |= one.kind is Kind.FILE
    if not damaged:  # else what is read out of it tells nothing
        yield from _of_jobs(connection, 0, _LAST_ID)


def contradictions_in_turns(store: Store, turn: int = TURN) -> Iterator[Contradiction]:
    """Find them all in a store at work, `turn` jobs at a time.

    While one view of it is read, its WAL can only grow, and be the longer to copy later, when nobody can write.
    """
    with store.read() as connection:
        found = list(_spanning(connection))
    yield from found
    after: int | None = 0 if all(one.kind is not Kind.FILE for one in found) else None
    while after is not None:
        with store.read() as connection:
            upto = connection.execute(_UPTO, {"after": after, "turn": turn}).scalar()
            if upto is not None:
                yield from _of_jobs(connection, after, upto)
            after = upto


def _spanning(connection: Connection) -> Iterator[Contradiction]:
    for look in (_damage, _references, _tally, _unattended):
        yield from look(connection)


def _of_jobs(connection: Connection, after: int, upto: int) -> Iterator[Contradiction]:
    """Audit the jobs whose ids are above `after` and up to `upto`."""
    ids = {"after": after, "upto": upto}
    attempts = ByJob(connection.execute(_ATTEMPTS, ids))
    events = ByJob(connection.execute(_EVENTS, ids))
    items = ItemAudit(connection, ids)
    for one in connection.execute(_JOBS, ids):
        if one.is_being_removed:
            found = _what_is_left(one, events.of(one.id))
        else:
            found = chain(_history(one, attempts.of(one.id), events.of(one.id)), items.of_job(one))
        yield from (Contradiction(kind, one.id, detail) for kind, detail in found)


# -- the file and what spans jobs ---------------------------------------------------------------


def _damage(connection: Connection) -> Iterator[Contradiction]:
    for said in connection.exec_driver_sql("PRAGMA integrity_check").scalars():
        if said != "ok":
            yield Contradiction(Kind.FILE, None, said)


def _references(connection: Connection) -> Iterator[Contradiction]:
    for table, rowid, target, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        row = "a row" if rowid is None else f"row {rowid}"
        yield Contradiction(Kind.REFERENCE, None, f"{row} of {table} belongs to no {target}")


def _tally(connection: Connection) -> Iterator[Contradiction]:
    kept = {(row.queue, row.state): row.jobs for row in connection.execute(select(tally)) if row.jobs}
    counted = select(job.c.queue, job.c.state, func.count().label("jobs")).group_by(job.c.queue, job.c.state)
    found = {(row.queue, row.state): row.jobs for row in connection.execute(counted)}
    for queue, state in sorted(kept.keys() | found.keys()):
        said, are = kept.get((queue, state), 0), found.get((queue, state), 0)
        if said != are:
            detail = f"{said} jobs are counted as {state} in queue {queue}, {are} are"
            yield Contradiction(Kind.TALLY, None, detail)


def _unattended(connection: Connection) -> Iterator[Contradiction]:
    query = (
        select(job.c.id, job.c.dispatcher_id)
        .join(dispatcher, dispatcher.c.id == job.c.dispatcher_id)
        .where(dispatcher.c.ended_at.is_not(None))
    )
    for row in connection.execute(query):
        yield Contradiction(
            Kind.UNATTENDED, row.id, f"is running, but dispatcher {row.dispatcher_id} has ended"
        )


# -- job by job -----------------------------------------------------------------------------------

_LAST_ID: Final = (1 << 63) - 1
_NEXT: Final = (
    select(job.c.id).where(job.c.id > bindparam("after")).order_by(job.c.id).limit(bindparam("turn"))
).subquery()
_UPTO: Final = select(func.max(_NEXT.c.id))
_JOBS: Final = (
    select(
        job.c.id,
        job.c.state,
        job.c.attempt,
        job.c.version,
        job.c.partials,
        job.c.item_count,
        removal.c.job_id.is_not(None).label("is_being_removed"),
    )
    .outerjoin(removal, removal.c.job_id == job.c.id)
    .where(asked_for(job.c.id))
    .order_by(job.c.id)
    .execution_options(**BATCH)
)
_ATTEMPTS: Final = (
    select(attempt.c.job_id, attempt.c.number, attempt.c.outcome)
    .where(asked_for(attempt.c.job_id))
    .order_by(attempt.c.job_id, attempt.c.number)
    .execution_options(**BATCH)
)
_SAID: Final = case(
    (
        (event.c.kind == EventKind.STATE) & func.json_valid(event.c.data),
        func.json_extract(event.c.data, "$.state"),
    )
)
_HELD: Final = case(
    (event.c.item.is_(None), 1),
    (func.json_valid(event.c.data), func.json_array_length(event.c.data)),
    else_=0,
)
_EVENTS: Final = (
    select(
        *(event.c.job_id, event.c.seq, event.c.kind, event.c.attempt, _SAID.label("state")),
        func.coalesce(event.c.item_count, 1).label("events"),  # that the row stands for
        _HELD.label("held"),  # values, if it is of items
    )
    .where(asked_for(event.c.job_id))
    .order_by(event.c.job_id, event.c.seq)
    .execution_options(**BATCH)
)

_Row = Any  # of one of these three
_Found = Iterator[tuple[Kind, str]]

_STATES: Final = {state.value: state for state in State}
_ARROWS: Final = frozenset((source, move.target) for move in MOVES.values() for source in move.sources)
_STOPPING: Final = (State.RUNNING, State.RUNNING)  # no arrow: somebody has asked to cancel it
#: where the end of an attempt may leave its job, other than anywhere
_LEADS_TO: Final = {Ending.SUCCEEDED: {State.SUCCEEDED}, Ending.CANCELLED: {State.CANCELLED}}
_ELSEWHERE: Final = {State.QUEUED, State.FAILED, State.CANCELLED}


def _history(one: _Row, attempts: Iterator[_Row], events: Iterator[_Row]) -> _Found:
    history = _History()
    for row in events:
        yield from history.read(row)
    yield from history.against(one)
    yield from history.against_attempts(one, attempts)


def _what_is_left(one: _Row, events: Iterable[_Row]) -> _Found:
    if one.state not in FINAL:
        yield Kind.PATH, f"it is {one.state}, and yet it is being removed"
    seq, said = None, None
    for row in events:
        if seq is not None and row.seq != seq + row.events:
            yield Kind.GAP, f"event {row.seq} follows event {seq}"
        seq, said = row.seq, row.state or row.kind
    if seq is not None and (seq, said) != (one.version, one.state):
        yield Kind.GAP, f"it is {one.state} by event {one.version}, its last event is {seq}: {said}"


class _History:
    """What the events of one job say, read one after another."""

    def __init__(self) -> None:
        self.seq = 0
        self.state: State | None = None
        self.attempt = 0
        self.partials = 0
        self.ended: dict[int, State] = {}  # by attempt: where its end has led

    def read(self, row: _Row) -> _Found:
        """Take the next event."""
        if row.seq != self.seq + row.events:
            yield Kind.GAP, f"event {row.seq} follows event {self.seq}"
        self.seq = row.seq
        self.partials += row.events * (row.kind == EventKind.PARTIAL)
        if row.held != row.events:
            yield Kind.PARTIALS, f"event {row.seq} has {row.held} values, and stands for {row.events}"
        if row.kind == EventKind.STATE:
            yield from self._move(row.seq, row.attempt, _STATES.get(row.state))
        elif self.state in FINAL:
            yield Kind.AFTER_FINAL, f"{self._told(row)}, when it was {self.state}"
        elif self.state is not State.RUNNING or row.attempt != self.attempt:
            now = f"{self.state or 'nothing yet'} in attempt {self.attempt}"
            yield Kind.LATE, f"{self._told(row)}, when it was {now}"

    def _move(self, seq: int, number: int, to: State | None) -> _Found:
        before, self.state = self.state, to
        claimed = before is State.QUEUED and to is State.RUNNING
        wanted = self.attempt + claimed
        if before is None and to is State.QUEUED and number == 0:
            return
        if number == wanted and ((before, to) in _ARROWS or (before, to) == _STOPPING):
            self.attempt = number
            if before is State.RUNNING and to is not None and to is not State.RUNNING:
                self.ended[number] = to
            return
        at = f"event {seq}: from {before or 'nothing'} to {to or 'no state'} by attempt {number}"
        if number in self.ended and to is not State.RUNNING:
            yield Kind.TWICE, f"{at}, which had ended"
        elif before in FINAL:
            yield Kind.AFTER_FINAL, at
        else:
            yield Kind.PATH, f"{at}, but the last attempt was {self.attempt}"

    @staticmethod
    def _told(row: _Row) -> str:
        return f"event {row.seq}, a {row.kind} of attempt {row.attempt}"

    def against(self, one: _Row) -> _Found:
        """Compare with the job's own row."""
        if self.seq != one.version:
            yield Kind.GAP, f"its last event is {self.seq}, its version {one.version}"
        if self.state != one.state or self.attempt != one.attempt:
            said = f"it is {one.state} in attempt {one.attempt}"
            yield Kind.PATH, f"{said}, its events say {self.state or 'nothing'} in attempt {self.attempt}"
        if self.partials != one.partials:
            yield Kind.PARTIALS, f"it has {one.partials} partial results, its events are {self.partials}"

    def against_attempts(self, one: _Row, attempts: Iterable[_Row]) -> _Found:
        """Compare with the rows of the attempts."""
        outcomes = {row.number: row.outcome for row in attempts}
        if sorted(outcomes) != list(range(1, one.attempt + 1)):
            have = sorted(outcomes) or "none"
            yield Kind.ATTEMPTS, f"it is in attempt {one.attempt}, there are rows of {have}"
        for number, outcome in outcomes.items():
            led_to = self.ended.get(number)
            if outcome is None and led_to is not None:
                yield Kind.ATTEMPTS, f"attempt {number} has ended ({led_to}), its row has not"
            elif outcome is not None and led_to is None:
                yield Kind.ATTEMPTS, f"the row of attempt {number} has ended ({outcome}), the attempt has not"
            elif outcome is not None and led_to not in _LEADS_TO.get(Ending(outcome), _ELSEWHERE):
                yield Kind.ATTEMPTS, f"attempt {number} ended by {outcome}, which does not lead to {led_to}"

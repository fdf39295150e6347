"""Moves that somebody decides: claiming, cancelling, asking again.  What an attempt's end means is in `reports`.

Each is a guarded UPDATE that names the state it comes from, and appends one event.
"""

import json
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)

from jobrunner.errors import WrongStateError
from jobrunner.lifecycle import MOVES, Event, State, target
from jobrunner.reports import EventKind
from jobrunner.store import jobs
from jobrunner.store.quick import Quick, QuickMany, Source, in_list
from jobrunner.store.tables import attempt, dispatcher, event, item, job, map_job, paused_queue, tally
from jobrunner.store.tally import count_moved


class Claimed(NamedTuple):
    """A job that was just claimed: what a ticket is made of."""

    id: int
    attempt: int
    task: str
    params: str  #: a JSON object
    timeout_seconds: float | None
    memory_limit_bytes: int | None
    crash_retries: int
    version: int
    priority: int = 0
    item_count: int | None = None  #: of a map job
    queue: str = "default"


_CLAIMED: Final = tuple(  # as they will be then
    (job.c[name] + 1).label(name) if name in ("attempt", "version") else job.c[name]
    for name in Claimed._fields
)
_READY: Final = (
    select(job.c.ready_rank, job.c.id)
    .where(
        job.c.ready_rank.is_not(None), job.c.task.in_(in_list("tasks")).is_(True)
    )  # IS: not by the task's index
    # A dispatcher that was given up for dead claims nothing, even before it knows.
    .where(exists().where(dispatcher.c.id == bindparam("holder"), dispatcher.c.ended_at.is_(None)))
    .order_by(job.c.ready_rank, job.c.id)
    .limit(bindparam("room"))
)
_PAUSED: Final = select(paused_queue.c.name)
#: asked for each queue: in one walk over all, those in a long queue that is paused would be passed one by one
_READY_JOBS: Final = Quick(_READY.where(job.c.item_count.is_(None), job.c.queue == bindparam("queue")))
_READY_MAPS: Final = Quick(_READY.where(job.c.item_count.is_not(None), job.c.queue.not_in(_PAUSED)))
_THESE: Final = Quick(select(*_CLAIMED).where(job.c.id.in_(in_list("ids"))))
#: the queues that somebody waits in and that are not paused
_QUEUED_IN: Final = and_(tally.c.state == State.QUEUED.value, tally.c.jobs > 0, tally.c.queue.not_in(_PAUSED))
QUEUES: Final = Quick(select(tally.c.queue).where(_QUEUED_IN).order_by(tally.c.queue))
_CLAIM: Final = QuickMany(
    update(job)
    .where(job.c.id.in_(in_list("ids")), job.c.ready_rank.is_not(None))
    .values(
        state=MOVES[Event.CLAIM].target,
        attempt=job.c.attempt + 1,
        dispatcher_id=bindparam("holder"),
        started_at=bindparam("now"),
        progress=None,
        version=job.c.version + 1,
    )
)
_BEGIN_MAP: Final = (
    update(map_job)
    .where(map_job.c.job_id == bindparam("of_job"))
    .values(before=map_job.c.done + map_job.c.failed)
)
_PROMOTE: Final = QuickMany(update(job).where(job.c.due_at <= bindparam("now")).values(due_at=null()))
_BEGIN: Final = QuickMany(insert(attempt), "job_id", "number", "dispatcher_id", "started_at")
_TELL: Final = QuickMany(insert(event), "job_id", "seq", "kind", "attempt", "at", "data")


def claim(
    connection: Connection,
    dispatcher_id: int,
    *,
    tasks: Collection[str],
    limit: int,
    map_limit: int = 0,
    choose: Callable[[Sequence[Claimed]], Sequence[Claimed]] = tuple,
    now: datetime,
) -> list[Claimed]:
    """Take queued jobs of these tasks: higher priority first, then older.

    They are running from here on, under a new attempt number.

    Args:
        connection: a write transaction.
        dispatcher_id: who takes them.
        tasks: the names of the tasks that it can run.
        limit: how many to look at, beside map jobs.
        map_limit: how many map jobs to look at.
        choose: says for which of these, as they will be when they are claimed, there is room.
        now: becomes their `started_at`.
    """
    _PROMOTE.execute(connection, [{"now": now}])
    claimed = list(choose(_ready(connection, dispatcher_id, tasks, limit, map_limit)))
    if not claimed:
        return []
    ids = json.dumps([one.id for one in claimed])
    _CLAIM.execute(connection, [{"ids": ids, "holder": dispatcher_id, "now": now}])
    mine = {"dispatcher_id": dispatcher_id, "started_at": now}
    _BEGIN.execute(connection, [{"job_id": one.id, "number": one.attempt, **mine} for one in claimed])
    begun = [{"of_job": one.id} for one in claimed if one.item_count is not None]
    if begun:
        connection.execute(_BEGIN_MAP, begun)
    running = jobs.state_data(State.RUNNING)
    _TELL.execute(connection, [_event(one.id, one.version, one.attempt, now, running) for one in claimed])
    count_moved(connection, ((one.queue, State.QUEUED, State.RUNNING) for one in claimed))
    return claimed


def _ready(
    connection: Connection, dispatcher_id: int, tasks: Collection[str], limit: int, map_limit: int
) -> list[Claimed]:
    asked: dict[str, Any] = {"tasks": json.dumps(list(tasks)), "holder": dispatcher_id}
    # The rows may be large: they are read when it is known which.
    found = [
        row
        for (queue,) in QUEUES.rows(connection)
        for row in _READY_JOBS.rows(connection, queue=queue, room=limit, **asked)
    ]
    maps = _READY_MAPS.rows(connection, room=map_limit, **asked) if map_limit else []
    first = json.dumps([job_id for _, job_id in (*maps, *sorted(found)[:limit])])
    these = (Claimed(*row) for row in _THESE.rows(connection, ids=first))
    return sorted(these, key=lambda one: (-one.priority, one.id))


def is_any_due(source: Source, now: datetime) -> bool:
    """Whether there is anything that `claim` might take."""
    if _ANY_READY.first(source) is not None:
        return True
    due_at = next_due_at(source)
    return due_at is not None and due_at <= now


def next_due_at(source: Source) -> datetime | None:
    """Return the moment at which the next scheduled job may run; None if none is scheduled."""
    found = _NEXT_DUE.first(source)
    return None if found is None else found[0]


_IN_QUEUE: Final = exists().where(
    job.c.queue == tally.c.queue, job.c.ready_rank.is_not(None), job.c.item_count.is_(None)
)
_ANY_READY: Final = Quick(
    select(literal_column("1")).where(
        or_(
            exists().where(_QUEUED_IN, _IN_QUEUE),
            exists().where(
                job.c.ready_rank.is_not(None), job.c.item_count.is_not(None), job.c.queue.not_in(_PAUSED)
            ),
        )
    )
)
_NEXT_DUE: Final = Quick(
    select(job.c.due_at).where(job.c.due_at.is_not(None)).order_by(job.c.due_at).limit(1)
)


def cancel(connection: Connection, job_id: int, *, grace_seconds: float, now: datetime) -> State:
    """Cancel a queued job, or mark a running one to be stopped; return the state it is in now.

    Cancelling a cancelled job, or one that is being stopped, changes nothing.

    Raises:
        JobNotFoundError: no job has this id.
        WrongStateError: it has succeeded or failed.
    """
    found = jobs.get(connection, job_id)
    if found.state is State.CANCELLED or found.cancel_grace_seconds is not None:
        return found.state
    if found.state is State.RUNNING:
        data = jobs.state_data(State.RUNNING, reason="stopping")
        _write(connection, found, data, now, cancel_grace_seconds=grace_seconds)
        return State.RUNNING
    return _move(connection, found, Event.CANCEL, now, finished_at=now, due_at=None, error=None)


def cancel_queued(connection: Connection, ids: Collection[int], *, now: datetime) -> list[int]:
    """Cancel those of these jobs that are queued, and leave the others as they are; return the ids of the former."""
    move = MOVES[Event.CANCEL]
    rows = connection.execute(_OF_THESE, {"ids": list(ids), "states": list(move.sources)}).all()
    if rows:
        data = jobs.state_data(move.target)
        connection.execute(_CANCEL, [{"job_id": row.id, "now": now} for row in rows])
        connection.execute(
            insert(event), [_event(row.id, row.version + 1, row.attempt, now, data) for row in rows]
        )
        count_moved(connection, ((row.queue, State(row.state), move.target) for row in rows))
    return [row.id for row in rows]


_OF_THESE: Final = select(job.c.id, job.c.version, job.c.attempt, job.c.queue, job.c.state).where(
    job.c.id.in_(bindparam("ids", expanding=True)), job.c.state.in_(bindparam("states", expanding=True))
)
_CANCEL: Final = (
    update(job)
    .where(job.c.id == bindparam("job_id"))  # queued, for the write lock is ours since it was read
    .values(
        state=MOVES[Event.CANCEL].target,
        version=job.c.version + 1,
        finished_at=bindparam("now"),
        due_at=None,
        error=None,
    )
)


def requeue(connection: Connection, job_id: int, *, only_failed: bool = False, now: datetime) -> State:
    """Queue a failed or cancelled job again, with its budgets whole.

    Args:
        connection: a write transaction.
        job_id: of the job.
        only_failed: of a map job: what has succeeded is kept, and only the rest runs.
        now: becomes the moment of the event.

    Raises:
        JobNotFoundError: no job has this id.
        WrongStateError: it is in another state.
    """
    unset = ("started_at", "finished_at", "error", "progress")
    anew: dict[str, Any] = {**dict.fromkeys(unset), "retries_used": 0, "crash_retries_used": 0}
    found = jobs.get(connection, job_id)
    state = _move(connection, found, Event.REQUEUE, now, **anew)
    if found.item_count is not None:
        connection.execute(delete(item).where(item.c.job_id == job_id))
        forgotten = {} if only_failed else {"done": 0, "since": found.version}
        connection.execute(update(map_job).where(map_job.c.job_id == job_id).values(failed=0, **forgotten))
    return state


def _move(connection: Connection, found: jobs.Job, moved: Event, now: datetime, **values: Any) -> State:
    state = target(found.state, moved)
    if state is None:
        # What the arrow is called inside, a caller calls "retry".
        raise WrongStateError(found.id, found.state, "retry" if moved is Event.REQUEUE else moved)
    _write(connection, found, jobs.state_data(state), now, state=state, **values)
    count_moved(connection, [(found.queue, found.state, state)])
    return state


def _write(connection: Connection, found: jobs.Job, data: str, now: datetime, **values: Any) -> None:
    seq = found.version + 1
    guard = (job.c.id == found.id) & (job.c.state == found.state) & (job.c.version == found.version)
    if connection.execute(update(job).where(guard).values(version=seq, **values)).rowcount != 1:
        raise WrongStateError(found.id, found.state, "change")
    connection.execute(insert(event), [_event(found.id, seq, found.attempt, now, data)])


def _event(job_id: int, seq: int, number: int, at: datetime, data: str) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "seq": seq,
        "kind": EventKind.STATE.value,
        "attempt": number,
        "at": at,
        "data": data,
    }


class StopRequest(NamedTuple):
    """A running job that somebody asked to cancel."""

    id: int
    attempt: int
    grace_seconds: float


def stop_requests(source: Source, dispatcher_id: int) -> list[StopRequest]:
    """Return the jobs in this dispatcher's hands that are to be stopped."""
    return [StopRequest(*row) for row in _STOP_REQUESTS.rows(source, holder=dispatcher_id)]


_STOP_REQUESTS: Final = Quick(
    select(*(job.c[name] for name in ("id", "attempt", "cancel_grace_seconds"))).where(
        job.c.dispatcher_id == bindparam("holder"), job.c.cancel_grace_seconds.is_not(None)
    )
)


def held(connection: Connection, dispatcher_id: int) -> list[tuple[int, int]]:
    """Return (job id, attempt) of every job whose lease this dispatcher holds, what it claimed last first."""
    query = select(job.c.id, job.c.attempt).where(job.c.dispatcher_id == dispatcher_id)
    query = query.order_by(job.c.started_at.desc(), job.c.id.desc())
    return [(row.id, row.attempt) for row in connection.execute(query)]

"""Retention: final jobs go, when somebody asks for it or when they were kept long enough.

A job may have a million events, or there may be a million jobs, and nobody may hold the write lock for as long as
their removal takes.  Jobs that are known to be light go many at a time, each of them whole.  Any other is marked
first, and from then on nobody sees it or queues it again.  Its events follow, the oldest first, then its items that
have failed, in as many transactions as it takes, and its row last, which takes the rest along.  Whoever finds a mark
carries on, also after a crash.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection, bindparam, case, delete, exists, func, insert, select

from jobrunner.errors import WrongStateError
from jobrunner.lifecycle import FINAL, State
from jobrunner.store import jobs, queues
from jobrunner.store.engine import Store
from jobrunner.store.tables import event, idempotency_key, item, job, map_job, removal

LOCK_SECONDS: Final = (
    0.004  #: after which a transaction deletes no further row; what its commit takes comes on top
)
ROWS: Final = (
    4000  #: deleted in one transaction at most, for its commit takes longer the more it has to write
)
KEYS: Final = 250  #: of rows to be deleted, read at a time
JOBS: Final = 250  #: removed or marked at a time
LIGHT_EVENTS: Final = 20  #: of a light job, at most; and items
LIGHT_BYTES: Final = 256 << 10  #: of all light jobs of one transaction together
CHUNK: Final = 50  #: light jobs that are removed without a look at the clock
PAUSE_SECONDS: Final = 0.002  #: between two transactions: a writer that waits tries again each 0.3 ms

_T = TypeVar("_T")

_HAS_EXPIRED: Final = (job.c.state == bindparam("state")) & (job.c.finished_at <= bindparam("before"))
_OLDEST: Final = select(job.c.id).where(_HAS_EXPIRED).order_by(job.c.finished_at).limit(JOBS)
_IS_MARKED: Final = exists().where(removal.c.job_id == job.c.id)
_MARK_OLDEST: Final = insert(removal).from_select(["job_id"], _OLDEST.where(~_IS_MARKED))
_own_bytes = sum(
    (func.coalesce(func.length(job.c[name]), 0) for name in ("result", "error")), func.length(job.c.params)
)
_bytes_of_events = (
    select(func.sum(func.length(event.c.data))).where(event.c.job_id == job.c.id).scalar_subquery()
)
_bytes_of_items = (
    select(func.coalesce(func.sum(func.length(item.c.error)), 0))
    .where(item.c.job_id == job.c.id)
    .scalar_subquery()
)
_bytes_of_map = (
    select(func.length(map_job.c.spec) + func.coalesce(func.length(map_job.c.reduce_params), 0))
    .where(map_job.c.job_id == job.c.id)
    .scalar_subquery()
)
_has_few_rows = (job.c.version <= LIGHT_EVENTS) & (func.coalesce(job.c.item_count, 0) <= LIGHT_EVENTS)
_WEIGH_OLDEST: Final = _OLDEST.add_columns(
    case(  # else null
        (_has_few_rows & job.c.item_count.is_(None), _own_bytes + _bytes_of_events),
        (_has_few_rows, _own_bytes + _bytes_of_events + _bytes_of_map + _bytes_of_items),
    )
)
# Looked at once more: somebody may have asked for one of them again since they were weighed.
_STILL: Final = _HAS_EXPIRED.is_(True)  # IS: they are found by their ids, not by another index
_THESE: Final = job.c.id.in_(bindparam("ids", expanding=True)) & _STILL
_DELETE_EVENTS_OF_THESE: Final = delete(event).where(event.c.job_id.in_(select(job.c.id).where(_THESE)))
_DELETE_THESE: Final = delete(job).where(_THESE)  # ON DELETE CASCADE: attempts, labels, keys, marks

_FORGET_KEYS: Final = delete(idempotency_key).where(idempotency_key.c.job_id.in_(select(removal.c.job_id)))
_MARKED: Final = select(removal.c.job_id).order_by(removal.c.job_id).limit(JOBS)


class _Part(NamedTuple):
    """Rows of a job that go before it, each by itself.

    As text, for it is executed by the driver itself: that takes the keys one by one while it deletes.
    """

    keys: str
    delete: str


_PARTS: Final = (
    _Part(
        "SELECT seq FROM event WHERE job_id = ? ORDER BY seq LIMIT ?",
        "DELETE FROM event WHERE job_id = ? AND seq = ?",
    ),
    _Part(
        "SELECT number FROM item WHERE job_id = ? ORDER BY number LIMIT ?",
        "DELETE FROM item WHERE job_id = ? AND number = ?",
    ),
)
_DELETE_JOB: Final = "DELETE FROM job WHERE id = ?"


class _Turn:
    """The time in which one transaction may delete."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._end = monotonic() + LOCK_SECONDS

    @property
    def is_over(self) -> bool:
        return self._monotonic() >= self._end

    def share(self, keys: Iterable[_T]) -> Iterator[_T]:
        """Yield keys while there is time; the first one in any case, or nothing would ever get done."""
        for key in keys:
            yield key
            if self.is_over:
                return


class _Expired(NamedTuple):
    """What has expired of one state; `light` are the ids of the oldest, up to the first that is not light."""

    state: State
    before: datetime
    light: list[int]

    @property
    def asked(self) -> dict[str, Any]:
        """The parameters of the statements above."""
        return {"state": self.state, "before": self.before}


def remove_some(
    store: Store, before: Mapping[State, datetime], *, monotonic: Callable[[], float] = time.monotonic
) -> bool:
    """Remove some of what has expired, or of what somebody has begun to remove; return whether there was any.

    Args:
        store: written in one short transaction, unless there is nothing to do.
        before: by final state, up to which `finished_at` a job has been kept long enough; a state that is missing
            is kept for ever.
        monotonic: seconds, to see when the transaction has taken long enough.
    """
    with store.read() as connection:
        marked = connection.execute(select(exists().select_from(removal))).scalar_one()
        expired = None if marked else _find(connection, before)
    if not marked and expired is None:
        return False
    with store.write(durable=False) as connection:
        turn = _Turn(monotonic)
        if expired is not None and expired.light:
            _remove_light(connection, expired, turn)
            return True
        if expired is not None:
            connection.execute(_MARK_OLDEST, expired.asked)
            connection.execute(_FORGET_KEYS)
        _clear(connection, connection.execute(_MARKED).scalars().all(), turn)
    return True


def _find(connection: Connection, before: Mapping[State, datetime]) -> _Expired | None:
    """Return the first state of which something has expired, and weigh that, for nobody waits for a reader."""
    for state, moment in before.items():
        found = _Expired(state, moment, [])
        left = LIGHT_BYTES
        with connection.execute(_WEIGH_OLDEST, found.asked) as rows:
            for job_id, size in rows:
                left -= LIGHT_BYTES + 1 if size is None else size
                if left < 0:
                    return found
                found.light.append(job_id)
        if found.light:
            return found
    return None


def _remove_light(connection: Connection, expired: _Expired, turn: _Turn) -> None:
    for first in range(0, len(expired.light), CHUNK):
        these = {"ids": expired.light[first : first + CHUNK], **expired.asked}
        connection.execute(_DELETE_EVENTS_OF_THESE, these)
        connection.execute(_DELETE_THESE, these)
        if turn.is_over:
            break
    queues.forget_empty(connection)


def remove(store: Store, job_id: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Delete a final job with its history; return when all of it is gone.

    Should this be interrupted, the job is gone for all who look, and what is left of it goes by `remove_some`.

    Raises:
        JobNotFoundError: no job has this id, or somebody else is removing it.
        WrongStateError: it is not final.
    """
    with store.write(durable=True) as connection:
        turn = _Turn(monotonic)
        _, state = jobs.version(connection, job_id)
        if state not in FINAL:
            raise WrongStateError(job_id, state, "delete")
        connection.execute(insert(removal), [{"job_id": job_id}])
        connection.execute(_FORGET_KEYS)
        left = _clear_one(connection, job_id, turn)
    while left:
        time.sleep(PAUSE_SECONDS)
        with store.write(durable=False) as connection:
            left = _clear_one(connection, job_id, _Turn(monotonic))


def _clear_one(connection: Connection, job_id: int, turn: _Turn) -> bool:
    """Delete some of a marked job; return whether anything is left."""
    its_mark = _MARKED.where(removal.c.job_id == job_id)
    _clear(connection, connection.execute(its_mark).scalars().all(), turn)
    return connection.execute(its_mark).first() is not None


def _clear(connection: Connection, marked: Sequence[int], turn: _Turn) -> None:
    """Delete rows of these jobs while there is time, then the jobs if nothing is left of them.

    One row may be as large as a result, and what it costs to delete is known only when it is done: so each is
    deleted by itself, and there are no more as soon as the turn is over.
    """
    driver: Any = connection.connection.dbapi_connection
    left = ROWS
    for part in _PARTS:
        keys = islice(_keys(driver, part, marked), left)
        left -= driver.executemany(part.delete, turn.share(keys)).rowcount
        if left < ROWS and (not left or turn.is_over):
            return
    driver.executemany(_DELETE_JOB, turn.share((job_id,) for job_id in marked))
    if marked:
        queues.forget_empty(connection)


def _keys(driver: Any, part: _Part, marked: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the keys of all such rows of these jobs; each is deleted before the next is asked for."""
    for job_id in marked:
        while found := driver.execute(part.keys, (job_id, KEYS)).fetchall():
            for (key,) in found:
                yield job_id, key
            if len(found) < KEYS:
                break

"""Where submissions are stored: those that come at the same time in one transaction, with one fsync for all.

Whoever comes first stores for all who have come; who comes meanwhile waits for the next turn.  Nobody is answered
before his jobs are on disk.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from sqlalchemy import Connection

from jobrunner.api.refusals import IdempotencyMismatchError
from jobrunner.clock import utc_now
from jobrunner.errors import QueueFullError, StoreError, TooManyQueuesError
from jobrunner.lifecycle import State
from jobrunner.store import idempotency, items, jobs, queues
from jobrunner.store.engine import CHECKPOINT_BYTES_WITHOUT_DAEMON, Store
from jobrunner.store.items import MapJob
from jobrunner.store.jobs import Job, NewJob
from jobrunner.store.quick import Source

MAX_QUEUES: Final = 1000  #: a counter for each is kept, and read
TURN_JOBS: Final = 10_000  #: that are stored in one transaction, beside the one submission that passes this
_log: Final = logging.getLogger(__name__)


class Claim(NamedTuple):
    """An Idempotency-Key, whose it is, and the SHA-256 of what was asked with it."""

    owner: int
    key: str
    digest: str

    def replayed(self, source: Source) -> range | None:
        """Return the ids of the jobs that this key has made; None if it is new.

        Raises:
            IdempotencyMismatchError: it was used to ask for something else.
        """
        kept = idempotency.find(source, self.owner, self.key)
        if kept is not None and kept.digest != self.digest:
            raise IdempotencyMismatchError(self.key)
        return None if kept is None else kept.ids

    def keep(self, connection: Connection, ids: Sequence[int]) -> None:
        """Remember these jobs, in the transaction that stores them."""
        idempotency.keep(connection, self.owner, self.key, self.digest, ids)


class Stored(NamedTuple):
    """What was stored: now, or when the same was asked before; `first` is the first of the jobs, as it stood then.

    Attributes:
        map_job: what that has beside its row, if it is a map job.
    """

    ids: Sequence[int]
    first: Job
    map_job: MapJob | None
    is_replayed: bool

    @classmethod
    def of(cls, source: Source, ids: Sequence[int], *, is_replayed: bool) -> Self:
        """Look at the first of these jobs.

        Raises:
            JobNotFoundError: it is not there any more.
        """
        first = jobs.get(source, ids[0])
        map_job = None if first.item_count is None else items.get(source, first.id)
        return cls(ids, first, map_job, is_replayed)


@dataclass
class _Submission:
    """One request's jobs, and what has become of them."""

    new: Sequence[NewJob]
    claim: Claim | None
    stored: Stored | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.stored is not None or self.error is not None


class Intake:
    """Stores submissions; many threads use it."""

    def __init__(self, store: Callable[[], Store], ring: Callable[[], None], *, max_queued: int) -> None:
        """Open nothing yet: it must survive a fork.

        Args:
            store: where to store.
            ring: called after each commit.
            max_queued: how many jobs may be queued.
        """
        self._store = store
        self._ring = ring
        self._max_queued = max_queued
        self._waiting: deque[_Submission] = deque()
        self._turn = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many submissions wait for their turn."""
        return len(self._waiting)

    def store(self, new: Sequence[NewJob], claim: Claim | None) -> Stored:
        """Store the jobs, all or none, unless the same `claim` has stored them before.

        Raises:
            QueueFullError: as many jobs are queued as may be.
            TooManyQueuesError: they name a queue too many.
            IdempotencyMismatchError: the claim was used for something else.
            StoreUnavailableError: nothing was stored.
        """
        mine = _Submission(new, claim)
        self._waiting.append(mine)
        with self._turn:
            while not mine.is_done:
                self._store_some()
        if mine.stored is None:
            raise mine.error or AssertionError("whoever is not refused is stored")
        return mine.stored

    def _store_some(self) -> None:
        taken: list[_Submission] = []
        try:
            self._take(taken)
            self._store_together(taken)
        finally:
            for one in taken:  # whatever ends this thread must not have others wait for ever
                if not one.is_done:
                    one.error = RuntimeError("the thread that was to store this was ended")

    def _take(self, taken: list[_Submission]) -> None:
        """Take some of those that wait; two with the same key take turns, for the second is a replay of the first."""
        jobs_taken = 0
        keys = set()
        while self._waiting and jobs_taken < TURN_JOBS:
            claim = self._waiting[0].claim
            if claim is not None and claim[:2] in keys:
                break
            keys |= set() if claim is None else {claim[:2]}
            taken.append(self._waiting.popleft())
            jobs_taken += len(taken[-1].new)

    def _store_together(self, taken: Sequence[_Submission]) -> None:
        try:
            self._commit(taken)
        except Exception as error:  # noqa: BLE001 - it is raised in each thread whose jobs are not stored
            for one in taken:
                one.stored, one.error = None, None
            if len(taken) > 1 and not isinstance(error, StoreError):
                for one in taken:  # the fault of one is not that of the others
                    self._store_together([one])
                return
            for one in taken:
                one.error = error

    def _commit(self, taken: Sequence[_Submission]) -> None:
        store = self._store()
        # Before the write, not after it: if this fails, the answer says so, and nothing was stored.
        store.checkpoint_if_large(CHECKPOINT_BYTES_WITHOUT_DAEMON)
        with store.write(durable=True) as connection:
            if admitted := list(self._admitted(connection, taken)):
                _submit(connection, admitted)
        if admitted:
            try:
                self._ring()
            except Exception:  # noqa: BLE001 - what is stored stays stored, and is found a little later
                _log.exception("nobody could be woken")

    def _admitted(self, connection: Connection, taken: Sequence[_Submission]) -> Iterator[_Submission]:
        """Yield those that are to be stored; replay or refuse the others."""
        queued, names = jobs.counts(connection)[State.QUEUED], queues.names(connection)
        for one in taken:
            try:
                if one.claim is not None and (known := one.claim.replayed(connection)) is not None:
                    one.stored = Stored.of(connection, known, is_replayed=True)
                    continue
                require_room(queued, len(one.new), self._max_queued)
                _require_few(wanted := names | {job.queue for job in one.new})
            except (QueueFullError, TooManyQueuesError, IdempotencyMismatchError) as refusal:
                one.error = refusal
            else:
                queued, names = queued + len(one.new), wanted
                yield one


def _submit(connection: Connection, admitted: Sequence[_Submission]) -> None:
    """Store them all with one statement for each table."""
    ids = jobs.submit(connection, [job for one in admitted for job in one.new], now=utc_now())
    begin = 0
    for one in admitted:
        mine = ids[begin : begin + len(one.new)]
        begin += len(one.new)
        if one.claim is not None:
            one.claim.keep(connection, mine)
        one.stored = Stored.of(connection, mine, is_replayed=False)


def require_room(queued: int, wanted: int, limit: int) -> None:
    """Raise QueueFullError unless so many more jobs may be queued."""
    if queued + wanted > limit:
        raise QueueFullError(queued, limit)


def _require_few(names: Collection[str]) -> None:
    if len(names) > MAX_QUEUES:
        raise TooManyQueuesError(MAX_QUEUES)

"""What starts next, in which worker: single jobs in bundles, map jobs by chunks, each in its turn."""

import itertools
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from jobrunner.clock import Clock
from jobrunner.dispatcher.bundles import Packer
from jobrunner.dispatcher.catalogue import Catalogue
from jobrunner.dispatcher.pool import WorkerPool
from jobrunner.dispatcher.sweep import Sweep
from jobrunner.dispatcher.sweeps import Sweeps
from jobrunner.dispatcher.tickets import Chunk, Ran, Ticket
from jobrunner.dispatcher.turns import Turns
from jobrunner.errors import StoreError
from jobrunner.store import maps, moves, queues
from jobrunner.store.engine import Store
from jobrunner.store.moves import Claimed

#: until an item is tried again whose last run is not recorded yet
AGAIN: Final = timedelta(seconds=0.05)


class Starter:
    """Hands tickets to free workers.

    Attributes:
        sweeps: the map jobs in hand.
    """

    def __init__(self, store: Store, pool: WorkerPool, *, max_log_bytes: int, clock: Clock) -> None:
        self._store = store
        self._pool = pool
        self._clock = clock
        self._packer = Packer()
        self._turns = Turns()
        self.sweeps = Sweeps(store, max_log_bytes=max_log_bytes)
        self._serials = itertools.count(1)
        self._bundles: list[list[Claimed]] = []  # claimed, and not started if the store failed in between
        self._shortened: dict[
            tuple[int, int], int
        ] = {}  # chunks in hand, and what the store does not know of them
        self._paused: Collection[str] = ()

    def serve(self, catalogue: Catalogue) -> None:
        """Run only these tasks from now on; a map job of another goes back to the queue."""
        self._code = catalogue.code
        self._options = {task["name"]: task["options"] for task in catalogue.tasks}
        self.sweeps.keep_only(self._options)

    @property
    def has_tasks(self) -> bool:
        """Whether there is anything that it could run."""
        return bool(self._options)

    def returned(self, ticket: Ticket, ran: Ran, now: datetime) -> None:
        """Take note of what became of a ticket."""
        if ticket.chunk is None:
            self._packer.learn(ticket.task, ran.seconds)
        else:
            self._shortened.pop((ticket.job_id, ticket.chunk.first), None)
        self.sweeps.returned(ticket, ran, now)

    def start(
        self, dispatcher_id: int, now: datetime, *, secure: Callable[[], None], ring: Callable[[], None]
    ) -> bool:
        """Start what is due, as far as workers are free; return whether anything was started.

        Args:
            dispatcher_id: who claims.
            now: when.
            secure: commits durably, and with it what was claimed.
            ring: called when something was claimed.
        """
        # Committed as running before it runs: a crash in between loses a moment, never a job, for its lease
        # is found at the next start.
        free = self._pool.free
        if not free or not self._options:
            return False
        self.sweeps.read_new(now)
        is_news = not self._bundles and self._claim(dispatcher_id, now)
        if any(one.crash_retries == 0 for bundle in self._bundles for one in bundle):
            # At most once, even if the power fails: this commit takes the claim to the disk with it.
            secure()
        bundles, self._bundles = self._bundles, []
        for bundle in bundles:
            self._pool.start([self._ticket(one) for one in bundle])
        if is_news:  # to whoever watches; those who work come first
            ring()
        self.sweeps.read_new(now)
        self._hand_out(now)
        return self._pool.free < free

    def reduce(self, ready: Sequence[Sweep], secure: Callable[[], None]) -> None:
        """Start the reduce tasks of these, as far as workers are free; for `secure` see `start`."""
        due = [sweep for sweep in ready if sweep.work.queue not in self._paused][: self._pool.free]
        if any(sweep.work.crash_retries == 0 for sweep in due):
            secure()
        for sweep in due:
            work = sweep.work
            options = self._options.get(work.reduce_task or "", {})
            ticket = self._ticket(sweep.job)._replace(
                task=work.reduce_task or "",
                params=work.reduce_params or "{}",
                timeout_seconds=options.get("timeout"),
                memory_limit_bytes=options.get("memory_limit"),
                reduces=True,
            )
            self._pool.start([ticket])
            sweep.is_reducing = True

    # -- claiming ---------------------------------------------------------------------------------

    def _claim(self, dispatcher_id: int, now: datetime) -> bool:
        """Claim jobs, and lay them into bundles; return whether there were any."""
        self._paused = queues.paused(self._store) if len(self.sweeps) else ()
        # Which takes no lock from those who have work for it.
        if not moves.is_any_due(self._store, self._clock()):
            return False
        free = self._pool.free
        planned: list[list[Claimed]] = []

        def choose(ready: Sequence[Claimed]) -> list[Claimed]:
            new_maps, planned[:] = self._plan(ready, free, self.sweeps.offering(now, self._paused))
            return [*new_maps, *(one for bundle in planned for one in bundle)]

        with self._store.write(durable=False) as connection:
            claimed = moves.claim(
                connection,
                dispatcher_id,
                tasks=list(self._options),
                limit=self._packer.limit(free),
                map_limit=max(1, self.sweeps.room(self._paused)),
                choose=choose,
                # Not the step's `now`: a job may have been submitted while this waited for the write lock.
                now=self._clock(),
            )
        by_id = {one.id: one for one in claimed}
        self.sweeps.admit([one for one in claimed if one.item_count is not None])
        self._bundles = [[by_id[one.id] for one in bundle] for bundle in planned]
        if planned:
            self._turns.had_jobs()
        return bool(claimed)

    def _plan(
        self, ready: Sequence[Claimed], free: int, sweeps: Sequence[Sweep]
    ) -> tuple[list[Claimed], list[list[Claimed]]]:
        """Return which map jobs to claim, and single jobs in bundles for the workers that are theirs."""
        # Those of lower priority than one in hand would only wait in hand, too.
        floor = max((one.job.priority for one in sweeps), default=None)
        # Where too many are in hand, one of higher priority than all of them comes in nevertheless.
        least = floor if floor is None or self.sweeps.room(self._paused) else floor + 1
        new_maps = [
            one for one in ready if one.item_count is not None and (least is None or one.priority >= least)
        ]
        floor = max((one.priority for one in new_maps), default=floor)
        jobs = [one for one in ready if one.item_count is None and (floor is None or one.priority >= floor)]
        places = self._turns.of_jobs(free, jobs, sweeps, new_maps)
        return new_maps, self._packer.pack(jobs, places) if places else []

    def _ticket(self, one: Claimed, **more: Any) -> Ticket:
        return Ticket(
            serial=next(self._serials),
            job_id=one.id,
            attempt=one.attempt,
            task=one.task,
            params=one.params,
            timeout_seconds=one.timeout_seconds,
            memory_limit_bytes=one.memory_limit_bytes,
            code=self._code,
            **more,
        )

    # -- chunks -----------------------------------------------------------------------------------

    def _hand_out(self, now: datetime) -> None:
        """Give each worker that is still free a chunk of the sweep whose turn it is."""
        taken: list[tuple[Sweep, Chunk]] = []
        if self.sweeps.may_give_back:
            self._take_back()
        for _ in range(self._pool.free):
            sweep = self._turns.next_of(self.sweeps.offering(now, self._paused))
            if sweep is not None:
                taken.append((sweep, sweep.take(now, self._pool.size)))
        if not taken:
            return
        try:
            opened = self._open(taken)
        except StoreError:
            for sweep, chunk in taken:
                sweep.put_back(chunk, now)
            raise
        for sweep, chunk in taken:
            if (sweep, chunk) in opened:
                self._pool.start([self._ticket(sweep.job, chunk=chunk)])
            else:
                sweep.put_back(chunk, now + AGAIN)

    def _open(self, taken: Sequence[tuple[Sweep, Chunk]]) -> list[tuple[Sweep, Chunk]]:
        """Note that these are handed out; leave out those whose job has ended, or item is not known to be back."""
        # For items that must not run twice, a chunk is on the disk before it begins.
        with self._store.write(durable=any(chunk.once for _, chunk in taken)) as connection:
            for sweep in {sweep for sweep, _ in taken}:
                if not maps.is_in(connection, sweep.job.id, sweep.job.attempt):
                    sweep.drop()
            opened = [
                (sweep, chunk)
                for sweep, chunk in taken
                if not sweep.is_unwanted
                and not (sweep.may_be_open(chunk) and maps.is_open(connection, sweep.job.id, chunk.first))
            ]
            maps.shorten_chunks(connection, self._shortened)
            if opened:
                maps.open_chunks(
                    connection, [(sweep.job.id, chunk.first, chunk.item_count) for sweep, chunk in opened]
                )
        self._shortened.clear()
        return opened

    def _take_back(self) -> None:
        """Hand out once more what chunks in hand will not come to."""
        for ticket, item in self._pool.given_back():
            if ticket.chunk is not None and self.sweeps.give_back(ticket, item):
                self._shortened[ticket.job_id, ticket.chunk.first] = item - ticket.chunk.first

"""What starts next: single jobs in bundles, map jobs by chunks, each in its turn."""

import itertools
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from jobrunner.clock import Clock
from jobrunner.dispatcher.bundles import Packer
from jobrunner.dispatcher.catalogue import Catalogue
from jobrunner.dispatcher.pool import WorkerPool
from jobrunner.dispatcher.shelf import Laid, Shelf
from jobrunner.dispatcher.sweep import Sweep
from jobrunner.dispatcher.sweeps import Sweeps
from jobrunner.dispatcher.tickets import Chunk, Ran, Ticket
from jobrunner.dispatcher.turns import Turns
from jobrunner.errors import StoreError
from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, Report
from jobrunner.store import maps, moves, queues
from jobrunner.store import reports as store_reports
from jobrunner.store.engine import Store
from jobrunner.store.moves import Claimed

#: until an item is tried again whose last run is not recorded yet
AGAIN: Final = timedelta(seconds=0.05)
#: for the Pool's own thread to hand over what was started: else this one would claim what comes next before it
HAND_OVER_SECONDS: Final = 0.0001


class Starter:
    """Hands tickets to free workers.

    Attributes:
        sweeps: the map jobs in hand.
    """

    def __init__(self, store: Store, pool: WorkerPool, *, max_log_bytes: int, clock: Clock) -> None:
        self._store = store
        self._pool = pool
        self._clock = clock
        self._packer = Packer(pool.size)
        self._turns = Turns()
        self.sweeps = Sweeps(store, max_log_bytes=max_log_bytes)
        self._serials = itertools.count(1)
        self._shelf = Shelf(pool.size)
        self._has_turn_to_keep = False  # whether the next in turn waits for a worker that is free
        self._is_unsecured = False  # whether something on it must not start before its claim is on the disk
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
        self._shelf.returned(ticket)
        if ticket.chunk is None:
            self._packer.learn(ticket.task, ran.seconds)
        else:
            self._shortened.pop((ticket.job_id, ticket.chunk.first), None)
        self.sweeps.returned(ticket, ran, now)

    def start(
        self, dispatcher_id: int, now: datetime, *, secure: Callable[[], None], is_rung: bool
    ) -> tuple[bool, bool]:
        """Start what is due, as far as workers are free, and lay a little more ready.

        Args:
            dispatcher_id: who claims.
            now: when.
            secure: commits durably, and with it what was claimed.
            is_rung: whether somebody says that there is something.

        Returns:
            Whether something was claimed, and whether there may be more to do at once.
        """
        # Committed as running before it runs: a crash in between loses a moment, never a job, for its lease
        # is found at the next start.
        free = self._pool.free
        if not self._options:
            return False, False
        self._hand_out(now, secure)  # what lies ready: nobody waits for the store
        # What cannot be claimed ahead keeps its turn: until a worker is free nothing comes before it.
        ahead = 0 if self._has_turn_to_keep and not self._pool.free else self._shelf.places(now)
        if not (self._pool.free or ahead):
            return False, False
        self.sweeps.read_new(now)
        is_news, ahead = self._claim(dispatcher_id, now, self._pool.free, ahead, is_rung=is_rung)
        self._hand_out(now, secure)
        self.sweeps.read_new(now)
        self._lay_chunks(now, self._pool.free, ahead)
        self._hand_out(now, secure)
        # A sweep may have had less to do than workers were kept for it; what has just started may be short.
        has_room = self._shelf.places(now) > 0 or (self._pool.free > 0 and len(self.sweeps) > 0)
        return is_news, has_room and self._pool.free < free

    def look(self) -> None:
        """See which queues are paused."""
        self._paused = queues.paused(self._store) if self.sweeps or self._shelf else ()

    def give_back(self, now: datetime, is_unwanted: Callable[[Ticket], bool]) -> bool:
        """Give back to the queue, or to its map job, what lies ready and is not wanted, or will not start soon.

        Returns:
            Whether there was anything.
        """
        tickets = self._shelf.unwanted(
            now, self._pool.free, self._paused, lambda one: one.task not in self._options or is_unwanted(one)
        )
        if not tickets:
            return False
        with self._store.write(durable=True) as connection:
            store_reports.record(connection, [_given_back(ticket, now) for ticket in tickets])
        self._shelf.remove(tickets)
        for ticket in tickets:
            self.sweeps.put_back(ticket, now)
        return True

    @property
    def has_ready(self) -> bool:
        """Whether something is claimed that no worker has."""
        return bool(self._shelf)

    def goes_back_at(self) -> datetime | None:
        """Return when `give_back` has something to do; None if it is not known to have."""
        return self._shelf.goes_back_at()

    def _hand_out(self, now: datetime, secure: Callable[[], None]) -> None:
        """Start what lies ready, as far as workers are free."""
        if self._pool.free and self._is_unsecured:
            secure()
            self._is_unsecured = False
        has_started = False
        while self._pool.free and self._shelf:
            laid = self._shelf.take(now)
            tickets = laid.tickets
            if tickets[0].code != self._code:
                tickets = [ticket._replace(code=self._code) for ticket in tickets]
            if laid.sweep is not None:
                tickets = [laid.sweep.with_what_is_left(ticket) for ticket in tickets]
            self._pool.start(tickets)
            has_started = True
        if has_started:
            time.sleep(HAND_OVER_SECONDS)

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

    def _claim(
        self, dispatcher_id: int, now: datetime, free: int, ahead: int, *, is_rung: bool
    ) -> tuple[bool, int]:
        """Claim jobs, and lay them ready in bundles.

        Returns:
            Whether there were any, and how many of the places for work that is claimed ahead are left.
        """
        self.look()
        self._has_turn_to_keep = False
        # To look takes no lock from those who have work for it.  After a ring there most likely is work, and it would
        # only take time; a ring for something else, or for several dispatchers, costs an empty write transaction.
        if not (is_rung or moves.is_any_due(self._store, self._clock())):
            return False, ahead
        planned: list[list[Claimed]] = []
        left = ahead

        def choose(ready: Sequence[Claimed]) -> list[Claimed]:
            nonlocal left
            new_maps, jobs, places = self._plan(ready, free + ahead, self.sweeps.offering(now, self._paused))
            planned[:] = self._packer.pack(jobs, min(free, places), max(0, places - free))
            taken = [one for bundle in planned for one in bundle]
            has_long = len(planned) < places and len(taken) < len(jobs)
            self._has_turn_to_keep = has_long or bool(new_maps and not free)
            left = 0 if self._has_turn_to_keep else ahead - max(0, places - free)
            return (new_maps if free else []) + taken

        with self._store.write(durable=False) as connection:
            claimed = moves.claim(
                connection,
                dispatcher_id,
                tasks=list(self._options),
                limit=self._packer.limit(free + ahead),
                map_limit=max(1, self.sweeps.room(self._paused)),
                choose=choose,
                # Not the step's `now`: a job may have been submitted while this waited for the write lock.
                now=self._clock(),
            )
        self.sweeps.admit([one for one in claimed if one.item_count is not None])
        for bundle in planned:
            self._lay(bundle)
        if planned:
            self._turns.had_jobs()
        return bool(claimed), left

    def _lay(self, bundle: Sequence[Claimed]) -> None:
        # At most once, even if the power fails: before it starts, a commit takes the claim to the disk.
        self._is_unsecured |= any(one.crash_retries == 0 for one in bundle)
        is_short = all(map(self._packer.is_short, bundle))
        tickets = [self._ticket(one) for one in bundle]
        self._shelf.lay(Laid(tickets, [one.queue for one in bundle], None, is_short))

    def _plan(
        self, ready: Sequence[Claimed], places: int, sweeps: Sequence[Sweep]
    ) -> tuple[list[Claimed], list[Claimed], int]:
        """Return which map jobs to claim, which single jobs may be claimed, and how many of the places are theirs."""
        # Those of lower priority than one in hand would only wait in hand, too.
        floor = max((one.job.priority for one in sweeps), default=None)
        # Where too many are in hand, one of higher priority than all of them comes in nevertheless.
        least = floor if floor is None or self.sweeps.room(self._paused) else floor + 1
        new_maps = [
            one for one in ready if one.item_count is not None and (least is None or one.priority >= least)
        ]
        floor = max((one.priority for one in new_maps), default=floor)
        jobs = [one for one in ready if one.item_count is None and (floor is None or one.priority >= floor)]
        return new_maps, jobs, self._turns.of_jobs(places, jobs, sweeps, new_maps)

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

    def _lay_chunks(self, now: datetime, free: int, ahead: int) -> None:
        """Lay chunks ready, each of the sweep whose turn it is."""
        taken: list[tuple[Sweep, Chunk]] = []
        if self.sweeps.may_give_back:
            self._take_back()
        for place in range(free + ahead):
            offering = self.sweeps.offering(now, self._paused)
            sweep = self._turns.next_of(offering, ahead=place >= free)
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
                tickets = [self._ticket(sweep.job, chunk=chunk)]
                self._shelf.lay(Laid(tickets, [sweep.work.queue], sweep, sweep.is_short))
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


def _given_back(ticket: Ticket, now: datetime) -> Report:
    if ticket.chunk is None:
        return Report(ticket.job_id, ticket.attempt, now, ended=Ended(Ending.RELEASED))
    return Report(ticket.job_id, ticket.attempt, now, closed=ticket.chunk.first)

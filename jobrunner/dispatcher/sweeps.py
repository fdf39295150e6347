"""The map jobs that a dispatcher has in hand: it hands out their chunks, and brings them to an end."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from jobrunner.dispatcher.sweep import Sweep
from jobrunner.dispatcher.tickets import Ran, Ticket
from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, Report
from jobrunner.store import maps
from jobrunner.store import reports as store_reports
from jobrunner.store.engine import Store
from jobrunner.store.moves import Claimed

MOST: Final = 64  #: map jobs in hand at a time; the others stay queued


class Sweeps:
    """All of them, by (job id, attempt)."""

    def __init__(self, store: Store, *, max_log_bytes: int) -> None:
        self._store = store
        self._max_log_bytes = max_log_bytes
        self._new: list[Claimed] = []  # claimed, and not read yet: the store may fail in between
        self._sweeps: dict[tuple[int, int], Sweep] = {}

    def __len__(self) -> int:
        return len(self._sweeps) + len(self._new)

    def room(self, paused: Collection[str]) -> int:
        """Return how many more may be claimed; those of a paused queue are in nobody's way."""
        held = sum(one.work.queue not in paused for one in self._sweeps.values())
        return max(0, MOST - held - len(self._new))

    def admit(self, claimed: Sequence[Claimed]) -> None:
        """Take map jobs that were just claimed."""
        self._new += claimed

    def offering(self, now: datetime, paused: Collection[str]) -> list[Sweep]:
        """Return those that have a chunk for a free worker."""
        return [one for one in self._sweeps.values() if one.work.queue not in paused and one.offers(now)]

    def read_new(self, now: datetime) -> None:
        """Read what is to be done of those that were admitted."""
        while self._new:
            with self._store.read() as connection:
                work = maps.work(connection, self._new[0].id)
            claimed = self._new.pop(0)
            self._sweeps[claimed.id, claimed.attempt] = Sweep(
                claimed, work, log_bytes=self._max_log_bytes, now=now
            )

    def returned(self, ticket: Ticket, ran: Ran, now: datetime) -> None:
        """Take note that a ticket has ended."""
        sweep = self._sweeps.get((ticket.job_id, ticket.attempt))
        if sweep is not None and ticket.chunk is not None:
            sweep.returned(ticket.chunk, ran, now)
        elif sweep is not None and ticket.reduces:
            self._forget(sweep)

    def give_back(self, ticket: Ticket, item: int) -> bool:
        """Take back what a chunk in hand will not come to, from `item` on; return whether that is news."""
        sweep = self._sweeps.get((ticket.job_id, ticket.attempt))
        if sweep is None or ticket.chunk is None:
            return False
        return sweep.give_back(ticket.chunk.first, item)

    def put_back(self, ticket: Ticket, now: datetime) -> None:
        """Take back a chunk that was not handed out after all."""
        sweep = self._sweeps.get((ticket.job_id, ticket.attempt))
        if sweep is not None and ticket.chunk is not None:
            sweep.put_back(ticket.chunk, now)

    @property
    def may_give_back(self) -> bool:
        """Whether some chunk in hand has more than one item."""
        return any(upto > first + 1 for one in self._sweeps.values() for first, upto in one.in_hand.items())

    def close(self, ending: Ending, keys: Collection[tuple[int, int]] | None = None) -> None:
        """Hand out nothing more of these, or of all, and end their attempts so."""
        if keys is None:
            self._new.clear()  # held, and not begun: whoever gives back what is held gives them back
        for key, sweep in self._sweeps.items():
            if keys is None or key in keys:
                sweep.closing = sweep.closing or ending

    def keep_only(self, tasks: Collection[str]) -> None:
        """Give back those whose task is not among these."""
        self.close(Ending.RELEASED, {key for key, one in self._sweeps.items() if one.job.task not in tasks})

    def look(self, held: Collection[tuple[int, int]]) -> None:
        """Drop those that are not held any more: their jobs have moved on."""
        for key, sweep in self._sweeps.items():
            if key not in held:
                sweep.drop()

    @property
    def unwanted(self) -> set[tuple[int, int]]:
        """Those whose tickets are of no use any more."""
        return {key for key, sweep in self._sweeps.items() if sweep.is_unwanted}

    @property
    def over(self) -> list[Sweep]:
        """Those of which nothing is in hand and nothing more is handed out."""
        return [sweep for sweep in self._sweeps.values() if sweep.is_over]

    def step(self, now: datetime) -> list[Sweep]:
        """End what is to be ended; return those whose reduce task comes next.

        All that was said of a chunk is recorded by the time it is closed: only then its job goes on, or ends.
        """
        ready = []
        for sweep in self.over:
            if sweep.is_unwanted or (sweep.closing is None and not sweep.may_reduce):
                self._forget(sweep)  # the result writer ends it, or has done so
            elif self._is_recorded(sweep):
                if sweep.closing is None:
                    ready.append(sweep)
                else:
                    self._end(sweep, sweep.closing, now)
        return ready

    def due_at(self, now: datetime) -> datetime | None:
        """Return when an item is tried again that is not due yet; None if none is."""
        # One that is due and still here may not be handed out: its queue is paused, say.
        times = (one.due_at() for one in self._sweeps.values() if one.closing is None)
        return min((time for time in times if time is not None and time > now), default=None)

    def _forget(self, sweep: Sweep) -> None:
        self._sweeps.pop((sweep.job.id, sweep.job.attempt), None)

    def _is_recorded(self, sweep: Sweep) -> bool:
        with self._store.read() as connection:
            return not maps.has_open_chunks(connection, sweep.job.id)

    def _end(self, sweep: Sweep, ending: Ending, now: datetime) -> None:
        with self._store.write(durable=True) as connection:
            report = Report(sweep.job.id, sweep.job.attempt, now, (), Ended(ending))
            store_reports.record(connection, [report])
        self._forget(sweep)

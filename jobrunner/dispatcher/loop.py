"""The daemon's loop: hear what ended, stop what must stop, give back what was lost, start what is due, rest.

`step` does all there is to do at one instant and says how long to rest.  Tests call `step` themselves and
never sleep.
"""

import logging
import os
import socket
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from jobrunner import kernel
from jobrunner.clock import Clock, utc_now
from jobrunner.dispatcher import losses
from jobrunner.dispatcher.catalogue import Catalogue
from jobrunner.dispatcher.housekeeping import Housekeeping
from jobrunner.dispatcher.losses import Victim
from jobrunner.dispatcher.notify import notify
from jobrunner.dispatcher.pool import WorkerPool
from jobrunner.dispatcher.slots import Counts, Stop, counts, last_seen
from jobrunner.dispatcher.starter import Starter
from jobrunner.lifecycle import Ending, State
from jobrunner.settings import Settings
from jobrunner.store import catalogue as store_catalogue
from jobrunner.store import dispatchers, jobs, lost, moves, tally, throughput
from jobrunner.store import reports as store_reports
from jobrunner.store.engine import CHECKPOINT_BYTES, CHECKPOINT_BYTES_IDLE, Store
from jobrunner.wakeup import DISPATCHERS, WATCHERS, is_heard, wake

BEAT: Final = timedelta(seconds=1)  #: between heartbeats, and the longest rest: the slow look beside the bell
#: from a claim until those who watch are told; of jobs that have ended by then, the result writer tells them
TELL: Final = timedelta(seconds=0.02)
QUIET_BEATS: Final = 2  #: without anything to do, until there is time for what is not urgent

log = logging.getLogger("jobrunner.dispatcher")


class Dispatcher:
    """One dispatcher, from its entry in the store to its end."""

    def __init__(
        self,
        store: Store,
        pool: WorkerPool,
        catalogue: Catalogue,
        settings: Settings,
        *,
        now: datetime,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._pool = pool
        self._settings = settings
        self._clock = clock
        self._housekeeping = Housekeeping(store, settings, now=now)
        self._starter = Starter(store, pool, max_log_bytes=settings.max_log_bytes, clock=clock)
        self._sweeps = self._starter.sweeps
        self._next_beat = now
        self._counted = Counts(0, 0, 0, 0.0)
        self._counted_at = now
        self._queued = 0
        self._quiet_beats = 0
        self._drain_until: datetime | None = None
        self._look_for_stops = True
        self._is_rung = False
        self._stops: dict[tuple[int, int], Stop] = {}
        self._may_start_more = False
        self._tell_at: datetime | None = None  # those who watch
        self._untold = False  # whether some stop has not reached its worker yet
        self._watched: dict[
            int, tuple[datetime, int]
        ] = {}  # of others: heartbeat, our beats since it changed
        self.id = 0
        self.id = self._register(catalogue, now)
        self._take(catalogue)

    # -- what is asked of it from outside --------------------------------------------------------

    def serve(self, catalogue: Catalogue, now: datetime) -> None:
        """Publish these tasks, and run only them from now on."""
        with self._store.write(durable=False) as connection:
            _publish(connection, self.id, catalogue, now)
        self._take(catalogue)

    def _take(self, catalogue: Catalogue) -> None:
        self._starter.serve(catalogue)
        for module, why in catalogue.errors.items():
            log.error("task module %s cannot be imported, its tasks are not served: %s", module, why)

    def drain(self, now: datetime, seconds: float) -> None:
        """Start nothing more; what still runs after `seconds` goes back to the queue, uncharged."""
        self._drain_until = now + timedelta(seconds=seconds)
        self._sweeps.close(Ending.RELEASED)

    def hear_bell(self) -> None:
        """Somebody has submitted or cancelled something."""
        self._look_for_stops = self._is_rung = True

    @property
    def is_drained(self) -> bool:
        """Whether it was told to drain, and nothing runs any more."""
        return self._drain_until is not None and self._is_idle

    @property
    def _is_idle(self) -> bool:
        return self._pool.free == self._pool.size and not (self._sweeps or self._starter.has_ready)

    # -- the loop --------------------------------------------------------------------------------

    def step(self, now: datetime) -> float:
        """Do what can be done now; return for how many seconds to rest."""
        self._pool.check()
        for ticket, ran in self._pool.ended():
            self._starter.returned(ticket, ran, now)
        # Due, or the clock was set back: a heartbeat that waits for the old time again would cost the lease.
        if not now < self._next_beat <= now + BEAT:
            self._beat(now)
        self._stop_what_must_stop(now)
        self._start_what_is_due(now)
        self._housekeeping.step(now)
        self._tell_watchers(now)
        return self._rest(now)

    def _start_what_is_due(self, now: datetime) -> None:
        swept = self._sweeps.step(now)
        if self._drain_until is not None:
            return
        self._starter.reduce(swept, self._secure)  # first: it would never come behind a long queue
        is_rung, self._is_rung = self._is_rung, False
        is_news, self._may_start_more = self._starter.start(
            self.id, now, secure=self._secure, is_rung=is_rung
        )
        if is_news and is_heard(self._settings.data / WATCHERS):  # those who work come first
            self._tell_at = self._tell_at or now + TELL

    def _secure(self) -> None:
        with self._store.write(durable=True) as connection:
            dispatchers.heartbeat(connection, self.id, slots=self._slots(), now=self._clock())

    def _tell_watchers(self, now: datetime) -> None:
        if self._tell_at is None:
            return
        if self._pool.free == self._pool.size:
            self._tell_at = None
        elif not now < self._tell_at <= now + TELL:  # due, or the clock was set back
            self._tell_at = None
            wake(self._settings.data / WATCHERS)

    def _stop_what_must_stop(self, now: datetime) -> None:
        if self._look_for_stops and not self._is_idle:
            asked = moves.stop_requests(self._store, self.id)
            held: list[tuple[int, int]] = []
            if self._sweeps:
                with self._store.read() as connection:
                    held = moves.held(connection, self.id)
            self._stops = {(one.id, one.attempt): Stop(Ending.CANCELLED, one.grace_seconds) for one in asked}
            self._sweeps.look(held)
            self._sweeps.close(Ending.CANCELLED, self._stops)
            self._starter.look()
        self._look_for_stops = False  # where nothing is in hand, nothing can be asked for
        drains = self._drain_until is not None
        if self._starter.give_back(now, lambda one: drains or (one.job_id, one.attempt) in self._stops):
            wake(self._settings.data / WATCHERS)
            wake(self._settings.data / DISPATCHERS)
        self._untold = False
        release = None
        if self._drain_until is not None and now >= self._drain_until:
            release = Stop(Ending.RELEASED, self._settings.grace_seconds)
        unwanted = Stop(Ending.RELEASED, self._settings.grace_seconds)
        stops = dict.fromkeys(self._sweeps.unwanted, unwanted) | self._stops
        for ticket in self._pool.in_hand if stops or release else ():
            stop = stops.get((ticket.job_id, ticket.attempt), release)
            if stop is not None and not self._pool.stop(ticket, stop):
                self._untold = True

    def _rest(self, now: datetime) -> float:
        until = min(self._next_beat, self._housekeeping.next_at, self._tell_at or self._next_beat)
        if self._drain_until is not None:
            until = min(until, max(self._drain_until, now + timedelta(seconds=0.05)))
        elif self._may_start_more:
            return 0.0
        elif self._pool.free and self._starter.has_tasks:
            until = min(until, moves.next_due_at(self._store) or until, self._sweeps.due_at(now) or until)
        until = min(until, self._starter.goes_back_at() or until)
        # A stop reaches a ticket only once a worker has it in hand; the result writer closes chunks when it can.
        if self._pool.free and self._sweeps.may_give_back:
            until = min(until, now + timedelta(seconds=0.05))
        if self._untold or self._sweeps.over:
            until = min(until, now + timedelta(seconds=0.01))
        return max(0.0, (until - now).total_seconds())

    # -- once a second ---------------------------------------------------------------------------

    def _beat(self, now: datetime) -> None:
        self._next_beat = now + BEAT
        self._look_for_stops = True
        total = self._total()
        with self._store.write(durable=False) as connection:
            dispatchers.heartbeat(connection, self.id, slots=self._slots(), now=now)
            queued = jobs.counts(connection)[State.QUEUED]
            sample = self._sample(total, queued, now)
            if sample is not None:
                throughput.add(connection, self.id, sample)
            dead = self._dead(connection)
        self._counted, self._counted_at, self._queued = total, now, queued
        for dispatcher_id in dead:
            self._give_back(dispatcher_id, now)
        running = self._pool.size - self._pool.free
        self._quiet_beats = 0 if running or queued or sample is not None else self._quiet_beats + 1
        self._store.checkpoint_if_large(CHECKPOINT_BYTES if running or queued else CHECKPOINT_BYTES_IDLE)
        if self._quiet_beats == QUIET_BEATS:
            self._store.make_room()
        rate = 0.0 if sample is None else (sample.done + sample.failed) / sample.seconds
        draining = "draining: " if self._drain_until is not None else ""
        notify(f"WATCHDOG=1\nSTATUS={draining}{running} running, {queued} queued, {rate:.0f} jobs/s")

    def _total(self) -> Counts:
        """Return what all slots have counted."""
        each = [counts(slot) for slot in self._pool.slots]
        return Counts(*map(sum, zip(*each, strict=True)))

    def _sample(self, total: Counts, queued: int, now: datetime) -> throughput.Sample | None:
        """Return what the slots counted since the last sample; None if nothing happened."""
        grown = [after - earlier for after, earlier in zip(total, self._counted, strict=True)]
        seconds = (now - self._counted_at).total_seconds()
        if seconds <= 0 or not (any(grown) or queued != self._queued):
            return None
        done, failed, partials, busy = grown
        return throughput.Sample(now, seconds, int(done), int(failed), int(partials), max(0.0, busy), queued)

    def _slots(self) -> list[dict[str, Any]]:
        return [
            {
                "worker": index,
                "pid": slot.pid,
                "process_pid": slot.process_pid,
                "job_id": slot.job_id if slot.serial else None,
                "attempt": slot.attempt if slot.serial else None,
                "done": slot.done,
                "failed": slot.failed,
                "partials": slot.partials,
                "busy_seconds": round(counts(slot).busy_seconds, 6),
                "peak_memory_bytes": seen[0],
                "cpu_seconds": seen[1],
            }
            for index, slot in enumerate(self._pool.slots)
            for seen in (last_seen(slot),)
        ]

    # -- the dead ----------------------------------------------------------------------------------

    def _register(self, catalogue: Catalogue, now: datetime) -> int:
        with self._store.write(durable=False) as connection:
            dead = self._dead(connection)
        for dispatcher_id in dead:
            self._give_back(dispatcher_id, now)
        with self._store.write(durable=True) as connection:
            # All or nothing: who fails here tries again, and would leave an entry that looks alive.
            own_id = dispatchers.register(connection, this_process(), workers=self._pool.size, now=now)
            _publish(connection, own_id, catalogue, now)
            lost.postpone(connection, losses.apart(lost.lost(connection), self._clock()))
            miscounted = tally.mend_queued(connection)
        if miscounted:
            log.warning("the counts of queued jobs were wrong, and are right again: %s", miscounted)
        return own_id

    def _dead(self, connection: Connection) -> list[int]:
        """Return the dispatchers whose process is gone, or whose heartbeat has stood still for their lease.

        The lease is counted in our own heartbeats, not read off a clock: where nobody could write for a while,
        where the machine slept or its clock was set, the others are as alive as we are.
        """
        gone = dispatchers.gone(connection, this_process(), kernel.started_ticks)
        watched: dict[int, tuple[datetime, int]] = {}
        for one in dispatchers.alive(connection):
            seen, beats = self._watched.get(one.id, (None, 0))
            watched[one.id] = (one.heartbeat_at, beats + 1 if seen == one.heartbeat_at else 0)
            if watched[one.id][1] * BEAT.total_seconds() >= self._settings.lease_seconds:
                gone.append(one.id)
        self._watched = watched
        return [dispatcher_id for dispatcher_id in gone if dispatcher_id != self.id]

    def _give_back(self, dispatcher_id: int, now: datetime) -> None:
        """Give the jobs of a dead dispatcher back to the queue, each charged to its `crash_retries`."""
        with self._store.write(durable=True) as connection:
            dead = next((one for one in dispatchers.alive(connection) if one.id == dispatcher_id), None)
            if dead is None or not dispatchers.end(connection, dispatcher_id, now=now):
                return  # somebody else has found it first
            held = moves.held(connection, dispatcher_id)
            victims = losses.of_dead(held, dead.slots, f"dispatcher {dispatcher_id} died while it ran")
            store_reports.record(connection, losses.reports(victims, dead.workers, now))
        log.warning("dispatcher %d is dead: %d jobs given back", dispatcher_id, len(held))

    # -- the end -----------------------------------------------------------------------------------

    def end(self, now: datetime, victims: list[Victim] | None = None) -> None:
        """Close the entry in the store, and give back whatever is still in hand.

        Args:
            now: becomes the end of the entry and of the attempts.
            victims: what was in hand when the Pool broke.  Who may have broken it pays for it; the others
                go back uncharged.
        """
        known = losses.by_attempt(victims or ())
        with self._store.write(durable=True) as connection:
            dispatchers.end(connection, self.id, now=now)
            held = [known.get(one, Victim(*one)) for one in moves.held(connection, self.id)]
            store_reports.record(connection, losses.reports(held, self._pool.size, now))


def _publish(connection: Connection, dispatcher_id: int, catalogue: Catalogue, now: datetime) -> None:
    store_catalogue.publish(connection, dispatcher_id, catalogue.tasks, now=now)
    dispatchers.set_module_errors(connection, dispatcher_id, catalogue.errors)


def this_process() -> dispatchers.Process:
    """Return which process this is, so that another dispatcher can tell whether it lives."""
    pid = os.getpid()
    return dispatchers.Process(
        host=socket.gethostname(), place=kernel.place(), pid=pid, started_ticks=kernel.started_ticks(pid) or 0
    )

"""The worker: our function inside a process of the Pool; it looks after one job process.

It never runs user code: a process that dies while it holds a shared lock takes the whole fabric with it.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.util import Finalize
from typing import Any, Final

from jobrunner import kernel
from jobrunner.clock import utc_now
from jobrunner.dispatcher.ahead import AheadAttempt, answer
from jobrunner.dispatcher.attempt import Attempt
from jobrunner.dispatcher.chunk_attempt import ChunkAttempt
from jobrunner.dispatcher.handle import Handle, kill_children, reap_orphans
from jobrunner.dispatcher.orphan import is_orphan
from jobrunner.dispatcher.outbox import FULL_SECONDS, Outbox
from jobrunner.dispatcher.reducing import values_to_reduce
from jobrunner.dispatcher.slots import Slot
from jobrunner.dispatcher.tickets import Code, Limits, Ran, Ticket
from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, Report
from jobrunner.store.engine import Store

TRAIN_BYTES: Final = 1 << 15  #: of tickets that travel together: the Pipe takes more than four times as much
TICKET_BYTES: Final = 200  #: roughly, beside its parameters
BRIEF_SECONDS: Final = (
    0.005  #: of tickets that take no longer, answers are heard several at a time: see `ahead`
)
LATE_SECONDS: Final = 0.3  #: after this a bundle takes longer than it was meant to
_NO_FAILURE: Final = {Ending.SUCCEEDED, Ending.CANCELLED, Ending.RELEASED}


class Worker:
    """One process of the Pool, with its slot and its job process."""

    def __init__(
        self,
        index: int,
        slot: Slot,
        queue: "Queue[list[Report]]",
        limits: Limits,
        code: Code,
        *,
        store_url: str,
    ) -> None:
        self._index = index
        self._slot = slot
        self._queue = queue
        self._outbox = Outbox(queue.put_nowait, queue.qsize)
        self._waiting: deque[Ticket] = deque()  # the rest of the bundle
        self._late_at = 0.0  # when all of it should have been done
        self._has_train = False  # whether some of it was sent ahead
        self._is_brief = False  # whether the last ticket was
        self._limits = limits
        self._store_url = store_url
        self._store: Store | None = None  # to read with, once there is something to reduce
        self._oom = kernel.OomWatch(kernel.oom_counter())
        self._process = self._new_process(code)
        self._process.greet(
            wanted=lambda: not is_orphan()
        )  # what is wrong with it, the first ticket will find out and tell
        slot.pid = os.getpid()  # written last: now the worker is ready

    def run(self, bundle: Sequence[Ticket]) -> list[Ran]:
        """Run the tickets one after another; return how each was run, but for those that were given back.

        Their reports are on their way into the Queue when this returns.
        """
        ran: list[Ran] = []
        self._waiting = deque(bundle)
        self._late_at = time.monotonic() + LATE_SECONDS
        self._has_train = False
        while self._waiting:
            ticket = self._waiting.popleft()
            self._outbox.gathers = bool(self._waiting)
            self._take_up(ticket)
            one = self._answered(ticket) or self._watched(ticket)
            if one is None:  # its process died of something else, before its turn came
                self._waiting.appendleft(ticket)
            else:
                ran.append(one)
                self._is_brief = one.seconds < BRIEF_SECONDS
                if not self._is_brief:  # nobody may have looked for the whole of it
                    self._end_if_orphan()
            if not self._is_next_ahead:
                reap_orphans(self._process.pid)
            if self._waiting:
                now = time.monotonic()
                if now >= self._late_at:
                    self._give_back()
                if now >= self._outbox.due_at and self._is_next_ahead:  # else the next one is sent off first
                    self._outbox.flush()
        while not self._outbox.flush():
            self._end_if_orphan()
            time.sleep(FULL_SECONDS)
        return ran

    def _take_up(self, ticket: Ticket) -> None:
        slot = self._slot
        slot.peak_memory_bytes, slot.cpu_seconds = 0, 0.0
        slot.job_id, slot.attempt, slot.since = ticket.job_id, ticket.attempt, time.monotonic()
        slot.serial = ticket.serial

    def _put_down(self, ticket: Ticket, ran: Ran, ending: Ending) -> None:
        slot = self._slot
        slot.serial = 0
        slot.busy_seconds += ran.seconds
        if ticket.chunk is None:  # which is no attempt of its own
            slot.done += ending is Ending.SUCCEEDED
            slot.failed += ending not in _NO_FAILURE

    def _answered(self, ticket: Ticket) -> Ran | None:
        """Take in the answer to a ticket, if it was read already; None: it must be watched."""
        process = self._process
        found = answer(ticket, process, self._index)
        if found is None:
            return None
        process.jobs += 1
        report, ran = found
        self._outbox.add(report)
        self._put_down(ticket, ran, Ending.SUCCEEDED)
        return ran

    def _watched(self, ticket: Ticket) -> Ran | None:
        """Follow a ticket to its end; None: it never began."""
        process = self._process_for(ticket)
        process.jobs += 1
        attempt = self._attempt(ticket, process)
        ended = attempt.run()
        ran = None
        if ended is None:
            self._slot.serial = 0
        else:
            ran = attempt.ran(time.monotonic() - self._slot.since)
            self._put_down(ticket, ran, ended.ending)
        if not attempt.survived and not (ended is not None and self._is_next_ahead):
            self._outbox.flush()  # where a process can be started no more, this is told all the same
            process.close()
            self._process = self._new_process(ticket.code)
        return ran

    @property
    def _is_next_ahead(self) -> bool:
        """Whether the job process has got the next ticket already, and may have answered it."""
        return bool(self._waiting) and self._process.has_ahead(self._waiting[0])

    def _attempt(self, ticket: Ticket, process: Handle) -> Attempt:
        around: dict[str, Any] = {
            "worker": self._index,
            "slot": self._slot,
            "limits": self._limits,
            "outbox": self._outbox,
            "oom": self._oom,
            "on_tick": self._tick,
        }
        if ticket.chunk is not None:
            return ChunkAttempt(ticket, ticket.chunk, process, **around)
        if ticket.reduces:
            return Attempt(ticket, process, after=self._values_of(ticket.job_id), **around)
        if process.has_ahead(ticket):
            return AheadAttempt(ticket, process, is_brief=self._is_brief, **around)
        return Attempt(ticket, process, **around)

    def _values_of(self, job_id: int) -> Iterator[bytes]:
        """Yield the lines that follow the ticket of a reduce task; an empty one where the store cannot be read now."""
        if self._store is None:
            self._store = Store(self._store_url)
        yield from values_to_reduce(self._store, job_id)

    def _tick(self) -> None:
        """Look around while a ticket runs: is the dispatcher there, does anybody wait behind this ticket?"""
        self._end_if_orphan()
        if self._waiting and (self._has_train or time.monotonic() >= self._late_at):
            self._give_back()

    def _give_back(self) -> None:
        """Give back what has not begun: it takes longer than it was meant to, and others may have room."""
        self._process.withdraw()
        begun = [ticket for ticket in self._waiting if self._process.has_ahead(ticket)]
        returned = list(self._waiting)[len(begun) :]
        self._waiting = deque(begun)
        self._outbox.gathers = False
        for ticket in returned:
            released = Ended(Ending.RELEASED, worker=self._index)
            self._outbox.add(Report(ticket.job_id, ticket.attempt, utc_now(), (), released))

    def _process_for(self, ticket: Ticket) -> Handle:
        """Return the warm job process, or a new one where the old one has had its time."""
        process = self._process
        if process.has_ahead(ticket):
            return process
        process.withdraw()
        process.hear_output()
        limit = ticket.memory_limit_bytes
        unfit = process.is_unfit()  # an earlier job's doing, or somebody's: no fault of this one
        worn = process.jobs >= self._limits.max_jobs_per_process
        grown = limit is not None and process.jobs and self._resident_bytes() > limit / 2
        if unfit or worn or grown or process.code != ticket.code:
            self._outbox.flush()  # what is said waits for no process to end
            self._end_process()
            process.close()
            self._process = self._new_process(ticket.code)
        elif process.is_ready and len(train := self._train(ticket)) > 1:
            self._oom.begin()
            self._has_train = True
            process.send_ahead(train, hears_output=not self._is_brief)
        return self._process

    def _train(self, first: Ticket) -> list[Ticket]:
        """Return the tickets that travel together: those that need no look at the process between them."""
        room = min(TRAIN_BYTES, (self._limits.max_jobs_per_process - self._process.jobs) * TICKET_BYTES)
        train: list[Ticket] = []
        for ticket in (first, *self._waiting):
            room -= TICKET_BYTES + len(ticket.params)
            if not ticket.is_plain or ticket.code != first.code or room < 0:
                break
            train.append(ticket)
        return train

    def _resident_bytes(self) -> int:
        return kernel.usage(kernel.descendants(os.getpid())).resident_bytes

    def _new_process(self, code: Code) -> Handle:
        process = Handle(code, self._limits)
        self._slot.process_pid = process.pid
        return process

    def _end_if_orphan(self) -> None:
        if is_orphan():
            self.end()
            os._exit(1)

    def end(self) -> None:
        """Take the job process along, and whatever it has left running."""
        if is_orphan():
            self._queue.cancel_join_thread()  # nobody reads it any more
        self._end_process()

    def _end_process(self) -> None:
        self._process.kill()
        kill_children()


_worker: Worker | None = None


def initialize(
    slots: Any,
    next_index: "Synchronized[int]",
    queue: "Queue[list[Report]]",
    limits: Limits,
    code: Code,
    *,
    store_url: str,
) -> None:
    """Make this process of the Pool a worker."""
    global _worker  # noqa: PLW0603 - a Pool hands its functions nothing but the ticket
    # Ctrl-C in a terminal reaches the whole process group; only the dispatcher decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with next_index.get_lock():
        index = next_index.value
        next_index.value += 1
    if index >= len(slots):
        # The Pool put this process in the place of a worker that died.  The dispatcher is about to end them all.
        while not is_orphan():
            time.sleep(FULL_SECONDS)
        os._exit(1)
    kernel.adopt_orphans()
    _worker = Worker(index, slots[index], queue, limits, code, store_url=store_url)
    Finalize(None, _worker.end, exitpriority=1)


def run(bundle: Sequence[Ticket]) -> list[Ran]:
    """Run a bundle of tickets; what the Pool calls."""
    if _worker is None:
        raise RuntimeError("initialize() was not called")
    return _worker.run(bundle)

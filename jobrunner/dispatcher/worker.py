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
from typing import Any

from jobrunner import kernel
from jobrunner.clock import utc_now
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
        while self._waiting:
            ran.append(self._run_one(self._waiting.popleft(), time.monotonic()))
            if self._waiting and time.monotonic() >= self._outbox.due_at:
                self._outbox.flush()
        while not self._outbox.flush():
            self._end_if_orphan()
            time.sleep(FULL_SECONDS)
        return ran

    def _run_one(self, ticket: Ticket, started: float) -> Ran:
        slot = self._slot
        slot.peak_memory_bytes, slot.cpu_seconds = 0, 0.0
        slot.job_id, slot.attempt, slot.since, slot.serial = (
            ticket.job_id,
            ticket.attempt,
            started,
            ticket.serial,
        )
        process = self._process_for(ticket)
        process.jobs += 1
        attempt = self._attempt(ticket, process)
        ended = attempt.run()
        if ticket.chunk is None:  # which is no attempt of its own
            slot.done += ended.ending is Ending.SUCCEEDED
            slot.failed += ended.ending is not Ending.SUCCEEDED
        slot.busy_seconds += time.monotonic() - started
        slot.serial = 0
        if not attempt.survived:
            self._outbox.flush()  # where a process can be started no more, this is told all the same
            process.close()
            self._process = self._new_process(ticket.code)
        reap_orphans(self._process.pid)
        return attempt.ran(time.monotonic() - started)

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
        return Attempt(ticket, process, **around)

    def _values_of(self, job_id: int) -> Iterator[bytes]:
        """Yield the lines that follow the ticket of a reduce task; an empty one where the store cannot be read now."""
        if self._store is None:
            self._store = Store(self._store_url)
        yield from values_to_reduce(self._store, job_id)

    def _tick(self) -> None:
        """Look around while a ticket runs: is the dispatcher there, does anybody wait behind this ticket?"""
        self._end_if_orphan()
        while self._waiting:
            # This ticket takes longer than its bundle was meant to: others may have room for the rest.
            ticket = self._waiting.popleft()
            released = Ended(Ending.RELEASED, worker=self._index)
            self._outbox.add(Report(ticket.job_id, ticket.attempt, utc_now(), (), released))

    def _process_for(self, ticket: Ticket) -> Handle:
        """Return the warm job process, or a new one where the old one has had its time."""
        process = self._process
        limit = ticket.memory_limit_bytes
        unfit = process.is_unfit()  # an earlier job's doing, or somebody's: no fault of this one
        worn = process.jobs >= self._limits.max_jobs_per_process
        grown = limit is not None and process.jobs and self._resident_bytes() > limit / 2
        if unfit or worn or grown or process.code != ticket.code:
            self._end_process()
            process.close()
            self._process = self._new_process(ticket.code)
        return self._process

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

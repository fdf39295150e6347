"""The worker: our function inside a process of the Pool; it looks after one job process.

It never runs user code: a process that dies while it holds a shared lock takes the whole fabric with it.
"""

import os
import signal
import time
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.util import Finalize
from typing import Any

from jobrunner import kernel
from jobrunner.dispatcher.attempt import Attempt, OrphanedError
from jobrunner.dispatcher.handle import Handle, kill_children
from jobrunner.dispatcher.orphan import is_orphan
from jobrunner.dispatcher.slots import Slot
from jobrunner.dispatcher.tickets import Code, Limits, Ticket
from jobrunner.lifecycle import Ending
from jobrunner.reports import Report


class Worker:
    """One process of the Pool, with its slot and its job process."""

    def __init__(self, index: int, slot: Slot, queue: "Queue[Report]", limits: Limits, code: Code) -> None:
        self._index = index
        self._slot = slot
        self._queue = queue
        self._limits = limits
        self._process = self._new_process(code)
        slot.pid = os.getpid()  # written last: now the worker is ready

    def run(self, ticket: Ticket) -> None:
        """Run one attempt; its last report is in the Queue when this returns."""
        slot = self._slot
        slot.job_id, slot.attempt, slot.since = ticket.job_id, ticket.attempt, time.monotonic()
        slot.serial = ticket.serial
        process = self._process_for(ticket)
        process.jobs += 1
        attempt = Attempt(
            ticket,
            process,
            worker=self._index,
            slot=slot,
            limits=self._limits,
            send=self._queue.put,
            is_orphan=is_orphan,
        )
        try:
            report = attempt.run()
        except OrphanedError:
            self.end()
            os._exit(1)  # not through the Queue's feeder thread: nobody reads any more
        self._queue.put(report)
        self._count(report)
        if not attempt.survived:
            process.close()
            self._process = self._new_process(ticket.code)

    def _process_for(self, ticket: Ticket) -> Handle:
        """Return the warm job process, or a new one where the old one has had its time."""
        process = self._process
        limit = ticket.memory_limit_bytes
        worn = process.jobs >= self._limits.max_jobs_per_process
        grown = limit is not None and process.jobs and kernel.tree_resident_bytes(process.pid) > limit / 2
        if worn or grown or process.code != ticket.code:
            self.end()
            process.close()
            self._process = self._new_process(ticket.code)
        return self._process

    def _new_process(self, code: Code) -> Handle:
        process = Handle(code, self._limits)
        self._slot.process_pid = process.pid
        return process

    def _count(self, report: Report) -> None:
        slot = self._slot
        if report.ended is not None and report.ended.ending is Ending.SUCCEEDED:
            slot.done += 1
        else:
            slot.failed += 1
        slot.busy_seconds += time.monotonic() - slot.since
        slot.serial = 0

    def end(self) -> None:
        """Take the job process along, and whatever it has left running."""
        self._process.kill()
        kill_children()


_worker: Worker | None = None


def initialize(
    slots: Any, next_index: "Synchronized[int]", queue: "Queue[Report]", limits: Limits, code: Code
) -> None:
    """Make this process of the Pool a worker."""
    global _worker  # noqa: PLW0603 - a Pool hands its functions nothing but the ticket
    # Ctrl-C in a terminal reaches the whole process group; only the dispatcher decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with next_index.get_lock():
        index = next_index.value
        next_index.value += 1
    if index >= len(slots):
        # The Pool put this process in the place of a worker that died.  The dispatcher is about to end them all.
        signal.pause()
    kernel.adopt_orphans()
    _worker = Worker(index, slots[index], queue, limits, code)
    Finalize(None, _worker.end, exitpriority=1)


def run(ticket: Ticket) -> None:
    """Run one attempt; what the Pool calls."""
    if _worker is None:
        raise RuntimeError("initialize() was not called")
    _worker.run(ticket)

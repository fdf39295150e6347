"""The Pool of workers with what ties them together: the Queue, the result writer, the Array.

The dispatcher speaks to it through few words: `room`, `start` a ticket, `stop` one, `ended`.  If one of its
processes dies, a lock that it held may stay taken for ever, so nothing here is mended: `check` raises, and the
dispatcher gives back what ran, ends, and is started again.
"""

import contextlib
import multiprocessing
import os
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from jobrunner.dispatcher import worker, writer
from jobrunner.dispatcher.handle import kill_children
from jobrunner.dispatcher.slots import Slot, Stop, counts, request_stop
from jobrunner.dispatcher.tickets import Code, Limits, Ticket
from jobrunner.errors import PoolBrokenError

START_SECONDS: Final = 60.0  #: for the workers to come up
WRITER_SECONDS: Final = 5.0  #: for the result writer to write what is left in a broken Queue


class Victim(NamedTuple):
    """An attempt that was in a worker's hands when the Pool broke, and whether that worker is the one that died."""

    ticket: Ticket
    died: bool


class WorkerPool:
    """`size` workers, each with a job process."""

    def __init__(
        self, size: int, *, code: Code, limits: Limits, store_url: str, bells: Path, log_level: str
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        # What the forkserver has loaded, its children share: memory and start-up time of one.
        context.set_forkserver_preload([worker.__name__, writer.__name__])
        self.size = size
        self.slots: Any = context.Array(Slot, size, lock=False)
        self._queue = context.Queue(maxsize=64 * size)
        self._writer = context.Process(
            target=writer.main, args=(self._queue, store_url, bells, log_level), name="result-writer"
        )
        self._writer.start()
        self._pool = context.Pool(
            size, worker.initialize, (self.slots, context.Value("i", 0), self._queue, limits, code)
        )
        self._in_hand: dict[int, Ticket] = {}
        self._ended: deque[int] = deque()  # filled by the Pool's own thread
        self._failure: BaseException | None = None
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._deaths = selectors.DefaultSelector()
        self._deaths.register(self._writer.sentinel, selectors.EVENT_READ, "the result writer")

    def wait_until_ready(self) -> None:
        """Return when every worker is up.

        Raises:
            PoolBrokenError: they are not up after START_SECONDS, or one died.
        """
        pause = threading.Event()
        give_up_at = time.monotonic() + START_SECONDS
        while not all(slot.pid for slot in self.slots):
            if time.monotonic() > give_up_at:
                raise PoolBrokenError(f"the workers did not come up in {START_SECONDS:g} s")
            self.check()
            pause.wait(0.005)
        for index, slot in enumerate(self.slots):
            self._deaths.register(os.pidfd_open(slot.pid), selectors.EVENT_READ, f"worker {index}")

    # -- the words ------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more tickets could start now."""
        return self.size - len(self._in_hand)

    @property
    def in_hand(self) -> list[Ticket]:
        """The tickets that were started and have not ended."""
        return list(self._in_hand.values())

    def start(self, ticket: Ticket) -> None:
        """Hand a ticket to a free worker."""
        self._in_hand[ticket.serial] = ticket
        self._pool.apply_async(
            worker.run, (ticket,), callback=self._note(ticket.serial), error_callback=self._note_failure
        )

    def stop(self, ticket: Ticket, stop: Stop) -> None:
        """Have a ticket end early.  Until a worker has it in hand this does nothing: say it again."""
        for slot in self.slots:
            if slot.serial == ticket.serial and slot.stop_serial != ticket.serial:
                request_stop(slot, stop)

    def ended(self) -> int:
        """Forget the tickets that have ended, return how many; their reports are in the Queue."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        number = 0
        while self._ended:
            self._in_hand.pop(self._ended.popleft())
            number += 1
        return number

    def check(self) -> None:
        """Raise PoolBrokenError if a process of the Pool has died."""
        if self._failure is not None:
            raise PoolBrokenError(f"a worker failed: {self._failure!r}") from self._failure
        dead = [key.data for key, _ in self._deaths.select(0)]
        if dead:
            raise PoolBrokenError(f"{' and '.join(dead)} died")

    @property
    def bells(self) -> tuple[int, int]:
        """Two descriptors: one is readable when a ticket has ended, the other when a process died."""
        return self._bell, self._deaths.fileno()  # the second is that of epoll itself

    def _note(self, serial: int) -> Callable[[None], None]:
        def note(_: None) -> None:  # in the Pool's own thread
            self._ended.append(serial)
            os.eventfd_write(self._bell, 1)

        return note

    def _note_failure(self, error: BaseException) -> None:
        self._failure = error
        os.eventfd_write(self._bell, 1)

    # -- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """End the idle workers, then the result writer when all is written."""
        self._pool.close()
        self._pool.join()
        self._queue.put(None)
        self._writer.join()

    def kill(self) -> list[Victim]:
        """Kill the workers and all that they run, write what had arrived, and say what was in hand.

        The Pool's own `terminate` waits for locks that a dead worker may hold; so the process must end by
        `os._exit` after this.
        """
        dead = {key.data for key, _ in self._deaths.select(0)}
        holders = {slot.serial: f"worker {index}" for index, slot in enumerate(self.slots)}
        victims = [Victim(ticket, holders.get(ticket.serial) in dead) for ticket in self._in_hand.values()]
        for slot in self.slots:
            for kill, pid in ((os.kill, slot.pid), (os.killpg, slot.process_pid)):
                if pid:
                    with contextlib.suppress(ProcessLookupError):
                        kill(pid, signal.SIGKILL)
        self._writer.terminate()
        self._writer.join(WRITER_SECONDS)
        kill_children()  # the forkserver, what the workers left to us, and a writer that still hangs
        return victims

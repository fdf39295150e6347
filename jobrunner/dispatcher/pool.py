"""The Pool of workers with what ties them together: the Queue, the result writer, the Array.

The dispatcher speaks to it through few words: `free`, `start` a bundle, `stop` a ticket, `ended`.  If one of its
processes dies, a lock that it held may stay taken for ever, so nothing here is mended: `check` raises, and the
dispatcher gives back what ran, ends, and is started again.
"""

import contextlib
import functools
import logging
import multiprocessing
import os
import selectors
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import connection, util
from multiprocessing.synchronize import SemLock
from pathlib import Path
from typing import Any, Final

from jobrunner import kernel
from jobrunner.dispatcher import worker, writer
from jobrunner.dispatcher.handle import IMPORT_SECONDS, kill_children
from jobrunner.dispatcher.losses import Victim
from jobrunner.dispatcher.slots import Slot, Stop, last_seen, request_stop
from jobrunner.dispatcher.tickets import Code, Limits, Ran, Ticket
from jobrunner.errors import PoolBrokenError

START_SECONDS: Final = IMPORT_SECONDS + 30.0  #: for the workers and their job processes to come up
CLOSE_SECONDS: Final = 5.0  #: for idle workers to end
WRITER_SECONDS: Final = 15.0  #: for the result writer to write what is left

log = logging.getLogger("jobrunner.dispatcher")


class WorkerPool:
    """`size` workers, each with a job process."""

    def __init__(
        self, size: int, *, code: Code, limits: Limits, store_url: str, data: Path, log_level: str
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        # What the forkserver has loaded, its children share: memory and start-up time of one.
        context.set_forkserver_preload([worker.__name__, writer.__name__])
        self.size = size
        self.slots: Any = context.Array(Slot, size, lock=False)
        self._queue = context.Queue(maxsize=64 * size)
        self._writer = context.Process(
            target=writer.main, args=(self._queue, store_url, data, log_level), name="result-writer"
        )
        # A SIGTERM to the whole process group is meant for the dispatcher alone: the forkserver, which starts
        # here, and its children inherit the blocked mask; a job process takes it off.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        self._writer.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        self._begun = context.Value("i", 0)  # how many workers have been started so far
        self._pool = context.Pool(
            size,
            functools.partial(worker.initialize, store_url=store_url),
            (self.slots, self._begun, self._queue, limits, code),
        )
        self._bundles: dict[int, Sequence[Ticket]] = {}  # by the serial of their first ticket
        self._ended: deque[tuple[int, list[Ran]]] = deque()  # filled by the Pool's own thread
        self._failure: BaseException | None = None  # of a worker's own code, with a bundle's number beside it
        self._failed = 0
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._deaths = selectors.DefaultSelector()
        # Not by its sentinel: that is a pipe from the forkserver, and ends with either of them.
        pid = self._writer.pid or 0
        self._writer_death = os.pidfd_open(pid)
        self._forkserver_death = os.pidfd_open(kernel.parent(pid))
        self._deaths.register(self._writer_death, selectors.EVENT_READ, "the result writer")
        self._deaths.register(self._forkserver_death, selectors.EVENT_READ, "the forkserver")

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
            if self._begun.value > self.size:  # the Pool has put another one in the place of one that died
                raise PoolBrokenError("a worker died while it came up")
            self.check()
            pause.wait(0.005)
        for index, slot in enumerate(self.slots):
            self._deaths.register(os.pidfd_open(slot.pid), selectors.EVENT_READ, _name(index))
        _unlink_semaphores()

    # -- the words ------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many workers have nothing to do."""
        return self.size - len(self._bundles)

    @property
    def in_hand(self) -> list[Ticket]:
        """The tickets that were started and have not ended."""
        return [ticket for bundle in self._bundles.values() for ticket in bundle]

    def start(self, bundle: Sequence[Ticket]) -> None:
        """Hand tickets to a free worker, which runs them one after another."""
        number = bundle[0].serial
        self._bundles[number] = bundle
        self._pool.apply_async(
            worker.run, (bundle,), callback=self._note(number), error_callback=self._note_failure(number)
        )

    def given_back(self) -> list[tuple[Ticket, int]]:
        """Return the chunks in hand that will not come to all their items, each with the first one left out."""
        told = {slot.given_back_serial: slot.given_back for slot in self.slots if slot.given_back_serial}
        return [(one, told[one.serial]) for one in self.in_hand if one.serial in told]

    def stop(self, ticket: Ticket, stop: Stop) -> bool:
        """Have a ticket end early; return whether a worker has been told.  Else none has it yet: say it again."""
        for slot in self.slots:
            if slot.stop_serial == ticket.serial:
                return True
            if slot.serial == ticket.serial:
                request_stop(slot, ticket.serial, stop)
                return True
        return False

    def ended(self) -> list[tuple[Ticket, Ran]]:
        """Forget the bundles that have ended; return the tickets that were run, and how.

        Their reports are in the Queue, or about to be.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        run: list[tuple[Ticket, Ran]] = []
        while self._ended:
            number, ran = self._ended.popleft()
            # A worker may have given the last ones back.
            run += zip(self._bundles.pop(number), ran, strict=False)
        return run

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

    def _note(self, number: int) -> Callable[[list[Ran]], None]:
        def note(ran: list[Ran]) -> None:  # in the Pool's own thread
            self._ended.append((number, ran))
            os.eventfd_write(self._bell, 1)

        return note

    def _note_failure(self, number: int) -> Callable[[BaseException], None]:
        def note(error: BaseException) -> None:  # in the Pool's own thread
            self._failure = error
            self._failed = number
            os.eventfd_write(self._bell, 1)

        return note

    # -- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """End the idle workers, then the result writer when all is written, then the rest.

        Like `kill`, this leaves the Pool's threads in no state for Python's farewells: end by `os._exit`.
        """
        self._pool.close()
        give_up_at = time.monotonic() + CLOSE_SECONDS
        self._deaths.unregister(self._writer_death)
        self._deaths.unregister(self._forkserver_death)
        while self._deaths.get_map() and (left := give_up_at - time.monotonic()) > 0:
            for key, _ in self._deaths.select(left):
                self._deaths.unregister(key.fileobj)
        if not self._deaths.get_map():
            for (
                slot
            ) in self.slots:  # should `kill` be called after this: the pids may be somebody else's by then
                slot.pid = slot.process_pid = 0
        self._finish_writing()
        kill_children()

    def _finish_writing(self) -> None:
        """Have the result writer write what is in the Queue, and end."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._writer_death, writer.FINISH)
        if not connection.wait([self._writer_death], WRITER_SECONDS):
            log.error(
                "the results of some jobs could not be written in %g s: they will run again", WRITER_SECONDS
            )

    def kill(self) -> list[Victim]:
        """Kill the workers and all that they run, write what had arrived, and say what was in hand.

        The Pool's own `terminate` waits for locks that a dead worker may hold; so the process must end by
        `os._exit` after this.
        """
        # The Pool's own threads are about to find their processes gone; that is no news to anybody.
        threading.excepthook = lambda _: None
        warnings.simplefilter("ignore")
        victims = self._victims()
        for slot in self.slots:
            for kill, pid in ((os.kill, slot.pid), (os.killpg, slot.process_pid)):
                if pid:
                    with contextlib.suppress(ProcessLookupError):
                        kill(pid, signal.SIGKILL)
        self._finish_writing()
        kill_children()  # the forkserver, what the workers left to us, and a writer that still hangs
        return victims

    def _victims(self) -> list[Victim]:
        """Say whom the death of a process, if one has died, may be blamed on: what ran in it, else all that ran."""
        dead = {str(key.data) for key, _ in self._deaths.select(0)}
        failed = {ticket.serial for ticket in self._bundles.get(self._failed, ())}
        running = {slot.serial: index for index, slot in enumerate(self.slots) if slot.serial}
        dead |= {_name(index) for serial, index in running.items() if serial in failed}
        ran_in_it = {serial for serial, index in running.items() if _name(index) in dead}
        blamed = ran_in_it or (running.keys() if dead else set())
        why = f"{' and '.join(sorted(dead))} died while it ran"
        victims = []
        for ticket in self.in_hand:
            victim = Victim(ticket.job_id, ticket.attempt)
            chunks = () if ticket.chunk is None else (ticket.chunk.first,)
            if (index := running.get(ticket.serial)) is not None:
                blame = why if ticket.serial in blamed else None
                seen = last_seen(self.slots[index])
                victim = Victim(*victim[:2], blame, index, *seen, chunks if blame else ())
            victims.append(victim)
        return victims


def _unlink_semaphores() -> None:
    """Remove the names of the semaphores in /dev/shm: all who use them have opened them by now.

    Python would do that at its farewells, which no part of a dispatcher lives to see.
    """
    registry: dict[Any, Any] = util._finalizer_registry  # type: ignore[attr-defined]  # noqa: SLF001 - the one list
    for finalizer in list(registry.values()):
        if finalizer._callback is SemLock._cleanup:  # type: ignore[attr-defined]  # noqa: SLF001
            finalizer()


def _name(index: int) -> str:
    return f"worker {index}"

"""The watcher: in each process of the API one thread that looks, for all who wait for news of a job.

It looks when a bell says that something was committed, and now and then without one.  So nobody who waits asks
the store again and again, and a process in which nobody waits looks at nothing.
"""

import contextlib
import logging
import os
import selectors
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from jobrunner.errors import StoreError
from jobrunner.wakeup import SUFFIX, Bell

LOOK_SECONDS: Final = 0.25  #: between two looks that no bell asked for
IDLE_SECONDS: Final = 5.0  #: without anybody who waits, until the thread ends

ANY_JOB: Final = 0  #: no job has this id; its version is how often the bell has rung

_log = logging.getLogger(__name__)


class _Waiter:
    """Somebody who knows a job's version, and waits for another one."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.news = threading.Event()


class Watcher:
    """Knows who waits for which job."""

    def __init__(
        self, versions: Callable[[Collection[int]], Mapping[int, int]], bells: Path, *, places: int
    ) -> None:
        """Start nothing yet: it must survive a fork.

        Args:
            versions: reads the versions of these jobs; leaves out those that are not there.
            bells: the directory of the bells that are rung after each commit.
            places: how many may wait at the same time.
        """
        self._versions = versions
        self._bells = bells
        self._places = places
        self._taken = 0
        self._lock = threading.Lock()
        self._waiters: dict[int, set[_Waiter]] = {}
        self._thread: threading.Thread | None = None
        self.rings = 0  #: looks that a bell asked for, or that came without being asked for
        self._poke = -1
        self.is_closed = False  #: nobody waits any more, for the process is about to end

    @property
    def waiting(self) -> int:
        """How many have a place."""
        return self._taken

    @contextlib.contextmanager
    def place(self) -> Iterator[bool]:
        """Take a place among those who wait, for the length of a block; yield whether one was free."""
        with self._lock:
            is_free = self._taken < self._places and not self.is_closed
            self._taken += is_free
        try:
            yield is_free
        finally:
            with self._lock:
                self._taken -= is_free

    def wait(self, job_id: int, version: int, seconds: float) -> None:
        """Return when the job has another version than this, when it is gone, or when time is up."""
        waiter = _Waiter(version)
        with self._lock:
            self._waiters.setdefault(job_id, set()).add(waiter)
            self._start()
        if not self.is_closed:  # asked after the entry was made: `close` takes no lock
            waiter.news.wait(seconds)
        with self._lock:
            self._waiters[job_id].discard(waiter)
            if not self._waiters[job_id]:
                del self._waiters[job_id]

    def close(self) -> None:
        """Let everybody go who waits, and nobody wait any more; a signal handler may call this."""
        self.is_closed = True
        for waiters in tuple(self._waiters.values()):
            for waiter in tuple(waiters):
                waiter.news.set()
        if self._poke >= 0:
            os.eventfd_write(self._poke, 1)

    def _start(self) -> None:
        """Have a thread look, now; under the lock."""
        if self._thread is None:
            if self._poke < 0:
                self._poke = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
            self._thread.start()
        os.eventfd_write(self._poke, 1)

    # -- the thread --------------------------------------------------------------------------------

    def _watch(self) -> None:
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(self._poke, selectors.EVENT_READ)
            bell = self._hang_bell()
            if bell is not None:
                stack.callback(bell.close)
                selector.register(bell, selectors.EVENT_READ)
            self.rings += 1  # what was committed before the bell hung rang no bell
            idle_since = time.monotonic()
            while True:
                ready = selector.select(LOOK_SECONDS if self._waiters else IDLE_SECONDS)
                self.rings += not all(key.fileobj == self._poke for key, _ in ready) or not ready
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._poke)
                if bell is not None:
                    bell.clear()
                if self._waiters:
                    self._look()
                    idle_since = time.monotonic()
                elif self._is_over(time.monotonic() - idle_since):
                    return

    def _hang_bell(self) -> Bell | None:
        try:
            return Bell(self._bells, f"{os.getpid()}{SUFFIX}")
        except OSError as error:
            _log.warning("no bell can be hung in %s, so news come a little later: %s", self._bells, error)
            return None

    def _look(self) -> None:
        with self._lock:
            ids = list(self._waiters)
        wanted = [job_id for job_id in ids if job_id != ANY_JOB]
        try:
            versions = {ANY_JOB: self.rings, **(self._versions(wanted) if wanted else {})}
        except StoreError as error:
            _log.debug("%s", error)  # whoever waits will ask the store again, and be told
            return
        with self._lock:
            for job_id in ids:
                for waiter in self._waiters.get(job_id, ()):
                    if versions.get(job_id) != waiter.version:
                        waiter.news.set()

    def _is_over(self, idle_seconds: float) -> bool:
        with self._lock:
            if self._waiters or (idle_seconds < IDLE_SECONDS and not self.is_closed):
                return False
            self._thread = None
            return True

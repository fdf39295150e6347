"""The watcher: in each process of the API one thread that looks, for all who wait for news of a job.

It looks when a bell says that something was committed, and now and then without one; where nothing was, it reads no
job.  So nobody who waits asks the store again and again, and a process in which nobody waits looks at nothing.
"""

import contextlib
import itertools
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from jobrunner.errors import StoreError
from jobrunner.store.lookout import Lookout, Standing
from jobrunner.wakeup import SUFFIX, Bell

LOOK_SECONDS: Final = 0.25  #: between two looks that nobody asked for
IDLE_SECONDS: Final = 5.0  #: without anybody who waits, until the thread ends

ANY_JOB: Final = 0  #: no job has this id; whatever is committed is news of it

_log = logging.getLogger(__name__)
_bell_numbers = itertools.count(1)


class Waiter:
    """Somebody who waits for news; he looks for himself first, and whatever is committed after that look wakes him."""

    def __init__(
        self, is_news: Callable[[Standing], bool], closed: threading.Event, have_watched: Callable[[], None]
    ) -> None:
        self._is_news = is_news
        self._have_watched = have_watched
        self._closed = closed
        self._news = threading.Event()

    def wait(self, seconds: float) -> bool:
        """Return when there was news since the last wait, when time is up, or when the process is about to end.

        Returns:
            Whether there was news, or the process has begun to end meanwhile.
        """
        self._have_watched()
        if not self._closed.is_set():  # asked after the entry was made: `Watcher.close` takes no lock
            self._news.wait(seconds)
        was_woken = self._news.is_set()
        self._news.clear()  # whoever looks from here on sees what it was
        return was_woken

    def wake(self) -> None:
        """Have him look."""
        self._news.set()

    def hear(self, standing: Standing | None) -> None:
        """Wake him if it is news how the job stands, or that it is gone."""
        if standing is None or self._is_news(standing):
            self.wake()


class Watcher:
    """Knows who waits for which job."""

    def __init__(self, lookout: Callable[[], Lookout], bells: Path, *, places: int) -> None:
        """Start nothing yet: it must survive a fork.

        Args:
            lookout: makes what the thread looks through.
            bells: the directory of the bells that are rung after each commit.
            places: how many may wait at the same time.
        """
        self._lookout = lookout
        self._bells = bells
        self._places = places
        self._taken = 0
        self._lock = threading.Lock()
        self._waiters: dict[int, set[Waiter]] = {}
        self._thread: threading.Thread | None = None
        self._poke = -1
        self._closed = threading.Event()

    @property
    def waiting(self) -> int:
        """How many have a place."""
        return self._taken

    @property
    def is_closed(self) -> bool:
        """Whether nobody waits any more, for the process is about to end."""
        return self._closed.is_set()

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

    @contextlib.contextmanager
    def waiter(self, job_id: int, is_news: Callable[[Standing], bool] = lambda _: True) -> Iterator[Waiter]:
        """Make somebody a waiter for the length of a block; he misses nothing that is committed within it.

        Args:
            job_id: of the job, or ANY_JOB.
            is_news: of how the job stands; asked after each commit, in the watcher's thread.
        """
        waiter = Waiter(is_news, self._closed, self._have_watched)
        try:
            with self._lock:
                self._waiters.setdefault(job_id, set()).add(waiter)
            yield waiter
        finally:
            with self._lock:
                self._waiters[job_id].discard(waiter)
                if not self._waiters[job_id]:
                    del self._waiters[job_id]

    def _have_watched(self) -> None:
        with self._lock:
            self._start()

    def rest(self, seconds: float) -> None:
        """Return when time is up, whatever happens to any job, or when the process is about to end."""
        self._closed.wait(seconds)

    def close(self) -> None:
        """Let everybody go who waits, and nobody wait any more; a signal handler may call this."""
        self._closed.set()
        for waiters in tuple(self._waiters.values()):
            for waiter in tuple(waiters):
                waiter.wake()
        if self._poke >= 0:
            os.eventfd_write(self._poke, 1)

    def _start(self) -> None:
        """Have a thread look; under the lock.  If there can be none, whoever waits looks when time is up."""
        if self._thread is not None:  # nor is it woken: what is there already, whoever waits sees for himself
            return
        try:
            if self._poke < 0:
                self._poke = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
            thread.start()
            self._thread = thread  # not before: the next one who waits would rely on it
        except (OSError, RuntimeError) as error:  # no descriptor is left, or no thread
            _log.warning("nobody can watch for those who wait, so news come late: %s", error)
        else:
            os.eventfd_write(self._poke, 1)  # it looks at once: a ring may have come before its bell hung

    # -- the thread --------------------------------------------------------------------------------

    def _watch(self) -> None:
        try:
            ears = _Ears(self._poke, self._bells)
            with contextlib.closing(ears), contextlib.closing(self._lookout()) as lookout:
                self._look_until_idle(lookout, ears)
        finally:
            with self._lock:
                if self._thread is threading.current_thread():  # it did not end by itself
                    self._thread = None

    def _look_until_idle(self, lookout: Lookout, ears: "_Ears") -> None:
        idle_since = time.monotonic()
        while True:
            ears.listen(LOOK_SECONDS)
            if self._waiters:
                idle_since = time.monotonic()
                try:
                    self._look(lookout)
                except StoreError as error:
                    _log.debug("%s", error)  # whoever waits will ask the store again, and be told
                except Exception:  # noqa: BLE001 - nobody else would look for those who wait
                    _log.exception("the watcher could not look, and will look again")
                    self.rest(LOOK_SECONDS)
            elif self._is_over(time.monotonic() - idle_since):
                return

    def _look(self, lookout: Lookout) -> None:
        if lookout.is_changed():
            with self._lock:
                for waiter in self._waiters.get(ANY_JOB, ()):
                    waiter.wake()
        with self._lock:
            ids = self._waiters.keys() - {ANY_JOB}
        standings = lookout.standings(ids)
        with self._lock:
            for job_id in ids:
                for waiter in self._waiters.get(job_id, ()):
                    waiter.hear(standings[job_id])

    def _is_over(self, idle_seconds: float) -> bool:
        with self._lock:
            if self._waiters or (idle_seconds < IDLE_SECONDS and not self.is_closed):
                return False
            self._thread = None
            return True


class _Ears:
    """What the thread hears: somebody who pokes it, and its bell."""

    def __init__(self, poke: int, bells: Path) -> None:
        self._poke = poke
        self._bells = bells
        self._bell: Bell | None = None
        self._was_told = False
        self._poll = select.poll()  # takes no descriptor: there may be none left
        self._poll.register(poke, select.POLLIN)

    def listen(self, seconds: float) -> None:
        """Return when there was a poke or a ring, or when time is up."""
        if self._bell is None:
            self._hang_bell()
        self._poll.poll(seconds * 1000)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._poke)
        if self._bell is not None:
            self._bell.clear()

    def _hang_bell(self) -> None:
        try:
            # Numbered: the thread before this one may be about to take down its own.
            self._bell = Bell(self._bells, f"{os.getpid()}-{next(_bell_numbers)}{SUFFIX}")
        except OSError as error:
            if not self._was_told:
                _log.warning("no bell hangs in %s now, so news come a little later: %s", self._bells, error)
            self._was_told = True
        else:
            self._poll.register(self._bell, select.POLLIN)

    def close(self) -> None:
        if self._bell is not None:
            self._bell.close()

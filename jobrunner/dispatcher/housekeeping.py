"""Housekeeping: what is kept long enough goes, in short pieces between the turns of the loop.

`step` does at most one piece.  Whoever dies in between leaves nothing that the next one would not find, and two
dispatchers do not disturb each other.
"""

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from jobrunner.lifecycle import State
from jobrunner.settings import Settings
from jobrunner.store import retention, throughput
from jobrunner.store.engine import Store

LOOK: Final = timedelta(minutes=1)  #: between two looks while there is nothing to do
SHARE: Final = (
    0.25  #: of the time, at most, for the loop has jobs to start and others wait for the write lock
)

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Housekeeping:
    """The chores of one dispatcher."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        now: datetime,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.next_at = now  #: when there is something to do, or to look for
        self._store = store
        self._monotonic = monotonic
        self._keep_seconds = {
            State.SUCCEEDED: settings.keep_succeeded,
            State.FAILED: settings.keep_failed,
            State.CANCELLED: settings.keep_failed,
        }
        # Up to where nothing is left to thin, so as not to read three months of samples each minute.
        self._thinned = dict.fromkeys((step for _, step in throughput.STEPS), _LONG_AGO)
        self._chores = deque([self._remove_jobs, self._drop_samples, self._thin_samples])

    def step(self, now: datetime) -> None:
        """Do one piece, if there is one to do and it is time."""
        if now < self.next_at <= now + LOOK:  # later than that: the clock was set back
            return
        began = self._monotonic()
        self._chores.rotate()  # each comes first in its turn
        worked = any(chore(now) for chore in self._chores)
        took = self._monotonic() - began
        self.next_at = now + (min(timedelta(seconds=took / SHARE), LOOK) if worked else LOOK)

    # -- each does one piece, and says whether there was something to do ---------------------------

    def _remove_jobs(self, now: datetime) -> bool:
        before = {
            state: now - timedelta(seconds=seconds)
            for state, seconds in self._keep_seconds.items()
            if seconds < (now - _LONG_AGO).total_seconds()  # for ever, and what comes near it
        }
        return retention.remove_some(self._store, before, monotonic=self._monotonic)

    def _drop_samples(self, now: datetime) -> bool:
        before = now - throughput.KEPT
        with self._store.read() as connection:
            oldest = throughput.oldest_at(connection)
        if oldest is None or oldest > before:
            return False
        with self._store.write(durable=False) as connection:
            throughput.drop(connection, before=before)
        return True

    def _thin_samples(self, now: datetime) -> bool:
        after = _LONG_AGO
        for age, step in throughput.STEPS:
            before = now - age
            after = max(after, self._thinned[step])
            with self._store.read() as connection:
                first = throughput.first_unthinned(connection, step, after=after, before=before)
            if first is not None:
                with self._store.write(durable=False) as connection:
                    throughput.thin(connection, step, first=first, before=before)
                self._thinned[step] = first
                return True
            self._thinned[step] = before - step  # the last one may not have been over
            after = before
        return False

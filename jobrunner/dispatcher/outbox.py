"""What a worker has to say, on its way into the Queue.

It is collected for a moment, for a trip costs more than a word.  A Queue that is full blocks nobody here: the
worker hears its job process no further until there is room, and goes on looking after it meanwhile.  What is
large waits until nearly all before it is written: a Queue is full after so many things, whatever their size.
"""

import queue
import time
from collections.abc import Callable
from typing import Final

from jobrunner.reports import Report

FLUSH_SECONDS: Final = 0.01  #: what is said travels on after this at the latest
END_SECONDS: Final = 0.2  #: the same of an end that may wait for those of the tickets after it
FULL_SECONDS: Final = 0.05  #: between two attempts to put something into a full Queue
LARGE_BYTES: Final = 1 << 18  #: of what is said in one trip
FEW: Final = 4  #: things in the Queue, behind which something large may go


class Outbox:
    """Reports that have not left yet.

    Attributes:
        due_at: when `flush` must be called, by `time.monotonic`; infinite while nothing waits.
        gathers: whether an end may wait for those of the tickets after it.
        is_stuck: the Queue was full at the last attempt: read nothing more from the job process until it is not.
    """

    def __init__(self, put_nowait: Callable[[list[Report]], None], waiting: Callable[[], int]) -> None:
        """Send by `put_nowait`, which raises queue.Full; `waiting` says how many things are in the Queue."""
        self._put_nowait = put_nowait
        self._waiting = waiting
        self._reports: list[Report] = []
        self._bytes = 0
        self._flushed_at = 0.0
        self.due_at = float("inf")
        self.gathers = False
        self.is_stuck = False

    def add(self, report: Report) -> None:
        """Take a report; after a quiet time it is due at once, and so is much at a time."""
        waits = self.gathers and report.ended is not None
        if not self.is_stuck:
            self.due_at = min(self.due_at, self._flushed_at + (END_SECONDS if waits else FLUSH_SECONDS))
        self._reports.append(report)
        self._bytes += report.size
        if self._bytes > LARGE_BYTES:
            self.due_at = min(self.due_at, self._flushed_at)

    def flush(self) -> bool:
        """Send what waits; return whether nothing waits any more, else try again when it is due."""
        now = time.monotonic()
        if self._reports:
            if not self._put():
                self.is_stuck = True
                self.due_at = now + FULL_SECONDS
                return False
            self._reports = []
            self._bytes = 0
        self.is_stuck = False
        self._flushed_at = now
        self.due_at = float("inf")
        return True

    def _put(self) -> bool:
        if self._bytes > LARGE_BYTES and self._waiting() > FEW:
            return False
        try:
            self._put_nowait(self._reports)
        except queue.Full:
            return False
        return True

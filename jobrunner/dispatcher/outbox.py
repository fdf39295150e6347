"""What a worker has to say, on its way into the Queue.

It is collected for a moment, for a trip costs more than a word.  A Queue that is full blocks nobody here: the
worker hears its job process no further until there is room, and goes on looking after it meanwhile.
"""

import queue
import time
from collections.abc import Callable
from typing import Final

from jobrunner.reports import Report

FLUSH_SECONDS: Final = 0.01  #: what is said travels on after this at the latest
FULL_SECONDS: Final = 0.05  #: between two attempts to put something into a full Queue


class Outbox:
    """Reports that have not left yet.

    Attributes:
        due_at: when `flush` must be called, by `time.monotonic`; infinite while nothing waits.
        is_stuck: the Queue was full at the last attempt: add nothing more until it is not.
    """

    def __init__(self, put_nowait: Callable[[list[Report]], None]) -> None:
        self._put_nowait = put_nowait
        self._reports: list[Report] = []
        self._flushed_at = 0.0
        self.due_at = float("inf")
        self.is_stuck = False

    def add(self, report: Report) -> None:
        """Take a report; after a quiet time it is due at once."""
        if not self._reports:
            self.due_at = self._flushed_at + FLUSH_SECONDS
        self._reports.append(report)

    def flush(self) -> bool:
        """Send what waits; return whether nothing waits any more, else try again when it is due."""
        now = time.monotonic()
        if self._reports:
            try:
                self._put_nowait(self._reports)
            except queue.Full:
                self.is_stuck = True
                self.due_at = now + FULL_SECONDS
                return False
            self._reports = []
        self.is_stuck = False
        self._flushed_at = now
        self.due_at = float("inf")
        return True

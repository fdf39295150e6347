"""What a worker has to say, on its way into the Queue: collected for a moment, for a trip costs more than a word."""

import time
from collections.abc import Callable
from typing import Final

from jobrunner.reports import Report

FLUSH_SECONDS: Final = 0.01  #: what is said travels on after this at the latest


class Outbox:
    """Reports that have not left yet.

    Attributes:
        due_at: when `flush` must be called, by `time.monotonic`; infinite while nothing waits.
    """

    def __init__(self, send: Callable[[list[Report]], None]) -> None:
        self._send = send
        self._reports: list[Report] = []
        self._flushed_at = 0.0
        self.due_at = float("inf")

    def add(self, report: Report) -> None:
        """Take a report; after a quiet time it is due at once."""
        if not self._reports:
            self.due_at = self._flushed_at + FLUSH_SECONDS
        self._reports.append(report)

    def flush(self) -> None:
        """Send what waits; blocks while the Queue is full, which slows the job and loses nothing."""
        if self._reports:
            reports, self._reports = self._reports, []
            self._send(reports)
        self._flushed_at = time.monotonic()
        self.due_at = float("inf")

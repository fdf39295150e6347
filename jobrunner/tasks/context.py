"""What a running task may know and say about itself: `current_job()`.

Outside a job it is harmless, so a task can be called in a unit test as it is.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

PROGRESS_SECONDS: Final = 0.05  #: progress is sent at most this often; the last word is never dropped


@dataclass
class CurrentJob:
    """The job that runs in this process.

    Attributes:
        id: the job's id; None outside a job.
        attempt: the number of this attempt, from 1; 0 outside a job.
        item: the index of the item that runs; None outside a map job, whose progress is its items'.
    """

    id: int | None = None
    attempt: int = 0
    _tell: Callable[[float, float | None, str | None], None] = field(default=lambda *_: None, repr=False)
    _pid: int = field(default_factory=os.getpid, repr=False)
    _told_at: float = field(default=-1.0, repr=False)
    _untold: tuple[float, float | None, str | None] | None = field(default=None, repr=False)
    item: int | None = None

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the job has come: `done` of `total`, in whatever unit, and a word about it.

        It costs next to nothing: what comes faster than 20 times a second is not sent, but for the last.
        """
        if os.getpid() != self._pid:
            return  # a forked helper of the task must not write into its parent's pipe
        self._untold = (done, total, message)
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self.flush()

    def silence(self) -> None:
        """Say nothing more: the job has ended."""
        self._tell = lambda *_: None

    def flush(self) -> None:
        """Send the last progress if it has not been sent."""
        if self._untold is not None:
            untold, self._untold = self._untold, None
            self._tell(*untold)


_NO_JOB: Final = CurrentJob()

_current = _NO_JOB


def current_job() -> CurrentJob:
    """Return the job that runs in this process; outside a job, one without an id."""
    return _current


def enter(job: CurrentJob) -> None:
    """Make `job` the current one; the job process does this before it calls the task."""
    global _current  # noqa: PLW0603 - one job process runs one job
    _current = job


def leave() -> None:
    """Have no current job any more."""
    enter(_NO_JOB)

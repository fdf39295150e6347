"""When a task ran, as its job process has told it, so far as that can be believed."""

import time
from datetime import datetime, timedelta
from typing import NamedTuple

from jobrunner.clock import utc_now
from jobrunner.dispatcher.lines import Used


class Span(NamedTuple):
    """Two moments of `time.monotonic`, which all processes of a machine share."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long that was."""
        return self.ended - self.began

    def by_wall_clock(self) -> tuple[datetime, datetime]:
        """Return both by the clock that people read."""
        now, moment = utc_now(), time.monotonic()
        return now - timedelta(seconds=moment - self.began), now - timedelta(seconds=moment - self.ended)


def span(used: Used, *, not_before: float, started: float) -> Span:
    """Return when a task ran that has ended by now.

    Args:
        used: what its process told, if anything: it may have been heard a while later, together with others.
        not_before: the task was in no process's hands before.
        started: when it began, where its process has told nothing.
    """
    now = time.monotonic()
    if not used.began:
        return Span(min(started, now), now)
    began = min(max(used.began, not_before), now)
    return Span(began, min(began + max(used.seconds, 0.0), now))

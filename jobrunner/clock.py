"""What time it is, in the one form that the whole program uses: aware UTC."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the wall clock's time, aware, in UTC.  Durations come from `time.monotonic` instead."""
    return datetime.now(UTC)

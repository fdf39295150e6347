"""What is said of a running attempt, on its way from the worker to the store."""

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from jobrunner.lifecycle import Ending


class EventKind(StrEnum):
    """What an event in a job's history tells; its data is JSON, but plain text for a log."""

    STATE = "state"
    PARTIAL = "partial"
    PROGRESS = "progress"
    LOG = "log"


class Ended(NamedTuple):
    """How an attempt ended, and what it used.

    Attributes:
        ending: what happened.
        result: JSON; not None exactly if it succeeded.
        error: what goes into the job's `error`; not None if it ended badly.
        worker: the index of the worker's slot; None where the worker is not known.
        peak_memory_bytes: the most that was resident at a time; None where nobody could see.
        cpu_seconds: user and system time of the process and of its children that were waited for.
    """

    ending: Ending
    result: str | None = None
    error: dict[str, Any] | None = None
    worker: int | None = None
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None


class Report(NamedTuple):
    """What one attempt said since its last report.

    Attributes:
        attempt: the number of the attempt that speaks: the fence against late answers.
        at: when it was said.
        said: (kind, data) in order.
        ended: not None in the attempt's last report.
    """

    job_id: int
    attempt: int
    at: datetime
    said: tuple[tuple[EventKind, str], ...] = ()
    ended: Ended | None = None


def error(ending: Ending, message: str, **more: Any) -> dict[str, Any]:
    """Return a job's `error` with every field that http clients may rely on."""
    return {
        "kind": ending.value,
        "type": None,
        "message": message,
        "traceback": None,
        "signal": None,
        "exit_code": None,
        "peak_memory_bytes": None,
        "cpu_seconds": None,
        "log_tail": None,
    } | more

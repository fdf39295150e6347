"""What is said of a running attempt, on its way from the worker to the store."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from jobrunner.lifecycle import Ending

EVENT_BYTES: Final = 150  #: that a thing said takes beside its data
FAILURE_BYTES: Final = 4000  #: that an item's error takes, mostly its traceback


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
        began_at: when the task began, which may have waited after it was claimed; None where that is not known.
        turn: of those that were lost together, how many go on before this one; see `retry.lost_seconds`.
        chunks: of a map job that was lost: the first items of the chunks that may be to blame; None: all in hand.
    """

    ending: Ending
    result: str | None = None
    error: dict[str, Any] | None = None
    worker: int | None = None
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    began_at: datetime | None = None
    turn: float = 0.0
    chunks: tuple[int, ...] | None = None


class Values(NamedTuple):
    """The values of some items that follow each other.

    Attributes:
        first: the index of the first one.
        data: a JSON array of `item_count` values.
    """

    first: int
    item_count: int
    data: str


class ItemFailed(NamedTuple):
    """One run of an item that ended badly.

    Attributes:
        item: its index.
        error: see `error`.
        charged: the budget that it costs; None if it is not tried again in any case.
        is_final: whether it is not tried again, for nothing is left of the budget.
    """

    item: int
    error: dict[str, Any]
    charged: str | None
    is_final: bool


class Report(NamedTuple):
    """What one attempt said since its last report.

    Attributes:
        attempt: the number of the attempt that speaks: the fence against late answers.
        at: when it was said.
        said: (kind, data) in order.
        ended: not None in the attempt's last report.
        items: of a map job: what became of some items, in order.
        closed: of a map job: the first item of the chunk that this is the last report on.
    """

    job_id: int
    attempt: int
    at: datetime
    said: tuple[tuple[EventKind, str], ...] = ()
    ended: Ended | None = None
    items: tuple[Values | ItemFailed, ...] = ()
    closed: int | None = None

    @property
    def size(self) -> int:
        """Roughly how many bytes of memory it takes."""
        size = sum([EVENT_BYTES + len(data) for _, data in self.said])
        if self.items:
            size += sum(len(one.data) if isinstance(one, Values) else FAILURE_BYTES for one in self.items)
        return size if self.ended is None or self.ended.result is None else size + len(self.ended.result)


def error(ending: Ending, message: str, **more: Any) -> dict[str, Any]:
    """Return a job's `error` with every field that http clients may rely on."""
    return {
        "kind": ending.value,
        "type": None,
        "message": message,
        "traceback": None,
        "signal": None,
        "exit_code": None,
        "oom_killed": None,
        "peak_memory_bytes": None,
        "cpu_seconds": None,
        "log_tail": None,
    } | more

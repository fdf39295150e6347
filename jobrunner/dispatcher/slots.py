"""The slots of the shared Array: throughput, and what runs where, without a lock.

One slot, one writer: a worker writes its own slot, the dispatcher only the three `stop_*` fields.  Each field is
eight aligned bytes, so nobody reads half of one.
"""

import ctypes
import time
from typing import Final, NamedTuple

from jobrunner.lifecycle import Ending

_ENDINGS: Final = tuple(Ending)


class Slot(ctypes.Structure):
    """What one worker does and has done."""

    _fields_ = (
        ("pid", ctypes.c_int64),  # 0: not ready yet
        ("process_pid", ctypes.c_int64),  # the job process, also the id of its process group
        ("serial", ctypes.c_int64),  # the ticket in hand; 0: idle
        ("job_id", ctypes.c_int64),
        ("attempt", ctypes.c_int64),
        ("since", ctypes.c_double),  # when the ticket came, by time.monotonic
        ("done", ctypes.c_int64),  # attempts that succeeded
        (
            "failed",
            ctypes.c_int64,
        ),  # attempts that ended otherwise, but for those that were stopped or given back
        ("partials", ctypes.c_int64),
        ("busy_seconds", ctypes.c_double),  # with tickets that are done
        ("peak_memory_bytes", ctypes.c_int64),  # of the attempt in hand, as last seen; 0: not seen yet
        ("cpu_seconds", ctypes.c_double),  # the same
        ("given_back", ctypes.c_int64),  # of a chunk: the first item that it will not come to
        ("given_back_serial", ctypes.c_int64),  # written last: the ticket of that chunk
        ("stop_ending", ctypes.c_int64),
        ("stop_grace_seconds", ctypes.c_double),
        ("stop_serial", ctypes.c_int64),  # written last: the ticket that is to stop
    )


class Stop(NamedTuple):
    """The dispatcher's wish that an attempt ends."""

    ending: Ending
    grace_seconds: float


def request_stop(slot: Slot, serial: int, stop: Stop) -> None:
    """Tell the worker to end the ticket `serial`; if it has another one in hand by now, nothing happens."""
    slot.stop_ending = _ENDINGS.index(stop.ending)
    slot.stop_grace_seconds = stop.grace_seconds
    slot.stop_serial = serial


def requested_stop(slot: Slot) -> Stop | None:
    """Return what the dispatcher wishes for the ticket in hand; a wish for an earlier ticket is void."""
    if slot.stop_serial != slot.serial:
        return None
    return Stop(_ENDINGS[slot.stop_ending], slot.stop_grace_seconds)


class Counts(NamedTuple):
    """What workers have counted since they started."""

    done: int
    failed: int
    partials: int
    busy_seconds: float


def counts(slot: Slot) -> Counts:
    """Return the slot's counts; the ticket in hand counts as busy up to now."""
    since = slot.since
    in_hand = time.monotonic() - since if slot.serial and since else 0.0
    return Counts(slot.done, slot.failed, slot.partials, slot.busy_seconds + in_hand)


def last_seen(slot: Slot) -> tuple[int | None, float | None]:
    """Return the peak memory in bytes and the CPU seconds of the attempt in hand; None if nobody has looked yet."""
    peak_memory_bytes = slot.peak_memory_bytes
    return (peak_memory_bytes, slot.cpu_seconds) if slot.serial and peak_memory_bytes else (None, None)

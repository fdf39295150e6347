"""The wall clock: whether it jumped while a dispatcher ran, whether something lies in the future."""

import ctypes
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from jobrunner.dispatcher.handle import IMPORT_SECONDS
from jobrunner.dispatcher.pool import START_SECONDS
from jobrunner.doctor.findings import Told, ok, warning
from jobrunner.doctor.situation import Situation
from jobrunner.store.dispatchers import Dispatcher

TOLERANCE_SECONDS: Final = 2.0
START_UP_SECONDS: Final = (
    IMPORT_SECONDS + START_SECONDS
)  #: that a process may be older than its entry in the store
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_TIME_ERROR: Final = 5  # linux/timex.h: the clock is not synchronized
_TIMEX_BYTES: Final = 512  # more than the kernel fills in
_REMEDY: Final = "what is due waits or comes early; keep the clock by chrony or `timedatectl set-ntp true`"


def check(situation: Situation) -> Told:
    """Whether the clock can be trusted."""
    found = [
        *(f"{text}: {_REMEDY}" for text in jumps(situation.here, situation.now, situation.boot_seconds)),
        *(f"{text}: the clock was set back; {_REMEDY}" for text in _in_the_future(situation)),
    ]
    if not found and _is_free_running():
        found = ["nothing keeps the clock right: `timedatectl set-ntp true`, unless the host does it"]
    yield from map(warning, found) if found else [ok("it has not jumped")]


def jumps(dispatchers: Sequence[Dispatcher], now: datetime, boot_seconds: float) -> Iterator[str]:
    """Say of each dispatcher how far the wall clock has jumped while it ran.

    Args:
        dispatchers: whose processes run on this machine.
        now: by the wall clock.
        boot_seconds: by the clock that nobody can set, at the same moment.
    """
    for one in dispatchers:
        by_wall = (now - one.started_at).total_seconds()
        by_boot = boot_seconds - one.started_ticks / _TICKS_PER_SECOND
        ahead = by_wall - by_boot
        # Its entry was made when its workers were up: it may be younger than its process, never older.
        if ahead > TOLERANCE_SECONDS:
            yield f"the clock has jumped {ahead:.0f} s ahead while dispatcher {one.id} ran"
        elif ahead < -TOLERANCE_SECONDS - START_UP_SECONDS:
            yield f"the clock was set back by some {-ahead:.0f} s while dispatcher {one.id} ran"


def _in_the_future(situation: Situation) -> Iterator[str]:
    moments = {f"heartbeat of dispatcher {one.id}": one.heartbeat_at for one in situation.dispatchers}
    if situation.latest_submission is not None:
        moments["latest submission"] = situation.latest_submission
    for what, moment in moments.items():
        seconds = (moment - situation.now).total_seconds()
        if seconds > TOLERANCE_SECONDS:
            yield f"the {what} lies {seconds:.0f} s in the future"


def _is_free_running() -> bool:
    """Whether the kernel says that nobody disciplines its clock; where it may not be asked, it does not."""
    state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return state == _TIME_ERROR

"""What an attempt's end means for its job: which budget it costs, and when to try again."""

import random
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from jobrunner.lifecycle import Ending, Event

BASE_SECONDS: Final = 1.0  #: the longest wait before the first retry
CAP_SECONDS: Final = 300.0  #: the longest wait before any retry

Budget = Literal["retries", "crash_retries"]

# fmt: off
CHARGED_TO: Final[dict[Ending, Budget]] = {
    Ending.EXCEPTION:    "retries",
    Ending.TIMEOUT:      "retries",
    Ending.MEMORY_LIMIT: "crash_retries",
    Ending.CRASHED:      "crash_retries",
    Ending.LOST:         "crash_retries",
}   # a value that cannot become JSON will not become JSON the next time: charged to none, never retried
# fmt: on


class Budgets(NamedTuple):
    """What a job may spend on further attempts, and what it has spent."""

    retries: int
    crash_retries: int
    retries_used: int
    crash_retries_used: int


class Verdict(NamedTuple):
    """What becomes of the job, which budget pays for it, and the wait before the next attempt."""

    event: Event
    charged: Budget | None = None
    delay_seconds: float = 0.0


def verdict(
    ending: Ending,
    budgets: Budgets,
    *,
    cancel_requested: bool = False,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Verdict:
    """Decide what `ending` means for the job that spent `budgets`.

    A job with `crash_retries` 0 is promised at most one execution, so even a release, which costs
    nothing otherwise, fails it.
    """
    if ending is Ending.SUCCEEDED:
        return Verdict(Event.SUCCEED)
    if ending is Ending.CANCELLED or cancel_requested:
        return Verdict(Event.STOP)
    if ending is Ending.RELEASED:
        return Verdict(Event.RELEASE if budgets.crash_retries else Event.FAIL)
    charged = CHARGED_TO.get(ending)
    used = budgets.retries_used if charged == "retries" else budgets.crash_retries_used
    allowed = budgets.retries if charged == "retries" else budgets.crash_retries
    if charged is None or used >= allowed:
        return Verdict(Event.FAIL)
    # A lost job did nothing wrong: it goes on at once.
    delay = 0.0 if ending is Ending.LOST else backoff_seconds(used, uniform)
    return Verdict(Event.RETRY, charged, delay)


def backoff_seconds(used: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Return the wait before a retry: exponential backoff with full jitter.

    `uniform(0, min(CAP_SECONDS, BASE_SECONDS * 2 ** used))`, where `used` counts the retries spent
    before this one.  Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return uniform(0.0, min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(used, 64)))

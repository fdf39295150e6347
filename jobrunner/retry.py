"""What an attempt's end means for its job: which budget it costs, and when to try again."""

import random
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from jobrunner.lifecycle import Ending, Event

BASE_SECONDS: Final = 1.0  #: the longest wait before the first retry
CAP_SECONDS: Final = 300.0  #: the longest wait before any retry
APART_SECONDS: Final = 3.0  #: between two jobs that were lost together

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
    turn: float = 0.0,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Verdict:
    """Decide what `ending` means for the job that spent `budgets`.

    A job with `crash_retries` 0 is promised at most one execution, so even a release, which costs
    nothing otherwise, fails it.

    Args:
        ending: how the attempt ended.
        budgets: what the job had before.
        cancel_requested: whether somebody has asked for its end.
        turn: of the jobs that were lost together, how many go on before this one.
        uniform: draws a number between two others.
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
    delay = lost_seconds(used, turn, uniform) if ending is Ending.LOST else backoff_seconds(used, uniform)
    return Verdict(Event.RETRY, charged, delay)


def sweep_verdict(ending: Ending, *, cancel_requested: bool, turn: float = 0.0) -> Verdict:
    """Decide what it means for a map job that its attempt ended before all its items did.  These pay; it does not.

    Args:
        ending: how the attempt ended.
        cancel_requested: whether somebody has asked for its end.
        turn: of the jobs that were lost together, how many go on before this one.
    """
    if ending is Ending.CANCELLED or cancel_requested:
        return Verdict(Event.STOP)
    if ending is Ending.RELEASED:
        return Verdict(Event.RELEASE)
    return Verdict(Event.RETRY, None, lost_seconds(0, turn)) if ending is Ending.LOST else Verdict(Event.FAIL)


def lost_seconds(used: int, turn: float, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Return the wait of a job that was lost with whatever ran it.

    One of those that were lost together may have done it, by a kill or by eating the machine's memory, and will do
    it again.  So they go on one after another, the youngest first, for that one has run the shortest time without
    harm.  One that does it within APART_SECONDS of its start then costs no other more than two attempts.  A
    dispatcher that starts lays the turns anew, for to start may take longer than they last.

    Args:
        used: the crash retries spent before this one.  From the third on it backs off too, lest a job with a large
            budget keep the dispatcher from its work.
        turn: how many of them go first.
        uniform: draws a number between two others.
    """
    apart = min(CAP_SECONDS, APART_SECONDS * turn)
    return apart + (backoff_seconds(used, uniform) if used >= 2 else 0.0)


def backoff_seconds(used: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Return the wait before a retry: exponential backoff with full jitter.

    `uniform(0, min(CAP_SECONDS, BASE_SECONDS * 2 ** used))`, where `used` counts the retries spent
    before this one.  Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return uniform(0.0, min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(used, 64)))

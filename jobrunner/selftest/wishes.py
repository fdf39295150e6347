"""What the traffic asks for, and what must come of it."""

import random
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from jobrunner.lifecycle import State

PLENTY: Final = 1000  #: retries that no selftest uses up
ONCE: Final = 0.1  #: of the jobs that may be promised at most one execution are
DELAYED: Final = 0.1  #: of all are to wait for a while first


class _Kind(NamedTuple):
    """A kind of job: how often it is asked for, its task, what makes up its parameters, its highest priority."""

    weight: float
    task: str
    params: Callable[[random.Random], dict[str, Any]]
    priority: int = 3


_KINDS: Final = (
    _Kind(50, "squares", lambda rng: {"n": rng.randint(1, 20_000)}),
    _Kind(8, "squares", lambda rng: {"n": rng.randint(1_000_000, 5_000_000)}),
    _Kind(20, "stream", lambda rng: {"n": rng.randint(2, 60), "pause_seconds": 0.005}),
    # Before the others: when it is lost, it is to run again while the attempt that was lost still speaks.
    _Kind(7, "stream", lambda rng: {"n": rng.randint(60, 160), "pause_seconds": 0.05}, priority=9),
    _Kind(6, "stumble", lambda rng: {"n": rng.randint(1, 1000), "times": rng.randint(1, 2)}),
    _Kind(6, "fail", lambda _: {}),
)
_WEIGHTS: Final = [kind.weight for kind in _KINDS]


class Wishes:
    """Makes up submissions, each with a stamp of its own in its parameters."""

    def __init__(self, name: str) -> None:
        """Take whose they are."""
        self._name = name
        self._made = 0

    def make(self, rng: random.Random) -> dict[str, Any]:
        """Return the body of a submission that nobody has made before."""
        self._made += 1
        _, task, params, priority = rng.choices(_KINDS, _WEIGHTS)[0]
        wish: dict[str, Any] = {
            "task": f"selftest.{task}",
            "params": {"stamp": f"{self._name}-{self._made}", **params(rng)},
            "priority": rng.randint(priority - 6, priority),
            "labels": {"client": self._name},
            "retries": 0 if task == "fail" else PLENTY,
            "crash_retries": 0 if task in ("squares", "stream") and rng.random() < ONCE else PLENTY,
        }
        if rng.random() < DELAYED:
            wish["delay_seconds"] = round(rng.uniform(0.1, 3.0), 3)
        return wish


# -- what must come of it ---------------------------------------------------------------------------


def states(wish: Mapping[str, Any]) -> frozenset[State]:
    """Return where the job may end if nobody cancels it."""
    if wish["task"] == "selftest.fail":
        return frozenset({State.FAILED})
    if wish["crash_retries"] == 0:  # what would run again fails instead
        return frozenset({State.SUCCEEDED, State.FAILED})
    return frozenset({State.SUCCEEDED})


def error_kinds(wish: Mapping[str, Any]) -> frozenset[str]:
    """Return the kinds of error that the job may fail with."""
    return frozenset({"exception"} if wish["task"] == "selftest.fail" else {"crashed", "lost"})


def result(wish: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    """Return what the job must return in this attempt."""
    return _answer(wish, attempt, wish["params"]["n"])


def partials(wish: Mapping[str, Any], attempt: int) -> list[dict[str, Any]]:
    """Return what the job must yield in this attempt, if it comes to its end."""
    if wish["task"] != "selftest.stream":
        return []
    return [_answer(wish, attempt, number) for number in range(1, wish["params"]["n"] + 1)]


def _answer(wish: Mapping[str, Any], attempt: int, n: int) -> dict[str, Any]:
    total = n * (n + 1) * (2 * n + 1) // 6  # the sum of the first n squares; the tasks add them up
    return {"stamp": wish["params"]["stamp"], "attempt": attempt, "sum": total}

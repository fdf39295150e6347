"""What the traffic asks for, and what must come of it."""

import random
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from jobrunner.lifecycle import State

PLENTY: Final = 1000  #: retries that no selftest uses up
ONCE: Final = 0.1  #: of the jobs that may be promised at most one execution are
DELAYED: Final = 0.1  #: of all are to wait for a while first
BY_SIZE: Final = 0.3  #: of the map jobs say how large a chunk is
NARROW: Final = 0.2  #: of the map jobs say how many chunks may run at a time


class _Kind(NamedTuple):
    """A kind of job: how often it is asked for, its task, what makes up its parameters, its highest priority.

    A map job has at most so many items; `is_reduced` says whether they are added up at the end.
    """

    weight: float
    task: str
    params: Callable[[random.Random], dict[str, Any]]
    priority: int = 3
    items: int = 0
    is_reduced: bool = False


_KINDS: Final = (
    _Kind(50, "squares", lambda rng: {"n": rng.randint(1, 20_000)}),
    _Kind(8, "squares", lambda rng: {"n": rng.randint(1_000_000, 5_000_000)}),
    _Kind(20, "stream", lambda rng: {"n": rng.randint(2, 60), "pause_seconds": 0.005}),
    # Before the others: when it is lost, it is to run again while the attempt that was lost still speaks.
    _Kind(7, "stream", lambda rng: {"n": rng.randint(60, 160), "pause_seconds": 0.05}, priority=9),
    _Kind(6, "stumble", lambda rng: {"n": rng.randint(1, 1000), "times": rng.randint(1, 2)}),
    _Kind(6, "fail", lambda _: {}),
    _Kind(6, "item", lambda rng: {"n": rng.randint(1, 20_000), "pause_seconds": 0}, items=400),
    _Kind(4, "item", lambda rng: {"n": rng.randint(1, 99), "pause_seconds": 0.05}, priority=9, items=40),
    _Kind(3, "item", lambda _: {"n": 1000, "pause_seconds": 0.002}, items=300, is_reduced=True),
    _Kind(2, "item", lambda _: {"n": 1, "pause_seconds": 0.002, "fail_each": 7}, items=100),
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
        kind = rng.choices(_KINDS, _WEIGHTS)[0]
        params = {"stamp": f"{self._name}-{self._made}", **kind.params(rng)}
        may_fail = kind.task == "fail" or "fail_each" in params
        may_be_once = kind.task in ("squares", "stream") or (kind.items and not may_fail)
        wish: dict[str, Any] = {
            "task": f"selftest.{kind.task}",
            "params": params,
            "priority": rng.randint(kind.priority - 6, kind.priority),
            "labels": {"client": self._name},
            "retries": 0 if may_fail else PLENTY,
            "crash_retries": 0 if may_be_once and rng.random() < ONCE else PLENTY,
        }
        if kind.items:
            wish |= _mapped(rng, kind, params["stamp"])
        if rng.random() < DELAYED:
            wish["delay_seconds"] = round(rng.uniform(0.1, 3.0), 3)
        return wish


def _mapped(rng: random.Random, kind: _Kind, stamp: str) -> dict[str, Any]:
    """Return what makes a map job of a submission."""
    told: dict[str, Any] = {"map": {"index": {"range": [0, rng.randint(1, kind.items)]}}}
    if kind.is_reduced:
        told["reduce"] = {"task": "selftest.reduce", "params": {"stamp": stamp}}
    if rng.random() < BY_SIZE:
        told["chunk_size"] = rng.randint(1, 50)
    if rng.random() < NARROW:
        told["max_parallel"] = rng.randint(1, 3)
    return told


# -- what must come of it ---------------------------------------------------------------------------


def states(wish: Mapping[str, Any]) -> frozenset[State]:
    """Return where the job may end if nobody cancels it."""
    if _fails(wish):
        return frozenset({State.FAILED})
    if wish["crash_retries"] == 0:  # what would run again fails instead
        return frozenset({State.SUCCEEDED, State.FAILED})
    return frozenset({State.SUCCEEDED})


def error_kinds(wish: Mapping[str, Any]) -> frozenset[str]:
    """Return the kinds of error that the job may fail with."""
    return frozenset({"exception"} if _fails(wish) else {"crashed", "lost"})


def _fails(wish: Mapping[str, Any]) -> bool:
    return wish["task"] == "selftest.fail" or "fail_each" in wish["params"]


def items(wish: Mapping[str, Any]) -> int | None:
    """Return how many items the job has; None if it is no map job."""
    return int(wish["map"]["index"]["range"][1]) if "map" in wish else None


def value(wish: Mapping[str, Any], attempt: int, index: int) -> dict[str, Any]:
    """Return what an item must return in this attempt of its job."""
    return {**_answer(wish, attempt, wish["params"]["n"] + index), "index": index}


def result(wish: Mapping[str, Any], attempt: int) -> dict[str, Any] | None:
    """Return what the job must return in this attempt."""
    count = items(wish)
    if count is None:
        return _answer(wish, attempt, wish["params"]["n"])
    if "reduce" not in wish:
        return None
    total = sum(value(wish, attempt, index)["sum"] for index in range(count))
    return {"stamp": wish["params"]["stamp"], "attempt": attempt, "sum": total}


def partials(wish: Mapping[str, Any], attempt: int) -> list[dict[str, Any]]:
    """Return what the job must yield in this attempt, if it comes to its end."""
    if wish["task"] != "selftest.stream":
        return []
    return [_answer(wish, attempt, number) for number in range(1, wish["params"]["n"] + 1)]


def _answer(wish: Mapping[str, Any], attempt: int, n: int) -> dict[str, Any]:
    total = n * (n + 1) * (2 * n + 1) // 6  # the sum of the first n squares; the tasks add them up
    return {"stamp": wish["params"]["stamp"], "attempt": attempt, "sum": total}

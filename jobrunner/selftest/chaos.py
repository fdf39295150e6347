"""The chaos: at random moments it kills processes, stops and continues them, and has a side drain and start again.

What is decided, and when, follows from the seed alone; who is hit then depends on who is there.
"""

import heapq
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from jobrunner.selftest.members import Member
from jobrunner.selftest.roles import Role
from jobrunner.selftest.stage import API_WORKERS, LEASE_SECONDS, SIDES, WORKERS, Stage

HOLD_SECONDS: Final = (LEASE_SECONDS + 2.0, LEASE_SECONDS + 6.0)  #: how long what stands still does so


class How(StrEnum):
    """What is done to whom."""

    KILL = "kill"  #: SIGKILL
    HOLD = "hold"  #: SIGSTOP, and SIGCONT when the lease has run out
    HOLD_FAMILY = "hold family"  #: the same, with all that it has started
    DRAIN = "drain"  #: SIGTERM


class Deed(NamedTuple):
    """One thing that chaos does."""

    how: How
    role: Role


class Series(NamedTuple):
    """Deeds that follow each other: how often each is decided, and the pause between two, evenly spread."""

    weights: Mapping[Deed, float]
    pause_seconds: tuple[float, float]


#: costs a job an attempt, or a request its answer; a pause below 0 is none
PINPRICKS: Final = Series(
    {Deed(How.KILL, Role.JOB_PROCESS): 3, Deed(How.KILL, Role.API_WORKER): 2},
    (-0.1, 1.1),
)
#: takes a side, or half of it, away for some seconds: more of it, and nothing would ever run that could be lost
BLOWS: Final = Series(
    {
        Deed(How.KILL, Role.WORKER): 5,
        Deed(How.KILL, Role.WRITER): 4,
        Deed(How.KILL, Role.FORKSERVER): 2,
        Deed(How.KILL, Role.DISPATCHER): 4,
        Deed(How.KILL, Role.API): 2,
        Deed(How.KILL, Role.SERVE): 2,
        Deed(How.HOLD_FAMILY, Role.DISPATCHER): 5,
        Deed(How.HOLD, Role.DISPATCHER): 8,
        Deed(How.HOLD, Role.WRITER): 2,
        Deed(How.HOLD, Role.API_WORKER): 1,
        Deed(How.DRAIN, Role.SERVE): 2,
    },
    (0.0, 6.0),
)

_TOLD: Final = {
    How.KILL: "killed",
    How.HOLD: "held",
    How.HOLD_FAMILY: "held with all below",
    How.DRAIN: "drained",
}


#: how many there are when all is up; one of each on each side, where nothing else is said
_FULL: Final = dict.fromkeys(Role, SIDES) | {
    Role.JOB_PROCESS: SIDES * WORKERS,
    Role.WORKER: SIDES * WORKERS,
    Role.API_WORKER: SIDES * API_WORKERS,
}


class Decision(NamedTuple):
    """What to do next.

    Attributes:
        at_seconds: since the beginning.
        deed: what, and to whom.
        pick: which one of those that there are when all is up, from 0 up to 1, the oldest first.
        hold_seconds: until it may go on, where it is only stopped.
    """

    at_seconds: float
    deed: Deed
    pick: float
    hold_seconds: float


def decisions(seed: int) -> Iterator[Decision]:
    """Yield decisions without end, the same for the same seed."""
    return heapq.merge(_decided(f"{seed} pinpricks", PINPRICKS), _decided(f"{seed} blows", BLOWS))


def _decided(seed: str, series: Series) -> Iterator[Decision]:
    rng = random.Random(seed)  # noqa: S311 - chance that can be had again
    at_seconds = 0.0
    while True:
        at_seconds += max(0.0, rng.uniform(*series.pause_seconds))
        (deed,) = rng.choices(list(series.weights), list(series.weights.values()))
        yield Decision(at_seconds, deed, rng.random(), rng.uniform(*HOLD_SECONDS))


@dataclass
class _Held:
    """Processes that stand still, until a moment of `time.monotonic`."""

    processes: list[Member]
    until: float


class Chaos:
    """Carries out decisions on a stage.

    Attributes:
        done: how often each deed has hit somebody.
    """

    def __init__(self, stage: Stage, decided: Iterator[Decision]) -> None:
        self.done: Counter[Deed] = Counter()
        self._stage = stage
        self._decided = decided
        self._next = next(decided)
        self._began = time.monotonic()
        self._held: _Held | None = None

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(times for deed, times in self.done.items() if deed.how is How.KILL)

    def __str__(self) -> str:
        told = []
        for how, word in _TOLD.items():
            times = {deed.role: count for deed, count in self.done.items() if deed.how is how and count}
            if times:
                each = ", ".join(f"{role} {times[role]}" for role in Role if role in times)
                told.append(f"{sum(times.values())} {word} ({each})")
        return "; ".join(told)

    def step(self, now: float) -> None:
        """Do what is due."""
        if self._held is not None and now >= self._held.until:
            self.calm()
        while now >= self._began + self._next.at_seconds:
            self._carry_out(self._next, now)
            self._next = next(self._decided)

    def calm(self) -> None:
        """Let go on what stands still."""
        if self._held is not None:
            # The dispatcher comes last: until then the others speak for an attempt that may be lost.
            for member in reversed(self._held.processes):
                self._stage.send(member, signal.SIGCONT)
            self._held = None

    def _carry_out(self, decision: Decision, now: float) -> None:
        how, role = decision.deed
        if how in (How.HOLD, How.HOLD_FAMILY) and self._held is not None:
            return  # with both sides at a stand nobody would find out
        there = self._stage.cast()[role]
        # So that each is as likely to be hit however few there are: what is just coming up has a chance.
        which = int(decision.pick * max(len(there), _FULL[role]))
        if which >= len(there):
            return
        victim = there[which]
        if how is How.KILL:
            hit = self._stage.send(victim, signal.SIGKILL)
        elif how is How.DRAIN:
            hit = self._stage.send(victim, signal.SIGTERM)
        else:
            hit = self._hold(victim, how, now + decision.hold_seconds)
        self.done[decision.deed] += hit

    def _hold(self, victim: Member, how: How, until: float) -> bool:
        processes = self._stage.family(victim) if how is How.HOLD_FAMILY else [victim]
        stopped = [member for member in processes if self._stage.send(member, signal.SIGSTOP)]
        self._held = _Held(stopped, until)
        return bool(stopped)

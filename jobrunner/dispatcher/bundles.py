"""Bundles: short tickets travel together, for a trip costs more than they do.

How long a task takes is learnt from its last attempts.  A worker that finds its bundle longer than expected gives the
rest of it back, so a wrong guess delays nobody for more than a moment.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Final

from jobrunner.store.moves import Claimed

BUNDLE_SECONDS: Final = 0.2  #: the work in a bundle, as far as can be foreseen
LEAST_SECONDS: Final = 0.05  #: of work that is worth a trip, however few jobs are left
SHARES: Final = 2  #: of what is left, a bundle is one of so many for each worker: the last ones end together
BUNDLE_TICKETS: Final = 512  #: at most
AHEAD_SECONDS: Final = 0.25  #: the longest that is claimed ahead, as far as can be foreseen
MOST_AT_A_TIME: Final = 2048  #: in one claim: each is a variable of a statement, and SQLite allows 32,766
FORGETTING: Final = 0.2  #: the weight of a new, shorter duration; a longer one counts whole, at once


class Packer:
    """Remembers how long tasks take, and packs jobs accordingly."""

    def __init__(self, workers: int) -> None:
        # Where all wait for one worker, the next bundle lies ready behind the one in hand: nobody is to wait for both.
        self._most_seconds = BUNDLE_SECONDS if workers > 1 else BUNDLE_SECONDS / 2
        self._shares = SHARES * workers
        self._expected: dict[str, float] = {}  # seconds, by task; what is not in it may take for ever
        self._fit = 1  # so many of the shortest one fit into a bundle
        self._limit = 0  # how many were looked at last

    def learn(self, task: str, seconds: float) -> None:
        """Take note of an attempt's duration."""
        before = self._expected.get(task, seconds)
        self._expected[task] = max(seconds, before + FORGETTING * (seconds - before))

    def limit(self, places: int) -> int:
        """Return how many jobs to look at for so many bundles: more than one each only where some are short."""
        self._limit = min(places * self._fit, MOST_AT_A_TIME)
        return self._limit

    def pack(self, ready: Sequence[Claimed], free: int, ahead: int = 0) -> list[list[Claimed]]:
        """Deal the first of `ready` into bundles, in order, as long as they fit.

        A job of an unknown or a long task travels alone, and so does one with `crash_retries` 0: it is
        promised at most one execution, so it must not be claimed before it can start.

        Args:
            ready: the jobs.
            free: at most so many bundles for workers that are free.
            ahead: beside these at most so many of jobs that are short.
        """
        most = self._share(ready)
        first = self._deal(ready, free, most)
        rest = itertools.takewhile(self.is_short, ready[sum(map(len, first)) :])
        return first + self._deal(list(rest), ahead, most)

    def is_short(self, one: Claimed) -> bool:
        """Whether a job may be claimed ahead: a worker is done with it soon."""
        return self._seconds(one) <= AHEAD_SECONDS

    def _share(self, ready: Sequence[Claimed]) -> float:
        """Return how much work goes into a bundle, in seconds: less, if these are the last jobs."""
        if len(ready) >= self._limit:
            return self._most_seconds
        short = (seconds for one in ready if (seconds := self._seconds(one)) <= AHEAD_SECONDS)
        return min(max(sum(short) / self._shares, LEAST_SECONDS), self._most_seconds)

    def _deal(self, ready: Sequence[Claimed], places: int, most_seconds: float) -> list[list[Claimed]]:
        bundles: list[list[Claimed]] = [[] for _ in range(places)]
        loads = [0.0] * places
        for one in ready if places else ():
            seconds = self._seconds(one)
            lightest = loads.index(min(loads))
            bundle = bundles[lightest]
            if bundle and (loads[lightest] + seconds > most_seconds or len(bundle) >= BUNDLE_TICKETS):
                break
            bundle.append(one)
            loads[lightest] += seconds
        taken = [bundle for bundle in bundles if bundle]
        if taken:
            shortest = min(self._seconds(one) for bundle in taken for one in bundle)
            self._fit = max(1, min(BUNDLE_TICKETS, math.ceil(BUNDLE_SECONDS / shortest)))
        return taken

    def _seconds(self, one: Claimed) -> float:
        if one.crash_retries == 0:
            return float("inf")
        # Never nothing: a trip's own cost per ticket counts too.
        return max(self._expected.get(one.task, float("inf")), BUNDLE_SECONDS / (BUNDLE_TICKETS + 1))

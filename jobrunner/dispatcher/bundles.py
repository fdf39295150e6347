"""Bundles: short tickets travel together, for a trip costs more than they do.

How long a task takes is learnt from its last attempts.  A worker that finds the first ticket of its bundle
longer than expected gives the others back at once, so a wrong guess delays nobody for more than a moment.
"""

from collections.abc import Sequence
from typing import Final

from jobrunner.store.moves import Claimed

BUNDLE_SECONDS: Final = 0.05  #: the work in a bundle, as far as can be foreseen
BUNDLE_TICKETS: Final = 256  #: at most
MOST_AT_A_TIME: Final = 2048  #: in one claim: each is a variable of a statement, and SQLite allows 32,766
FORGETTING: Final = 0.2  #: the weight of a new, shorter duration; a longer one counts whole, at once


class Packer:
    """Remembers how long tasks take, and packs jobs accordingly."""

    def __init__(self) -> None:
        self._expected: dict[str, float] = {}  # seconds, by task; what is not in it may take for ever
        self._any_short = False

    def learn(self, task: str, seconds: float) -> None:
        """Take note of an attempt's duration."""
        before = self._expected.get(task, seconds)
        self._expected[task] = max(seconds, before + FORGETTING * (seconds - before))

    def limit(self, free: int) -> int:
        """Return how many jobs to look at for `free` workers: more than one each only where some are short."""
        return min(free * (BUNDLE_TICKETS if self._any_short else 1), MOST_AT_A_TIME)

    def pack(self, ready: Sequence[Claimed], free: int) -> list[list[Claimed]]:
        """Deal the first of `ready` into at most `free` bundles, in order, as long as they fit.

        A job of an unknown or a long task travels alone, and so does one with `crash_retries` 0: it is
        promised at most one execution, so it must not be claimed before it can start.
        """
        bundles: list[list[Claimed]] = [[] for _ in range(free)]
        loads = [0.0] * free
        for one in ready:
            seconds = self._seconds(one)
            lightest = loads.index(min(loads))
            bundle = bundles[lightest]
            if bundle and (loads[lightest] + seconds > BUNDLE_SECONDS or len(bundle) >= BUNDLE_TICKETS):
                break
            bundle.append(one)
            loads[lightest] += seconds
        taken = [bundle for bundle in bundles if bundle]
        if taken:
            self._any_short = any(load <= BUNDLE_SECONDS for load in loads[: len(taken)])
        return taken

    def _seconds(self, one: Claimed) -> float:
        if one.crash_retries == 0:
            return float("inf")
        # Never nothing: a trip's own cost per ticket counts too.
        return max(self._expected.get(one.task, float("inf")), BUNDLE_SECONDS / (BUNDLE_TICKETS + 1))

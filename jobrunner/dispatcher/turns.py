"""Whose turn it is: higher priority first; among equals whoever has waited longest for one.

All single jobs together are one party, each map job is another.  Whoever comes new, or had nothing to do for a while,
is next: so a single job waits for a worker no longer than the chunk in its hands takes, and what lies ready before it.
"""

from collections.abc import Sequence

from jobrunner.dispatcher.sweep import Sweep
from jobrunner.store.moves import Claimed


class Turns:
    """Who had a turn, and when; a turn is a free worker."""

    def __init__(self) -> None:
        self._count = 0
        self._jobs_served = 0  # the single jobs' last turn

    def of_jobs(
        self, free: int, jobs: Sequence[Claimed], sweeps: Sequence[Sweep], new_maps: Sequence[Claimed]
    ) -> int:
        """Return how many of the free workers are for single jobs.

        Args:
            free: how many there are.
            jobs: that are ready, in their order.
            sweeps: that have something for a worker.
            new_maps: that are about to become sweeps.
        """
        rivals = [(one.job.priority, one.served) for one in sweeps]
        rivals += [(one.priority, 0) for one in new_maps]
        served, count, taken = self._jobs_served, self._count, 0
        for _ in range(min(free, len(jobs)) if rivals else 0):
            best = min(rivals, key=lambda rival: (-rival[0], rival[1]))
            count += 1
            mine = jobs[taken].priority
            if mine > best[0] or (mine == best[0] and served <= best[1]):
                taken, served = taken + 1, count
            else:
                rivals[rivals.index(best)] = best[0], count
        return taken if rivals else free

    def had_jobs(self) -> None:
        """Single jobs had a turn."""
        self._count += 1
        self._jobs_served = self._count

    def next_of(self, sweeps: Sequence[Sweep], *, ahead: bool = False) -> Sweep | None:
        """Give a turn to one of the sweeps, which all have something for a worker; None if there is none.

        Ahead of the workers, None too if the next one's is not short: it has its turn when a worker is free.
        """
        chosen = min(sweeps, key=lambda one: (-one.job.priority, one.served), default=None)
        if chosen is None or (ahead and not chosen.is_short):
            return None
        self._count += 1
        chosen.served = self._count
        return chosen

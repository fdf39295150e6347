"""The work that both sides of a comparison are given: the same functions, here and there."""

import time
from functools import cache
from typing import Final

TRIALS: Final = 25


def same(n: int) -> int:
    """Do nothing."""
    return n


def burn(n: int, rounds: int) -> int:
    """Burn CPU: a fixed amount of arithmetic, however long the machine takes for it."""
    for _ in range(rounds):
        n = (n * 1103515245 + 12345) & 0x7FFFFFFF
    return n


@cache
def rounds_in(milliseconds: float) -> int:
    """Return for how many rounds `burn` takes so much CPU time where nothing slows it."""
    sample = 20_000
    taken = []
    for _ in range(TRIALS):
        start = time.process_time()
        burn(1, sample)
        taken.append(time.process_time() - start)
    return round(sample * milliseconds / 1000 / min(taken))

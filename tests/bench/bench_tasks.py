"""The tasks that the figures are taken with."""

import ctypes
import signal
import time
from collections.abc import Iterator

from jobrunner import task
from tests.bench import work


@task(name="bench.nothing")
def nothing() -> None:
    """Do nothing."""


@task(name="bench.same")
def same(n: int) -> int:
    """Do nothing with `n`."""
    return work.same(n)


@task(name="bench.burn")
def burn(rounds: int, n: int = 1) -> int:
    """Burn CPU in so many rounds of arithmetic."""
    return work.burn(n, rounds)


@task(name="bench.started")
def started() -> float:
    """Say when it started."""
    return time.time()


@task(name="bench.count")
def count(n: int) -> Iterator[int]:
    """Yield `n` partial results."""
    yield from range(n)


@task(name="bench.stuck")
def stuck() -> Iterator[str]:
    """Get stuck in C, deaf to SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    yield "stuck"
    ctypes.PyDLL(None).sleep(600)  # type: ignore[attr-defined]  # holds the GIL


@task(name="bench.ticks")
def ticks(n: int, pause_seconds: float) -> Iterator[float]:
    """Yield what time it is, `n` times."""
    for _ in range(n):
        time.sleep(pause_seconds)
        yield time.time()

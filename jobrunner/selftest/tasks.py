"""What the selftest submits: tasks whose results can be told without running them.

Each adds squares, one after another; the audit knows the sums from a formula.  What they yield and return names
the attempt that says it, so that a word of one attempt that was taken for another's shows.
"""

import os
import time
from collections.abc import Generator, Iterator
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from jobrunner import current_job, task

RUNS: Final = "SELFTEST_RUNS"  #: the variable with the path of the file in which executions note themselves
Stamp: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{1,64}$")]


def _begin(stamp: str, item: int | None = None) -> int:
    """Note this execution in the file that RUNS names, in one write; return the attempt's number."""
    attempt = current_job().attempt
    stamp = stamp if item is None else f"{stamp}/{item}"
    # Not a parameter: whoever may submit a job must not choose what is written where.
    fd = os.open(os.environ[RUNS], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, f"{stamp} {attempt}\n".encode("ascii"))
    finally:
        os.close(fd)
    return attempt


def _answer(stamp: str, attempt: int, total: int) -> dict[str, Any]:
    return {"stamp": stamp, "attempt": attempt, "sum": total}


def _sum(n: int) -> int:
    total = 0
    for number in range(1, n + 1):
        total += number * number
    return total


@task(name="selftest.squares")
def squares(stamp: Stamp, n: int) -> dict[str, Any]:
    """Add the squares of 1 to `n`."""
    attempt = _begin(stamp)
    return _answer(stamp, attempt, _sum(n))


@task(name="selftest.stream")
def stream(stamp: Stamp, n: int, pause_seconds: float) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Add the squares of 1 to `n`; each sum on the way is a partial result, a progress and a line of the log."""
    attempt = _begin(stamp)
    total = 0
    for number in range(1, n + 1):
        total += number * number
        yield _answer(stamp, attempt, total)
        current_job().progress(number, n)
        print(number)  # noqa: T201 - a job's log
        time.sleep(pause_seconds)
    return _answer(stamp, attempt, total)


@task(name="selftest.stumble")
def stumble(stamp: Stamp, n: int, times: int) -> dict[str, Any]:
    """Raise in the first `times` attempts; then add the squares of 1 to `n`."""
    attempt = _begin(stamp)
    if attempt <= times:
        raise RuntimeError(stamp)
    return _answer(stamp, attempt, _sum(n))


@task(name="selftest.fail")
def fail(stamp: Stamp) -> None:
    """Raise in every attempt."""
    _begin(stamp)
    raise ValueError(stamp)


@task(name="selftest.item")
def item(stamp: Stamp, n: int, index: int, pause_seconds: float, fail_each: int = 0) -> dict[str, Any]:
    """Add the squares of 1 to `n + index`; raise if the index is a multiple of `fail_each`."""
    attempt = _begin(stamp, index)
    time.sleep(pause_seconds)
    if fail_each and index % fail_each == 0:
        raise ValueError(stamp)
    return {**_answer(stamp, attempt, _sum(n + index)), "index": index}


@task(name="selftest.reduce")
def reduce(values: Iterator[dict[str, Any]], stamp: Stamp) -> dict[str, Any]:
    """Add the sums of all items up, which come in the order of their indexes."""
    total = 0
    for index, value in enumerate(values):
        if (value["stamp"], value["index"]) != (stamp, index):
            raise ValueError(f"{value} came as number {index}")
        total += value["sum"]
    return _answer(stamp, current_job().attempt, total)

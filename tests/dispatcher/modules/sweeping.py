"""Tasks for map jobs; each leaves a trace of its runs, if it is told where."""

import contextlib
import ctypes
import dataclasses
import itertools
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from jobrunner import current_job, task

_FOREVER = threading.Event()


def _trace(directory: str, n: int) -> None:
    """Leave one line for each run, in a file of the item's own."""
    if directory:
        with Path(directory, f"{n}.runs").open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")


@task
def same(n: int) -> int:
    return n


@task
def echo(n: Any, m: Any = None) -> Any:
    return [n, m]


@task
def traced(n: int, directory: str) -> int:
    _trace(directory, n)
    return n


@task
def where(n: int) -> dict[str, Any]:
    job = current_job()
    job.progress(n, 10, "of one item")
    return {"n": n, "item": job.item, "id": job.id, "attempt": job.attempt}


@task
def odd_fails(n: int, directory: str = "") -> int:
    _trace(directory, n)
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n


@task
def fails_unless(n: int, directory: str) -> int:
    _trace(directory, n)
    if n % 3 == 0 and not Path(directory, "fixed").exists():
        raise ValueError(f"{n} is divisible by 3")
    return n


@task
def one_dies(n: int, bad: int, how: str, directory: str = "") -> int:
    _trace(directory, n)
    if n == bad:
        if how == "exit":
            os._exit(7)
        if how == "segfault":
            ctypes.string_at(0)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hang":
            _FOREVER.wait()
        if how == "memory":
            _FOREVER.wait(0.0 if bytearray(400 << 20) else 1.0)
            _FOREVER.wait()
    return n


@task
def waits(n: int, directory: str) -> int:
    """Wait until the test lets this item go, or all."""
    _trace(directory, n)
    while not (Path(directory, f"{n}.go").exists() or Path(directory, "go").exists()):
        _FOREVER.wait(0.01)
    return n


@task
def doubled(n: int) -> Generator[int, None, int]:
    yield -n
    return 2 * n


@task
def total(values: Iterator[int], start: int = 0) -> int:
    return sum(values, start)


@task
def first_of(values: Any) -> Any:
    return next(values)


@task
def bad_total(values: Iterator[int]) -> int:
    raise RuntimeError(f"after {next(values)}")


@task
def prints(n: int) -> None:
    print("item", n, "x" * 50)


@task
def by_name(*, n: int) -> int:
    return n


@dataclasses.dataclass
class Even:
    """A value that refuses some, in its own way."""

    n: int

    def __post_init__(self) -> None:
        if self.n % 2:
            raise LookupError(f"{self.n} is odd")


@task
def half(even: Even) -> int:
    return even.n // 2


@task
def first_three(values: Iterator[int]) -> list[int]:
    return list(itertools.islice((value for value in values), 3))


@task
def deaf(n: int, directory: str) -> int:
    """Outlast the timeout, whatever it brings, and end well."""
    _trace(directory, n)
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        with contextlib.suppress(BaseException):
            _FOREVER.wait(0.05)
    return n

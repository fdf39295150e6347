"""Tasks for map jobs in which something dies: each run of an item is noted, and many do what items must not."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobrunner import task

_FOREVER = threading.Event()


def _note(directory: str, what: Any) -> None:
    """Add a line to the file of all runs, in one write."""
    fd = os.open(Path(directory, "runs"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{what}\n".encode())
    os.close(fd)


def _wait(directory: str, *names: str) -> None:
    while not any(Path(directory, name).exists() for name in names):
        _FOREVER.wait(0.01)


@task
def passes(n: int, directory: str, step: int = 1) -> int:
    """Return `n`; each item whose number is a multiple of `step` waits until it may, or all may, and tidies up."""
    _note(directory, n)
    if n % step == 0:
        try:
            _wait(directory, f"{n}.go", "go")
        finally:
            Path(directory, f"{n}.tidied").touch()
    return n


@task
def misbehaves(n: int, how: str, directory: str) -> Any:
    """Let item 3 of a chunk do what it must not."""
    _note(directory, n)
    if n == 3 and how == "forks":
        pid = os.fork()  # the child comes back to us as if it were the job's
        return n if pid == 0 else os.waitpid(pid, 0)[1]
    if n == 3 and how == "forks and raises":
        if os.fork() == 0:
            raise RuntimeError("the child")
        return os.wait()[1]
    return _MISDEEDS[how]() if n == 3 else n


def _exit() -> None:
    raise SystemExit(7)


def _write_garbage() -> None:
    for entry in Path("/proc/self/fd").iterdir():
        try:
            os.write(int(entry.name), b"nonsense\n")
        except OSError:
            continue
    _FOREVER.wait()


def _vanish() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


_MISDEEDS = {
    "exits": _exit,
    "is too large": lambda: "x" * 2_000_000,
    "is no JSON": object,
    "writes garbage": _write_garbage,
    "dies": _vanish,
}


@task
def fails_unless(n: int, directory: str) -> int:
    """Raise for each third item until the file `fixed` is there."""
    _note(directory, n)
    if n % 3 == 0 and not Path(directory, "fixed").exists():
        raise ValueError(f"{n} is divisible by 3")
    return n


@task
def prints(n: int, directory: str) -> int:
    _note(directory, n)
    print(f"item {n} " + "x" * 1000)
    return n


@task
def total(values: Iterator[int], directory: str) -> int:
    """Add the values up when the file `reduce` is there."""
    _note(directory, f"reduce {os.getpid()}")
    first = next(values)
    _wait(directory, "reduce")
    return first + sum(values)

"""Tasks that a test calls through an executor."""

import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from jobrunner import task


@task
def power(base: int, exponent: int = 2) -> int:
    """Raise a number to a power."""
    return int(base**exponent)


@task(name="named")
def under_another_name(self_: int, fn: int, task: int = 0) -> list[int]:
    """Say what it was given."""
    return [self_, fn, task]


@task
def up_to(n: int) -> Generator[int, None, int]:
    """Yield the numbers below n, return their sum."""
    yield from range(n)
    return sum(range(n))


@task
def long_text(size: int) -> str:
    """Return so many characters."""
    return "x" * size


@task
def length(text: str) -> int:
    """Count characters."""
    return len(text)


@dataclass
class Place:
    """Where something is."""

    x: float
    y: float


@task
def moved(place: Place, by: float) -> Place:
    """Move a place."""
    return Place(place.x + by, place.y + by)


class OwnError(Exception):
    """An error that only this module knows."""


class Odd:
    """A key whose repr looks like Python and is none."""

    def __repr__(self) -> str:
        return "{{}}"


_NOTHING: dict[Any, Any] = {}
_ERRORS: dict[str, Any] = {
    "ValueError": lambda: ValueError("no such value"),
    "empty": AssertionError,
    "KeyError": lambda: _NOTHING["a key"],
    "KeyError of an object": lambda: _NOTHING[Place],
    "KeyError of an odd key": lambda: _NOTHING[Odd()],
    "FileNotFoundError": lambda: Path("/no/such/file").read_text(),
    "rename": lambda: Path("/no/such/file").rename("/no/other"),
    "OSError": lambda: OSError("only a text"),
    "UnicodeDecodeError": b"\xff".decode,
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError("a"), ValueError("b")]),
    "OwnError": lambda: OwnError("my own"),
    "SystemExit": lambda: SystemExit(3),
    "TimeoutError": lambda: TimeoutError("took too long"),
}


@task
def fails(how: str) -> None:
    """Raise something."""
    made = _ERRORS[how]()
    raise made


@task
def fails_at(number: int, bad: int) -> int:
    """Fail for one number."""
    if number == bad:
        raise ValueError(f"{number} is bad")
    return number


@task
def dies() -> None:
    """Kill its own process."""
    os._exit(3)


@task
def dies_at(number: int, bad: int) -> int:
    """Kill its own process for one number."""
    if number == bad:
        os._exit(3)
    return number


@task
def held(folder: str, name: str) -> str:
    """Say that it runs, then wait for a file."""
    Path(folder, f"{name}.runs").touch()
    while not Path(folder, name).exists():
        Event().wait(0.005)
    return name

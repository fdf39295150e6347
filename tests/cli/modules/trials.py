"""Tasks that fail when a test says so, and one with parameters of many kinds."""

from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Literal

import msgspec

from jobrunner import current_job, task


@task(retries=2)
def third_time(folder: str) -> Generator[str, None, str]:
    """Fail twice, each time when a file named after the attempt appears."""
    attempt = current_job().attempt
    print(f"try {attempt}")  # noqa: T201 - the job's log
    yield f"by {attempt}"
    while not Path(folder, str(attempt)).exists():
        Event().wait(0.005)
    if attempt < 3:
        raise ValueError(f"not the {attempt}. time")
    return "well"


class Mood(Enum):
    """How."""

    GOOD = "good"
    BAD = "bad"


@dataclass
class Point:
    """Where."""

    x: float
    y: float = 0.0


@dataclass
class Line:
    """From where to where."""

    start: Point
    end: Point | None = None
    tags: list[str] = field(default_factory=list)


@task
def draw(  # noqa: PLR0917 - one of every kind
    line: Line,
    points: list[Point],
    pair: tuple[int, str],
    when: datetime,
    mood: Mood,
    width: Annotated[int, msgspec.Meta(gt=5, multiple_of=4)],
    share: Annotated[float, msgspec.Meta(lt=0.5)],
    name: Annotated[str, msgspec.Meta(min_length=6, max_length=8)],
    by_name: dict[str, Point],
    several: Annotated[list[int], msgspec.Meta(min_length=2)],
    anything: Any,
    either: int | str,
    data: bytes,
    where: Path,
    palette: Literal["fire", "very cold"] = "fire",
    *,
    fill: bool = False,
) -> str:
    """Draw a line."""
    return f"{line} {points} {pair} {when} {mood} {width} {share} {name} {by_name} {several} {palette} {fill}"

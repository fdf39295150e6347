"""Values that a task may return although JSON does not have them, and a reader that is strict."""

import dataclasses
import enum
import json
import math
from typing import Any, NamedTuple, NoReturn

import msgspec

from jobrunner.tasks.encoding import to_json


class Colour(enum.Enum):
    RED = "red"
    NOTHING = None
    NAN = math.nan


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: float
    y: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    name: str


class Pair(NamedTuple):
    left: int
    right: int


class Custom:
    pass


def refuse_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


def read(text: str) -> Any:
    """Read JSON as strict readers do."""
    assert text.isascii()
    assert text.isprintable()
    value = json.loads(text, parse_constant=refuse_constant)
    msgspec.json.decode(text)
    return value


def written(value: Any) -> Any:
    """What a reader finds of `value`."""
    return read(to_json(value, "result"))

"""Functions whose one parameter has a given hint, and what becomes of it."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jobrunner.tasks.parameters import Parameters

NOT_GIVEN: Any = object()


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


class Shape(enum.Enum):
    ROUND = "round"


@dataclass
class Point:
    x: float
    y: float = 0.0


@dataclass
class Tree:
    name: str
    parts: list["Tree"] = field(default_factory=list)


def taking(hint: Any, default: Any = NOT_GIVEN) -> Callable[..., None]:
    """A function whose one parameter `x` has this hint."""

    def function(x: Any) -> None: ...

    function.__annotations__ = {"x": hint, "return": None}
    if default is not NOT_GIVEN:
        function.__defaults__ = (default,)
    return function


def schema_of(hint: Any, default: Any = NOT_GIVEN) -> dict[str, Any]:
    """What the schema says of the parameter."""
    found = Parameters(taking(hint, default)).schema["properties"]["x"]
    assert isinstance(found, dict)
    return found


def made_of(hint: Any, value: Any) -> Any:
    """What the function would be given for this JSON."""
    return Parameters(taking(hint)).arguments({"x": value})["x"]

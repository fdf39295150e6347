"""Hints that cannot be kept are refused where the task is written, not where it runs."""

import enum
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from jobrunner.errors import TaskDefinitionError
from jobrunner.tasks.parameters import Parameters
from tests.words.hints import NOT_GIVEN, Level, Point, Tree, made_of, taking


class Custom:
    pass


@dataclass
class Unfinished:
    part: "NoSuchName"  # type: ignore[name-defined]  # noqa: F821 - that is what is refused


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


T = typing.TypeVar("T", bound=Custom)


@pytest.mark.parametrize(
    ("hint", "why"),
    [
        (Custom, r"a parameter has a type that JSON cannot carry: .*Custom"),
        (Custom | None, r"JSON cannot carry: .*Custom"),
        (list[Custom], r"JSON cannot carry: .*Custom"),
        (PurePath, r"JSON cannot carry: pathlib\.PurePath"),
        (object, r"JSON cannot carry"),
        (Callable[[int], int], r"JSON cannot carry"),
        (T, r"JSON cannot carry"),
        (Mixed, r"JSON cannot carry: Enums must contain either all str or all int"),
        (Point | Tree, r"JSON cannot carry: Type unions may not contain more than one dataclass"),
        (dict[int, str], r"JSON cannot carry: .*key"),
        (dict[str, dict[Level, str]], r"JSON cannot carry: .*key"),
        (typing.Mapping[int, str], r"JSON cannot carry: .*key"),
        (Unfinished, r"name 'NoSuchName' is not defined"),
        (5, r"JSON cannot carry|cannot be read"),
        ("NoSuchName", r"a type hint cannot be read: name 'NoSuchName' is not defined"),
        ("enum.no_such_attribute", r"a type hint cannot be read"),
        ("not a type(", r"a type hint cannot be read"),
    ],
)
@pytest.mark.parametrize("default", [NOT_GIVEN, None], ids=["required", "with a default"])
def test_a_hint_that_json_cannot_carry_is_refused_with_the_functions_name(
    hint: Any, why: str, default: Any
) -> None:
    with pytest.raises(TaskDefinitionError, match=why) as caught:
        Parameters(taking(hint, default))
    assert str(caught.value).startswith("taking.<locals>.function: a ")


# -- moments ---------------------------------------------------------------------------------


@dataclass
class Window:
    begin: datetime
    end: datetime | None = None


class Span(typing.NamedTuple):
    begin: datetime


class Meeting(typing.TypedDict):
    begin: datetime


@dataclass
class Diary:
    spans: list[Span]


@dataclass
class Exact:
    begin: Annotated[datetime, Meta(tz=True)]


@pytest.mark.parametrize(
    ("hint", "given"),
    [
        (datetime, "2026-01-31T12:00:00"),
        (datetime | None, "2026-01-31T12:00:00"),
        (list[datetime], ["2026-01-31T12:00:00"]),
        (dict[str, list[datetime]], {"a": ["2026-01-31T12:00:00"]}),
        (tuple[datetime, ...], ["2026-01-31T12:00:00"]),
        (Annotated[datetime, Meta(description="when")], "2026-01-31T12:00:00"),
        (typing.Sequence[datetime], ["2026-01-31T12:00:00"]),
        (typing.Mapping[str, datetime], {"a": "2026-01-31T12:00:00"}),
        (Annotated[datetime, Meta(tz=False)], "2026-01-31T12:00:00"),
        (Exact, {"begin": "2026-01-31T12:00:00"}),
        (Span, ["2026-01-31T12:00:00"]),
        (Meeting, {"begin": "2026-01-31T12:00:00"}),
        (Diary, {"spans": [["2026-01-31T12:00:00"]]}),
        (Window, {"begin": "2026-01-31T12:00:00"}),
        (Window | None, {"begin": "2026-01-31T12:00:00Z", "end": "2026-01-31T13:00:00"}),
    ],
)
def test_a_moment_without_a_zone_is_refused_wherever_it_stands(hint: Any, given: Any) -> None:
    """It means another moment elsewhere.  A hint that would let one through is refused itself."""
    try:
        parameters = Parameters(taking(hint))
    except TaskDefinitionError:
        return
    with pytest.raises(msgspec.ValidationError, match="timezone"):
        parameters.arguments({"x": given})


def test_a_dataclass_may_hold_moments_that_say_their_zone() -> None:
    begin = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert made_of(Exact, {"begin": "2026-01-31T12:00:00Z"}) == Exact(begin)

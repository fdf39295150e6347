"""What a check says, and what becomes of it."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple, TypeAlias


class Grade(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  #: it may do harm, or something cannot be told
    SERIOUS = "serious"  #: jobs are lost by it, or do not run


#: one thing that a check found: how bad it is, and one line with the remedy
Said: TypeAlias = tuple[Grade, str]
Told: TypeAlias = Iterator[Said]


def ok(text: str) -> Said:
    """Say that nothing is wrong."""
    return Grade.OK, text


def warning(text: str) -> Said:
    """Say what may do harm, or cannot be told."""
    return Grade.WARNING, text


def serious(text: str) -> Said:
    """Say what loses jobs, or keeps them from running."""
    return Grade.SERIOUS, text


class Finding(NamedTuple):
    """What was said, and by which check."""

    grade: Grade
    name: str
    text: str

"""Rows of a store that is audited: read side by side, in the order of job ids, a few at a time."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam

BATCH: Final = {"yield_per": 1000}  #: options of a query: rows in memory at a time


def asked_for(job_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Return the condition that a job's id is above `after` and up to `upto`."""
    return job_id.between(bindparam("after") + 1, bindparam("upto"))


class ByJob:
    """Rows in the order of job ids, handed out job by job."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._groups = groupby(rows, key=lambda row: int(row.job_id))
        self._next = next(self._groups, None)

    def of(self, job_id: int) -> Iterator[Any]:
        """Return the rows of this job, whose id is higher than that of the one before."""
        while self._next is not None and self._next[0] < job_id:
            self._next = next(self._groups, None)
        return self._next[1] if self._next is not None and self._next[0] == job_id else iter(())

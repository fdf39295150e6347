"""The audit of map jobs: whether each item has one end, and whether jobs count them as they are."""

import heapq
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, select

from jobrunner.lifecycle import State
from jobrunner.store.audit_rows import BATCH, ByJob, asked_for
from jobrunner.store.contradiction import Kind
from jobrunner.store.tables import chunk, event, item, map_job

_MAPS: Final = (
    select(map_job.c.job_id, map_job.c.done, map_job.c.failed, map_job.c.reduce_task)
    .where(asked_for(map_job.c.job_id))
    .order_by(map_job.c.job_id)
    .execution_options(**BATCH)
)
_VALUES: Final = (
    select(event.c.job_id, event.c.item, event.c.item_count)
    .join(map_job, map_job.c.job_id == event.c.job_id)
    .where(asked_for(event.c.job_id), event.c.item.is_not(None), event.c.seq > map_job.c.since)
    .order_by(event.c.job_id, event.c.item)
    .execution_options(**BATCH)
)
_TRIED: Final = (
    select(item.c.job_id, item.c.number, item.c.state)
    .where(asked_for(item.c.job_id))
    .order_by(item.c.job_id, item.c.number)
    .execution_options(**BATCH)
)
_CHUNKS: Final = (
    select(chunk.c.job_id, chunk.c.first, chunk.c.item_count)
    .where(asked_for(chunk.c.job_id))
    .order_by(chunk.c.job_id, chunk.c.first)
    .execution_options(**BATCH)
)
_VALUE, _FAILED, _QUEUED = range(3)  # what a row says of items; in this order where several begin at one

_Found = Iterator[tuple[Kind, str]]


class ItemAudit:
    """Reads the rows of items beside those of the jobs, in the order of their ids."""

    def __init__(self, connection: Connection, ids: dict[str, int]) -> None:
        self._maps, self._values, self._tried, self._chunks = (
            ByJob(connection.execute(query, ids)) for query in (_MAPS, _VALUES, _TRIED, _CHUNKS)
        )

    def of_job(self, one: Any) -> _Found:
        """Find what is wrong with the items of a job, whose id is higher than that of the one before."""
        told = next(self._maps.of(one.id), None)
        if (told is None) != (one.item_count is None):
            has = "no items" if one.item_count is None else f"{one.item_count} items"
            yield Kind.ITEMS, f"it has {has}, and {'nothing' if told is None else 'something'} says which"
        if told is None or one.item_count is None:
            return
        said = _merged(self._values.of(one.id), self._tried.of(one.id))
        ends = _Ends(said)
        yield from ends.against(one, told)
        chunks = list(self._chunks.of(one.id))
        if chunks and one.state != State.RUNNING:
            yield Kind.CHUNK, f"it is {one.state}, and a chunk from item {chunks[0].first} on is in hand"
        is_over = ends.values + ends.failures == one.item_count and (
            told.reduce_task is None or ends.failures
        )
        if is_over and one.state == State.RUNNING and not chunks:
            yield Kind.ITEMS, "all its items have an end, none is in hand, and it is still running"


def _merged(values: Iterator[Any], tried: Iterator[Any]) -> Iterator[tuple[int, int, int]]:
    """Yield (first item, what of it, how many items), in order."""
    kinds = {"failed": _FAILED, "queued": _QUEUED}
    with_value = ((row.item, _VALUE, row.item_count) for row in values)
    return heapq.merge(with_value, ((row.number, kinds[row.state], 1) for row in tried))


class _Ends:
    """What the rows say of the items of one job."""

    def __init__(self, rows: Iterator[tuple[int, int, int]]) -> None:
        self.values = self.failures = 0
        self.following = 0  # after the last item that has an end
        # The first of each, if there are any:
        self.twice: int | None = None  # that have more than one end
        self.again: int | None = None  # that have an end, and are to be tried again
        self.missing: int | None = None  # that have none
        for first, what, count in rows:
            if what == _QUEUED:
                if first < self.following and self.again is None:
                    self.again = first
            else:
                self._take(first, count)
                self.values += count if what == _VALUE else 0
                self.failures += what == _FAILED

    def _take(self, first: int, count: int) -> None:
        if first < self.following and self.twice is None:
            self.twice = first
        elif first > self.following and self.missing is None:
            self.missing = self.following
        self.following = max(self.following, first + count)

    def against(self, one: Any, told: Any) -> _Found:
        """Compare with the rows of the job."""
        if self.twice is not None:
            yield Kind.ITEM_TWICE, f"item {self.twice} has more than one end"
        if self.again is not None:
            yield Kind.ITEM_TWICE, f"item {self.again} is to be tried again, and has an end"
        if self.following > one.item_count:
            yield Kind.ITEMS, f"item {self.following - 1} has an end, it has {one.item_count} items"
        if (self.values, self.failures) != (told.done, told.failed):
            counts = f"{told.done} items done and {told.failed} failed"
            yield Kind.ITEMS, f"it counts {counts}, there are {self.values} and {self.failures}"
        if one.state == State.SUCCEEDED:
            yield from self._of_success(one)

    def _of_success(self, one: Any) -> _Found:
        missing = self.following if self.missing is None else self.missing
        if missing < one.item_count:
            yield Kind.ITEM_LOST, f"it has succeeded, and its item {missing} has no end"
        if self.failures:
            yield Kind.ITEM_LOST, f"it has succeeded, and {self.failures} of its items have failed"

"""Map jobs at work: what is still to be done of one, and which chunks are in hand."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update

from jobrunner.store.quick import Quick
from jobrunner.store.tables import chunk, event, item, job, map_job

READ_ROWS: Final = 16  #: of values at a time, each up to a megabyte


class Tries(NamedTuple):
    """What an item has spent of its budgets."""

    retries_used: int = 0
    crash_retries_used: int = 0

    def after(self, charged: str | None) -> "Tries":
        """Return what it has spent when one more try is charged to this budget."""
        return Tries(
            self.retries_used + (charged == "retries"), self.crash_retries_used + (charged == "crash_retries")
        )


@dataclass(frozen=True, slots=True)
class Work:
    """A map job, as whoever has claimed it needs it.  For the columns see `tables.map_job`."""

    spec: str
    reduce_task: str | None
    reduce_params: str | None
    max_failed: int | None
    max_parallel: int | None
    chunk_size: int | None
    failed: int
    retries: int
    crash_retries: int
    queue: str
    priority: int
    item_count: int
    missing: list[range]  #: the items that are not settled, in order
    tries: dict[int, Tries]  #: of those of them that were tried before


_WORK: Final = (
    select(
        map_job.c.spec,
        map_job.c.reduce_task,
        map_job.c.reduce_params,
        map_job.c.max_failed,
        map_job.c.max_parallel,
        map_job.c.chunk_size,
        map_job.c.failed,
        job.c.retries,
        job.c.crash_retries,
        job.c.queue,
        job.c.priority,
        job.c.item_count,
    )
    .join(job, job.c.id == map_job.c.job_id)
    .where(job.c.id == bindparam("job_id"))
)
_LAST: Final = (1 << 63) - 1
_TRIES: Final = select(item.c.number, item.c.retries_used, item.c.crash_retries_used).where(
    item.c.job_id == bindparam("job_id"), item.c.state == "queued"
)
# The values that count, and the items that have failed, each as (first, how many).
_KEPT: Final = (
    select(event.c.item, event.c.item_count)
    .where(
        event.c.job_id == bindparam("job_id"),
        event.c.item.between(bindparam("first"), bindparam("last")),
        event.c.seq
        > select(map_job.c.since).where(map_job.c.job_id == bindparam("job_id")).scalar_subquery(),
    )
    .order_by(event.c.item)
)
_FAILED: Final = (
    select(item.c.number)
    .where(
        item.c.job_id == bindparam("job_id"),
        item.c.number.between(bindparam("first"), bindparam("last")),
        item.c.state == "failed",
    )
    .order_by(item.c.number)
)
_VALUES: Final = _KEPT.add_columns(event.c.data).limit(READ_ROWS)
_IS_OPEN: Final = select(exists().where(chunk.c.job_id == bindparam("job_id")))
_IS_IN: Final = Quick(
    select(job.c.id).where(
        job.c.id == bindparam("job_id"),
        job.c.attempt == bindparam("attempt"),
        job.c.dispatcher_id.is_not(None),
    )
)
_IS_THIS_OPEN: Final = select(
    exists().where(chunk.c.job_id == bindparam("job_id"), chunk.c.first == bindparam("first"))
)
_OPEN: Final = select(chunk.c.first, chunk.c.item_count).where(chunk.c.job_id == bindparam("job_id"))
_SHORTEN: Final = (
    update(chunk)
    .where(chunk.c.job_id == bindparam("of_job"), chunk.c.first == bindparam("of_first"))
    .values(item_count=bindparam("items"))
)
_CLOSE_ALL: Final = delete(chunk).where(chunk.c.job_id == bindparam("of_job"))


def work(connection: Connection, job_id: int) -> Work:
    """Return what is to be done of a map job."""
    told = connection.execute(_WORK, {"job_id": job_id}).mappings().one()
    tried = connection.execute(_TRIES, {"job_id": job_id})
    tries = {row.number: Tries(row.retries_used, row.crash_retries_used) for row in tried}
    return Work(**told, missing=list(missing(connection, job_id, range(told["item_count"]))), tries=tries)


def missing(connection: Connection, job_id: int, among: range) -> Iterator[range]:
    """Yield the items of `among` that are not settled, in order; no row of values reaches into it from outside."""
    asked = {"job_id": job_id, "first": among.start, "last": among.stop - 1}
    kept = [(int(row.item), int(row.item_count)) for row in connection.execute(_KEPT, asked)]
    failed = [(int(number), 1) for number in connection.execute(_FAILED, asked).scalars()]
    at = among.start
    for first, count in sorted(kept + failed):
        if first > at:
            yield range(at, first)
        at = first + count
    if at < among.stop:
        yield range(at, among.stop)


def tries(connection: Connection, job_id: int, number: int) -> Tries:
    """Return what an item has spent so far."""
    query = select(item.c.retries_used, item.c.crash_retries_used)
    row = connection.execute(query.where(item.c.job_id == job_id, item.c.number == number)).first()
    return Tries() if row is None else Tries(*row)


def values_from(connection: Connection, job_id: int, number: int) -> list[tuple[int, int, str]]:
    """Return the values that are kept, in order, from the item `number` on: (first item, items, a JSON array).

    READ_ROWS at most; if there is none, no more is there.
    """
    asked = {"job_id": job_id, "first": number, "last": _LAST}
    return [(row.item, row.item_count, row.data) for row in connection.execute(_VALUES, asked)]


def is_in(connection: Connection, job_id: int, attempt: int) -> bool:
    """Whether a job is running in this attempt: the result writer may have ended it just now."""
    return _IS_IN.first(connection, job_id=job_id, attempt=attempt) is not None


def is_open(connection: Connection, job_id: int, first: int) -> bool:
    """Whether a chunk that begins with this item is open: perhaps not all that was said of it is recorded."""
    asked = {"job_id": job_id, "first": first}
    return bool(connection.execute(_IS_THIS_OPEN, asked).scalar())


def open_chunks(connection: Connection, chunks: Sequence[tuple[int, int, int]]) -> None:
    """Note that these chunks, (job id, first item, items), are handed out."""
    rows = [{"job_id": job_id, "first": first, "item_count": count} for job_id, first, count in chunks]
    connection.execute(insert(chunk), rows)


def shorten_chunks(connection: Connection, chunks: Mapping[tuple[int, int], int]) -> None:
    """Note that these chunks, by (job id, first item), have no more than so many items."""
    rows = [{"of_job": key[0], "of_first": key[1], "items": count} for key, count in chunks.items()]
    if rows:
        connection.execute(_SHORTEN, rows)


def has_open_chunks(connection: Connection, job_id: int) -> bool:
    """Whether a chunk is in hand, or something that was said of one has not been recorded yet."""
    return bool(connection.execute(_IS_OPEN, {"job_id": job_id}).scalar())


def chunks_in_hand(connection: Connection, job_id: int) -> list[range]:
    """Return the chunks of a map job that are open."""
    return [
        range(row.first, row.first + row.item_count) for row in connection.execute(_OPEN, {"job_id": job_id})
    ]


def close_all(connection: Connection, job_ids: Iterable[int]) -> None:
    """Forget the open chunks of map jobs whose attempt has ended."""
    rows = [{"of_job": job_id} for job_id in job_ids]
    if rows:
        connection.execute(_CLOSE_ALL, rows)

"""The items of map jobs, for those who look at them: how many are done, their values, those that have failed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, func, select

from jobrunner.errors import JobNotFoundError
from jobrunner.lifecycle import State
from jobrunner.store import jobs
from jobrunner.store.engine import Store
from jobrunner.store.quick import Quick, Source
from jobrunner.store.tables import chunk, event, item, map_job

_ROWS: Final = 1000  # of values that are read at a time ...
_CHARACTERS: Final = 1 << 20  # ... or so much of them, and the last one


@dataclass(frozen=True, slots=True)
class MapJob:
    """What a map job has beside its row, but for what its items are; see `tables.map_job`."""

    job_id: int
    reduce_task: str | None
    reduce_params: str | None  #: a JSON object
    max_failed: int | None
    max_parallel: int | None
    chunk_size: int | None
    done: int
    failed: int
    before: int
    since: int
    running: int  #: items in chunks that are in hand


class Values(NamedTuple):
    """The values of some items that follow each other.

    Attributes:
        first: the index of the first one.
        attempt: of the job, that they are of.
        data: a JSON array.
    """

    first: int
    item_count: int
    attempt: int
    data: str


class Item(NamedTuple):
    """An item that has succeeded, or has failed for good.

    Attributes:
        number: its index.
        state: one of the two.
        attempt: of the job, in which it did.
        data: JSON: its value, or its error.
    """

    number: int
    state: State
    attempt: int
    data: str


class Page(NamedTuple):
    """Some items in order, and whether more may be there."""

    items: list[Item]
    has_more: bool


_RUNNING: Final = (
    select(func.coalesce(func.sum(chunk.c.item_count), 0))
    .where(chunk.c.job_id == map_job.c.job_id)
    .scalar_subquery()
    .label("running")
)
_MAP: Final = select(*(map_job.c[name] for name in MapJob.__slots__ if name != "running"), _RUNNING)
_BY_ID: Final = Quick(_MAP.where(map_job.c.job_id == bindparam("job_id")))
_OF_THESE: Final = _MAP.where(map_job.c.job_id.in_(bindparam("ids", expanding=True)))
_SPEC: Final = Quick(select(map_job.c.spec).where(map_job.c.job_id == bindparam("job_id")))


def get(source: Source, job_id: int) -> MapJob:
    """Return what a map job has beside its row.

    Raises:
        JobNotFoundError: no map job has this id.
    """
    row = _BY_ID.first(source, job_id=job_id)
    if row is None:
        raise JobNotFoundError(job_id)
    return MapJob(*row)


def of_jobs(connection: Connection, ids: Sequence[int]) -> dict[int, MapJob]:
    """Return what these map jobs have beside their rows, by id."""
    return {row.job_id: MapJob(*row) for row in connection.execute(_OF_THESE, {"ids": ids})} if ids else {}


def spec(source: Source, job_id: int) -> str:
    """Return which items a map job has, as JSON; see `jobrunner.items`.

    Raises:
        JobNotFoundError: no map job has this id.
    """
    row = _SPEC.first(source, job_id=job_id)
    if row is None:
        raise JobNotFoundError(job_id)
    return str(row[0])


# No two rows of the present run have an item in common, so that only the last row before an item may reach over it.
_COUNTS: Final = (event.c.job_id == bindparam("job_id")) & (event.c.seq > bindparam("since"))
_REACHES: Final = (
    select(event.c.item)
    .where(_COUNTS, event.c.item <= bindparam("index"))
    .order_by(event.c.item.desc())
    .limit(1)
)
_VALUES: Final = (
    select(event.c.item, event.c.item_count, event.c.attempt, event.c.data)
    .where(_COUNTS, event.c.item >= bindparam("first"))
    .order_by(event.c.item)
    .limit(bindparam("most"))
)


def values(
    connection: Connection,
    job_id: int,
    *,
    since: int,
    index: int = 0,
    limit: int = _ROWS,
    most_characters: int = _CHARACTERS,
) -> list[Values]:
    """Return values that count, in index order: rows that tell of `index` or of items after it.

    Args:
        connection: one to read with.
        job_id: of a map job.
        since: values up to this seq do not count.
        index: of the first item that is wanted; the first row may begin before it.
        limit: of rows.
        most_characters: of data, beside the last row: once there are so many, no more is read.
    """
    asked = {"job_id": job_id, "since": since}
    first = connection.execute(_REACHES, {**asked, "index": index}).scalar()
    found: list[Values] = []
    characters = 0
    with connection.execute(
        _VALUES, {**asked, "first": index if first is None else first, "most": limit + 1}
    ) as rows:
        for row in rows:
            one = Values(*row)
            if one.first + one.item_count > index:
                found.append(one)
                characters += len(one.data)
            if len(found) == limit or characters >= most_characters:
                break
    return found


def all_values(store: Store, job_id: int) -> Iterator[Values]:
    """Yield all values of a map job in index order, each batch of rows read in a transaction of its own.

    Raises:
        JobNotFoundError: there is no such map job, or no more.
        StoreUnavailableError: the store cannot be read.
    """
    index = 0
    while True:
        with store.read() as connection:
            jobs.version(connection, job_id)  # it may be being removed
            found = values(connection, job_id, since=get(connection, job_id).since, index=index)
        if not found:
            return
        yield from found
        index = found[-1].first + found[-1].item_count


_FAILED: Final = (
    select(item.c.number, item.c.attempt, item.c.error)
    .where(
        item.c.job_id == bindparam("job_id"), item.c.number >= bindparam("index"), item.c.state == "failed"
    )
    .order_by(item.c.number)
    .limit(bindparam("most"))
)


def failed(
    connection: Connection, job_id: int, *, index: int = 0, limit: int, most_characters: int = _CHARACTERS
) -> list[Item]:
    """Return items from `index` on that have failed for good, in order; the limits are those of `values`."""
    found: list[Item] = []
    characters = 0
    with connection.execute(_FAILED, {"job_id": job_id, "index": index, "most": limit}) as rows:
        for row in rows:
            found.append(Item(row.number, State.FAILED, row.attempt, row.error))
            characters += len(row.error)
            if characters >= most_characters:
                break
    return found


def succeeded(
    connection: Connection,
    job_id: int,
    *,
    since: int,
    index: int = 0,
    limit: int,
    most_characters: int = _CHARACTERS,
) -> list[Item]:
    """Return items from `index` on that have succeeded, in order; `since` and the limits are those of `values`."""
    found: list[Item] = []
    characters = 0
    # Until this list itself is long enough: else nobody could tell that it was cut.
    while rows := values(connection, job_id, since=since, index=index):
        for one in rows:
            told: list[Any] = _DECODER.decode(one.data)
            for place in range(max(0, index - one.first), one.item_count):
                value = bytes(told[place]).decode()
                found.append(Item(one.first + place, State.SUCCEEDED, one.attempt, value))
                characters += len(value)
                if len(found) == limit or characters >= most_characters:
                    return found
        index = rows[-1].first + rows[-1].item_count
    return found


_DECODER: Final = msgspec.json.Decoder(list[msgspec.Raw])


def page(
    connection: Connection,
    job_id: int,
    states: Sequence[State],
    *,
    index: int = 0,
    limit: int,
    most_characters: int = _CHARACTERS,
) -> Page:
    """Return at most `limit` items in one of these states, from `index` on, in order.

    Raises:
        JobNotFoundError: there is no such map job.
    """
    bounds = {"index": index, "limit": limit, "most_characters": most_characters}
    lists = []
    if State.FAILED in states:
        lists.append(failed(connection, job_id, **bounds))
    if State.SUCCEEDED in states:
        since = get(connection, job_id).since
        lists.append(succeeded(connection, job_id, since=since, **bounds))
    # What comes after the end of a list that was cut may not be next.
    ends = [one[-1].number for one in lists if _is_cut(one, limit, most_characters)]
    found = [one for one in merge(*lists) if not ends or one.number <= min(ends)]
    return Page(found[:limit], has_more=bool(ends) or len(found) > limit)


def _is_cut(found: Sequence[Item], limit: int, most_characters: int) -> bool:
    return len(found) >= limit or sum(len(one.data) for one in found) >= most_characters

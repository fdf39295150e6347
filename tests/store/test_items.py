"""Reading the items of map jobs: in order, a bounded number at a time, and of the present run alone."""

import itertools
import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.dialects import sqlite

from jobrunner.errors import JobNotFoundError
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import EventKind, ItemFailed, Report, Values, error
from jobrunner.store import events, items, maps, moves
from jobrunner.store.items import MapJob
from jobrunner.store.jobs import NewMap
from jobrunner.store.moves import Claimed
from jobrunner.store.tables import removal
from tests.store.books import Books, new

BOTH = (State.SUCCEEDED, State.FAILED)


def mapped(books: Books, count: int, **more: Any) -> Claimed:
    """Submit a map job with so many items, and claim it."""
    books.queued(map=NewMap(json.dumps({"n": {"range": [0, count]}}), count, **more))
    return claimed_map(books)


def claimed_map(books: Books) -> Claimed:
    """Claim the one map job that is queued."""
    with books.store.write(durable=False) as connection:
        (claimed,) = moves.claim(
            connection, books.dispatcher_id, tasks=["t"], limit=0, map_limit=9, now=books.now
        )
    return claimed


def values(first: int, *told: Any) -> Values:
    return Values(first, len(told), json.dumps(told))


def failed(number: int, *, is_final: bool = True, message: str = "no") -> ItemFailed:
    return ItemFailed(number, error(Ending.EXCEPTION, message), "retries", is_final)


def settle(books: Books, claimed: Claimed, *settled: Values | ItemFailed, closed: int | None = None) -> None:
    """Have its attempt say what became of items, and maybe that it is through with the one chunk in hand."""
    if closed is not None:
        with books.store.write(durable=False) as connection:
            maps.open_chunks(connection, [(claimed.id, closed, 1)])
    books.report(Report(claimed.id, claimed.attempt, books.now, items=settled, closed=closed))


def read(books: Books, job_id: int, **more: Any) -> list[tuple[int, Any]]:
    """Return (index, value) of the values that count."""
    with books.read() as connection:
        since = items.get(connection, job_id).since
        found = items.values(connection, job_id, since=since, **more)
    return [pair for row in found for pair in enumerate(json.loads(row.data), row.first)]


def test_values_are_read_in_index_order_whatever_came_first(books: Books) -> None:
    job = mapped(books, 8)
    settle(books, job, values(5, "f", "g"), values(0, "a", "b"))
    settle(books, job, values(4, "e"), values(2, "c", "d"))
    assert read(books, job.id) == list(enumerate("abcdefg"))
    assert list(
        itertools.chain(*(json.loads(row.data) for row in items.all_values(books.store, job.id)))
    ) == [*"abcdefg"]


@pytest.mark.parametrize("index", range(8))
def test_values_may_be_read_from_any_item_on(books: Books, index: int) -> None:
    job = mapped(books, 8)
    settle(books, job, values(0, 0, 1, 2), values(4, 4), values(6, 6, 7))  # 3 and 5 are not settled
    found = read(books, job.id, index=index, limit=1)
    told = [row for row in ([0, 1, 2], [4], [6, 7]) if row[-1] >= index]
    assert [value for _, value in found] == told[0]


def test_no_more_is_read_at_a_time_than_was_asked_for(books: Books) -> None:
    job = mapped(books, 21)
    settle(books, job, *(values(number, "x" * 8) for number in range(20)))  # 12 characters each
    assert [number for number, _ in read(books, job.id, limit=3)] == [0, 1, 2]
    assert [number for number, _ in read(books, job.id, index=3, most_characters=25)] == [3, 4, 5]


def test_values_of_an_earlier_run_do_not_count(books: Books) -> None:
    job = mapped(books, 4)
    settle(books, job, values(0, "old", "old"), failed(2), failed(3), closed=0)
    assert books.job(job.id).state is State.FAILED
    books.requeue(job.id)
    again = claimed_map(books)
    assert read(books, job.id) == []
    settle(books, again, values(1, "new"))
    assert read(books, job.id) == [(1, "new")]
    assert read(books, job.id, index=1) == [(1, "new")]
    with books.read() as connection:
        found = items.page(connection, job.id, BOTH, limit=10)
        assert [(one.number, one.state, one.attempt) for one in found.items] == [(1, State.SUCCEEDED, 2)]
        kept = events.after(connection, job.id, kinds=(EventKind.PARTIAL,))
    assert [(one.item, one.attempt, one.data) for one in kept] == [
        (0, 1, '"old"'),
        (1, 1, '"old"'),
        (1, 2, '"new"'),
    ]


def test_all_values_are_read_bit_by_bit_and_not_on_when_the_job_is_gone(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = mapped(books, 5)
    monkeypatch.setattr(items.values, "__kwdefaults__", {**(items.values.__kwdefaults__ or {}), "limit": 2})
    for number in range(4):
        settle(books, job, values(number, number))
    told = items.all_values(books.store, job.id)
    assert [next(told).first for _ in range(2)] == [0, 1]
    settle(books, job, values(4, 4), closed=0)  # no transaction is open that would not see it
    assert [next(told).first for _ in range(2)] == [2, 3]
    with books.store.write(durable=False) as connection:  # how it begins; most of it is still there
        connection.execute(insert(removal), {"job_id": job.id})
    with pytest.raises(JobNotFoundError):
        next(told)


def test_a_map_job_tells_how_far_it_is(books: Books) -> None:
    job = mapped(books, 10, max_failed=3, max_parallel=2, chunk_size=4)
    with books.store.write(durable=False) as connection:
        maps.open_chunks(connection, [(job.id, 0, 4), (job.id, 4, 2)])
    settle(books, job, values(0, 1, 2), failed(2), failed(3, is_final=False))
    wanted = MapJob(
        job.id,
        reduce_task=None,
        reduce_params=None,
        max_failed=3,
        max_parallel=2,
        chunk_size=4,
        done=2,
        failed=1,
        before=0,
        since=0,
        running=6,
    )
    assert items.get(books.store, job.id) == wanted
    other, plain = mapped(books, 1).id, books.queued()
    with books.read() as connection:
        found = items.of_jobs(connection, [job.id, other, plain])
        assert items.of_jobs(connection, []) == {}
    assert (set(found), found[job.id], found[other].running) == ({job.id, other}, wanted, 0)
    assert json.loads(items.spec(books.store, job.id)) == {"n": {"range": [0, 10]}}
    for ask in (items.get, items.spec):
        with pytest.raises(JobNotFoundError):
            ask(books.store, plain)


# -- pages ----------------------------------------------------------------------------------------


@pytest.fixture
def mixed(books: Books) -> int:
    """Of 10 items 3, 4 and 8 have failed, 6 is tried again, 9 is not settled."""
    job = mapped(books, 10)
    settle(books, job, values(0, 0, 1, 2), failed(3), failed(4), values(5, 5))
    settle(books, job, failed(6, is_final=False), values(7, 7), failed(8))
    return job.id


def numbers(found: Iterable[items.Item]) -> list[int]:
    return [one.number for one in found]


def test_items_are_listed_in_order_with_their_value_or_their_error(books: Books, mixed: int) -> None:
    with books.read() as connection:
        found = items.page(connection, mixed, BOTH, limit=100)
    assert numbers(found.items) == [0, 1, 2, 3, 4, 5, 7, 8]
    assert not found.has_more
    told = {one.number: (one.state, json.loads(one.data)) for one in found.items}
    assert told[5] == (State.SUCCEEDED, 5)
    assert (told[4][0], told[4][1]["message"]) == (State.FAILED, "no")


@pytest.mark.parametrize(
    ("states", "wanted"),
    [(BOTH, [0, 1, 2, 3, 4, 5, 7, 8]), (BOTH[:1], [0, 1, 2, 5, 7]), (BOTH[1:], [3, 4, 8])],
)
@pytest.mark.parametrize("bounds", [{"limit": 1}, {"limit": 3}, {"limit": 9, "most_characters": 1}])
def test_pages_of_any_size_make_the_same_list(
    books: Books, mixed: int, states: tuple[State, ...], wanted: list[int], bounds: dict[str, int]
) -> None:
    found, index, has_more = [], 0, True
    with books.read() as connection:
        while has_more:
            some, has_more = items.page(connection, mixed, states, index=index, **bounds)
            assert len(some) <= bounds["limit"]
            found += numbers(some)
            index = some[-1].number + 1 if some else index
    assert found == wanted


# -- events ---------------------------------------------------------------------------------------


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    seq=st.integers(0, 30),
    limit=st.integers(1, 12),
    most_characters=st.none() | st.integers(1, 40),
)
def test_a_row_of_values_is_told_as_one_event_for_each(
    books: Books, sizes: list[int], seq: int, limit: int, most_characters: int | None
) -> None:
    count = sum(sizes)
    job = mapped(books, count + 1)
    first = 0
    for size in sizes:
        settle(books, job, values(first, *(f"v{number}" for number in range(first, first + size))))
        first += size
    whole = books.events(job.id)
    told = [(one.seq, one.item, one.data) for one in whole if one.kind is EventKind.PARTIAL]
    assert told == [(3 + number, number, f'"v{number}"') for number in range(count)]
    assert books.job(job.id).version == whole[-1].seq
    wanted = [one for one in whole if one.seq > seq][:limit]
    if most_characters is not None:
        sums = itertools.accumulate(len(one.data) for one in wanted)
        wanted = wanted[: 1 + sum(size < most_characters for size in sums)]
    found = books.events(job.id, seq=seq, limit=limit, most_characters=most_characters)
    assert found == wanted
    assert events.fills(found, limit, most_characters or 10**9) or found == [e for e in whole if e.seq > seq]


def test_many_rows_in_any_order_are_read_whole(books: Books) -> None:
    drawn = random.Random(1)
    sizes = [drawn.randint(1, 40) for _ in range(60)]
    firsts = list(itertools.accumulate(sizes, initial=0))
    job = mapped(books, firsts[-1] + 1)
    rows = list(zip(firsts, sizes, strict=False))
    drawn.shuffle(rows)
    for first, size in rows:
        settle(books, job, values(first, *range(first, first + size)))
    told = [json.loads(row.data) for row in items.all_values(books.store, job.id)]
    assert list(itertools.chain(*told)) == list(range(firsts[-1]))


@pytest.mark.parametrize("query", [items._VALUES, items._REACHES, items._FAILED])
def test_no_query_reads_what_it_does_not_tell(books: Books, query: Any) -> None:
    compiled = query.compile(dialect=sqlite.dialect(paramstyle="named"))
    bound = {name: value or 1 for name, value in compiled.params.items()}
    with books.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", bound).all()
    steps = [row.detail for row in plan]
    assert steps
    assert all("SEARCH" in step and ("ix_event_item" in step or "SEARCH item" in step) for step in steps), (
        steps
    )


def test_a_job_without_items_has_none(books: Books) -> None:
    plain, empty = books.queued(), mapped(books, 3)
    assert read(books, empty.id) == []
    assert list(items.all_values(books.store, empty.id)) == []
    with books.read() as connection:
        assert items.page(connection, empty.id, BOTH, limit=5) == ([], False)
        with pytest.raises(JobNotFoundError):
            items.page(connection, plain, BOTH, limit=5)
    assert new().map is None

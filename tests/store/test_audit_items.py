"""The books of map jobs: each contradiction is forged once, and found."""

import contextlib
import json
import sqlite3
import tracemalloc

import pytest

from jobrunner.lifecycle import Ending, State
from jobrunner.reports import ItemFailed, Report, Values, error
from jobrunner.store import maps, moves
from jobrunner.store.audit import contradictions, contradictions_in_turns
from jobrunner.store.contradiction import Contradiction, Kind
from jobrunner.store.engine import Store
from jobrunner.store.jobs import NewMap
from jobrunner.store.moves import Claimed
from tests.store.books import Books, ended

ITEMS = 10


@pytest.fixture
def books(store: Store) -> Books:
    """Books that a test may put into disorder."""
    return Books(store)


def found(books: Books) -> list[Contradiction]:
    with books.read() as connection:
        return list(contradictions(connection))


def forge(books: Books, job_id: int, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(books.store.path, isolation_level=None)) as connection:
        for statement in statements:
            assert connection.execute(statement, {"id": job_id}).rowcount, statement


def mapped(books: Books, count: int = ITEMS, **more: object) -> Claimed:
    """A map job that runs, with a chunk of all its items in hand."""
    books.queued(map=NewMap(json.dumps({"n": {"range": [0, count]}}), count, **more))  # type: ignore[arg-type]
    return claimed(books, count)


def claimed(books: Books, count: int = ITEMS) -> Claimed:
    with books.store.write(durable=False) as connection:
        (one,) = moves.claim(connection, books.dispatcher_id, tasks="t", limit=0, map_limit=9, now=books.now)
        maps.open_chunks(connection, [(one.id, 0, count)])
    return one


def values(first: int, count: int) -> Values:
    return Values(first, count, json.dumps(list(range(first, first + count))))


def failed(number: int, *, is_final: bool) -> ItemFailed:
    return ItemFailed(number, error(Ending.EXCEPTION, "no"), None if is_final else "retries", is_final)


def says(one: Claimed, books: Books, *said: Values | ItemFailed, closed: int | None = None) -> None:
    books.report(Report(one.id, one.attempt, books.now, items=said, closed=closed))


def succeeded(books: Books) -> int:
    """A map job that has failed, was asked for again, and has succeeded, by rows of several values and of one."""
    one = mapped(books)
    says(one, books, values(0, 3), failed(3, is_final=True), values(4, 6), closed=0)
    books.requeue(one.id)
    one = claimed(books)
    says(one, books, values(0, 3), failed(3, is_final=False), values(4, 6))
    says(one, books, values(3, 1), closed=0)
    assert books.job(one.id).state is State.SUCCEEDED
    return one.id


def half(books: Books) -> int:
    """One that runs: items 0 to 3 have values, 4 has failed, 5 is to be tried again, the chunk is in hand."""
    one = mapped(books)
    says(one, books, values(0, 4), failed(4, is_final=True), failed(5, is_final=False))
    return one.id


def test_books_of_map_jobs_that_only_the_program_wrote_have_no_contradiction(books: Books) -> None:
    succeeded(books)
    half(books)
    lost = mapped(books)
    says(lost, books, values(0, 2))
    books.report(Report(lost.id, lost.attempt, books.now, ended=ended(Ending.LOST)))
    books.cancel(lost.id)
    early = mapped(books, max_failed=0)
    says(early, books, values(0, 2), failed(2, is_final=True), closed=0)
    assert books.job(early.id).state is State.FAILED
    books.queued(map=NewMap("[{}]", 1))
    assert found(books) == []
    assert list(contradictions_in_turns(books.store, 2)) == []


ONE_MORE = "UPDATE job SET version = version + 1, partials = partials + 1 WHERE id = :id"
SECOND = """INSERT INTO event (job_id, seq, kind, attempt, at, data, item, item_count)
    SELECT id, version + 1, 'partial', attempt, 0, '[0]', {item}, 1 FROM job WHERE id = :id"""
IN_HAND = "INSERT INTO chunk (job_id, first, item_count) VALUES (:id, 0, 10)"
RETRIED = """INSERT INTO item (job_id, number, state, attempt, at, error)
    VALUES (:id, {item}, '{state}', 2, 0, '{{}}')"""


@pytest.mark.parametrize(
    ("forgery", "kind", "detail"),
    [
        (["UPDATE map_job SET done = 9 WHERE job_id = :id"], Kind.ITEMS, "it counts 9 items done and 0 failed"),
        (["UPDATE map_job SET failed = 1 WHERE job_id = :id"], Kind.ITEMS, "there are 10 and 0"),
        (["UPDATE map_job SET since = 0 WHERE job_id = :id"], Kind.ITEM_TWICE, "item 0 has more than one end"),
        (["UPDATE event SET item = 3 WHERE job_id = :id AND item = 4"], Kind.ITEM_TWICE, "item 3 has more"),
        (["UPDATE event SET item = 5 WHERE job_id = :id AND item = 4"], Kind.ITEM_LOST, "its item 4 has no end"),
        (["UPDATE event SET item = 5 WHERE job_id = :id AND item = 4"], Kind.ITEMS, "item 10 has an end, it has 10"),
        (["UPDATE event SET item = 2 WHERE job_id = :id AND item = 0"], Kind.ITEM_LOST, "its item 0 has no end"),
        (["UPDATE job SET item_count = 11 WHERE id = :id"], Kind.ITEM_LOST, "its item 10 has no end"),
        (["UPDATE job SET item_count = NULL WHERE id = :id"], Kind.ITEMS, "it has no items, and something says which"),
        (["DELETE FROM map_job WHERE job_id = :id"], Kind.ITEMS, "it has 10 items, and nothing says which"),
        ([RETRIED.format(item=6, state="queued")], Kind.ITEM_TWICE, "item 6 is to be tried again, and has an end"),
        ([RETRIED.format(item=6, state="failed")], Kind.ITEM_TWICE, "item 6 has more than one end"),
        (
            [RETRIED.format(item=10, state="failed"), "UPDATE job SET item_count = 11 WHERE id = :id"],
            Kind.ITEM_LOST,
            "1 of its items have failed",
        ),
        ([IN_HAND], Kind.CHUNK, "it is succeeded, and a chunk from item 0 on is in hand"),
        (
            ["UPDATE event SET data = '[1]' WHERE job_id = :id AND item = 4"],
            Kind.PARTIALS,
            "has 1 values, and stands for 6",
        ),
        (
            ["UPDATE event SET data = '[1,' WHERE job_id = :id AND item = 3"],
            Kind.PARTIALS,
            "has 0 values, and stands for 1",
        ),
        (["UPDATE event SET item_count = 2 WHERE job_id = :id AND item = 3"], Kind.GAP, "follows event"),
        (["DELETE FROM event WHERE job_id = :id AND item = 3"], Kind.GAP, "follows event"),
        (["UPDATE job SET partials = 18 WHERE id = :id"], Kind.PARTIALS, "its events are 19"),
        ([SECOND.format(item=0), ONE_MORE], Kind.AFTER_FINAL, "a partial of attempt 2"),
    ],
)  # fmt: skip
def test_a_contradiction_about_a_map_job_that_succeeded_is_found(
    books: Books, forgery: list[str], kind: Kind, detail: str
) -> None:
    half(books)
    job_id = succeeded(books)
    assert found(books) == []
    forge(books, job_id, *forgery)
    assert any(one.kind is kind and detail in one.detail for one in found(books)), found(books)
    assert {one.job_id for one in found(books)} == {job_id}


@pytest.mark.parametrize(
    ("forgery", "kind", "detail"),
    [
        ([SECOND.format(item=1), ONE_MORE], Kind.ITEM_TWICE, "item 1 has more than one end"),
        ([SECOND.format(item=4), ONE_MORE], Kind.ITEM_TWICE, "item 4 has more than one end"),
        ([SECOND.format(item=5), ONE_MORE], Kind.ITEM_TWICE, "item 5 is to be tried again, and has an end"),
        (["UPDATE item SET state = 'queued' WHERE job_id = :id"], Kind.ITEMS, "4 items done and 1 failed, there"),
        (["UPDATE item SET number = number + 6 WHERE job_id = :id"], Kind.ITEMS, "item 10 has an end, it has 10"),
    ],
)  # fmt: skip
def test_a_contradiction_about_a_map_job_that_runs_is_found(
    books: Books, forgery: list[str], kind: Kind, detail: str
) -> None:
    job_id = half(books)
    forge(books, job_id, *forgery)
    assert any(one.kind is kind and detail in one.detail for one in found(books)), found(books)


def test_an_item_may_fail_and_then_succeed_within_one_batch(books: Books) -> None:
    """As when the result writer stood still meanwhile."""
    one = mapped(books, 2)
    first = Report(one.id, one.attempt, books.now, items=(failed(0, is_final=False), values(1, 1)))
    then = Report(one.id, one.attempt, books.now, items=(values(0, 1),), closed=0)
    books.report(first, then)
    assert (books.job(one.id).state, found(books)) == (State.SUCCEEDED, [])


def test_a_map_job_that_nobody_brings_to_its_end_is_found(books: Books) -> None:
    one = mapped(books)
    says(one, books, values(0, 9), failed(9, is_final=True))
    assert found(books) == []
    forge(books, one.id, "DELETE FROM chunk WHERE job_id = :id")
    (said,) = found(books)
    assert (said.kind, said.detail) == (
        Kind.ITEMS,
        "all its items have an end, none is in hand, and it is still running",
    )


def test_a_map_job_whose_reduce_task_runs_is_no_contradiction(books: Books) -> None:
    one = mapped(books, reduce_task="t", reduce_params="{}")
    says(one, books, values(0, 10), closed=0)
    assert books.job(one.id).state is State.RUNNING
    assert found(books) == []


@pytest.mark.parametrize("left", [11, 4, 0])
def test_a_map_job_that_is_being_removed_is_no_contradiction(books: Books, left: int) -> None:
    job_id = succeeded(books)
    version = books.job(job_id).version
    forge(books, job_id, "INSERT INTO removal VALUES (:id)")
    forge(books, job_id, f"DELETE FROM event WHERE job_id = :id AND seq <= {version - left}")  # noqa: S608
    assert found(books) == []


def test_many_values_need_no_more_memory_than_few(books: Books) -> None:
    def peak_bytes() -> int:
        tracemalloc.start()
        assert found(books) == []
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    one = mapped(books, 100_000)
    says(one, books, *(values(n, 1) for n in range(1_500)))
    few = peak_bytes()
    says(one, books, *(values(n, 1) for n in range(1_500, 6_000)))
    assert peak_bytes() < 1.5 * few

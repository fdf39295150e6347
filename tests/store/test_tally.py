"""How many jobs of each queue are in each state is known without counting them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection

from jobrunner.lifecycle import MOVES, Ending, Event, State
from jobrunner.reports import Report
from jobrunner.store import jobs, moves, queues, reports
from tests.store.books import START, Books, ended, new


def counted(books: Books) -> Counter[tuple[str, State]]:
    """How many jobs are counted, by queue and state, where there are any."""
    with books.read() as connection:
        return +Counter(
            {(one.name, state): n for one in queues.all_queues(connection) for state, n in one.jobs.items()}
        )


def stopped(books: Books) -> int:
    claimed = books.running(queue="a")
    books.cancel(claimed.id)
    books.report(books.end_of(claimed, Ending.CANCELLED))
    return claimed.id


def cancelled(books: Books) -> int:
    job_id = books.queued(queue="a")
    books.cancel(job_id)
    return job_id


def queued_again(books: Books) -> int:
    job_id = books.finished(Ending.EXCEPTION, queue="a")
    books.requeue(job_id)
    return job_id


#: What somebody does to a job of the queue `a`, by the move that it ends with.
WAYS: Mapping[Event, Callable[[Books], int]] = {
    Event.CLAIM: lambda books: books.running(queue="a").id,
    Event.SUCCEED: lambda books: books.finished(Ending.SUCCEEDED, queue="a"),
    Event.FAIL: lambda books: books.finished(Ending.EXCEPTION, queue="a"),
    Event.RETRY: lambda books: books.finished(Ending.LOST, queue="a"),
    Event.RELEASE: lambda books: books.finished(Ending.RELEASED, queue="a"),
    Event.STOP: stopped,
    Event.CANCEL: cancelled,
    Event.REQUEUE: queued_again,
}


@pytest.mark.parametrize("event", Event)
def test_every_move_is_counted_in_the_queue_of_its_job(books: Books, event: Event) -> None:
    books.queued(queue="b")
    job_id = WAYS[event](books)
    state = books.job(job_id).state
    assert state is MOVES[event].target
    assert counted(books) == {("a", state): 1, ("b", State.QUEUED): 1}


def test_a_wish_to_stop_is_no_move(books: Books) -> None:
    books.cancel(books.running(queue="a").id)
    assert counted(books) == {("a", State.RUNNING): 1}


def test_jobs_that_are_cancelled_together_are_counted_each_in_its_queue(books: Books) -> None:
    ids = books.submit(*[new(queue="a")] * 2, *[new(queue="b")] * 3)
    books.cancel(ids[0])
    assert books.cancel_queued(ids) == ids[1:]
    assert counted(books) == {("a", State.CANCELLED): 2, ("b", State.CANCELLED): 3}


def test_what_a_transaction_that_failed_has_moved_is_not_counted(books: Books) -> None:
    books.queued(queue="a")

    def claim_in_vain() -> None:
        with books.store.write(durable=False) as connection:
            assert len(claim(books, connection)) == 1
            raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        claim_in_vain()
    assert counted(books) == {("a", State.QUEUED): 1}


def test_a_batch_is_counted_by_two_statements_for_each_queue_whatever_its_size(books: Books) -> None:
    with books.store.write(durable=False) as connection, traced(connection) as seen:
        jobs.submit(connection, [*[new(queue="a")] * 50, *[new(queue="b")] * 50], now=START)
        assert counts_in(seen) == 2
        claimed = claim(books, connection)
        assert (len(claimed), counts_in(seen)) == (100, 2 * 2)
        said = [Report(one.id, one.attempt, START, (), ended(Ending.SUCCEEDED)) for one in claimed]
        reports.record(connection, said)
        assert counts_in(seen) == 2 * 2
    assert counted(books) == {("a", State.SUCCEEDED): 50, ("b", State.SUCCEEDED): 50}


def claim(books: Books, connection: Connection) -> list[moves.Claimed]:
    return moves.claim(connection, books.dispatcher_id, tasks=["t"], limit=1000, now=START)


@contextmanager
def traced(connection: Connection) -> Iterator[list[str]]:
    """Note every statement, and each time that it is executed."""
    raw: Any = connection.connection.dbapi_connection
    seen: list[str] = []
    raw.set_trace_callback(seen.append)
    yield seen
    raw.set_trace_callback(None)


def counts_in(seen: list[str]) -> int:
    """How often something was counted since this was last asked."""
    found = sum("tally SET" in sql or "INTO tally" in sql for sql in seen)
    seen.clear()
    return found

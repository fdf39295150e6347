import pytest
from sqlalchemy import insert, select

from jobrunner.errors import QueueNotFoundError
from jobrunner.lifecycle import Ending, State
from jobrunner.store import queues, retention
from jobrunner.store.tables import tally
from tests.store.books import START, Books, partial


def change(books: Books, name: str, *, paused: bool) -> None:
    with books.store.write(durable=True) as connection:
        if paused:
            queues.pause(connection, name, now=books.now)
        else:
            queues.resume(connection, name)


def found(books: Books) -> dict[str, tuple[bool, dict[str, int]]]:
    with books.read() as connection:
        return {
            one.name: (
                one.paused_since is not None,
                {state.value: jobs for state, jobs in one.jobs.items() if jobs},
            )
            for one in queues.all_queues(connection)
        }


def test_each_queue_counts_its_jobs_by_state(books: Books) -> None:
    assert found(books) == {"default": (False, {})}
    books.queued(queue="a")
    books.running(queue="a")
    books.finished(Ending.SUCCEEDED, queue="b")
    gone = books.finished(Ending.EXCEPTION, queue="b")
    books.queued()
    books.remove(gone)
    assert found(books) == {
        "a": (False, {"queued": 1, "running": 1}),
        "b": (False, {"succeeded": 1}),
        "default": (False, {"queued": 1}),
    }
    assert books.counts() == {
        State.QUEUED: 2,
        State.RUNNING: 1,
        State.SUCCEEDED: 1,
        State.FAILED: 0,
        State.CANCELLED: 0,
    }


def test_of_a_paused_queue_nothing_is_claimed_until_it_is_resumed(books: Books) -> None:
    held, free = books.queued(queue="a", priority=9), books.queued(queue="b")
    change(books, "a", paused=True)
    assert [one.id for one in books.claim()] == [free]
    assert found(books)["a"] == (True, {"queued": 1})
    change(books, "a", paused=False)
    assert [one.id for one in books.claim()] == [held]


def test_what_runs_when_its_queue_is_paused_goes_on_and_its_retry_waits(books: Books) -> None:
    claimed = books.running(queue="a", crash_retries=1)
    change(books, "a", paused=True)
    books.report(books.end_of(claimed, Ending.LOST))
    assert books.job(claimed.id).state is State.QUEUED
    assert books.claim() == []


def test_pausing_twice_keeps_the_first_moment(books: Books) -> None:
    books.queued(queue="a")
    change(books, "a", paused=True)
    books.later(60)
    change(books, "a", paused=True)
    with books.read() as connection:
        assert queues.get(connection, "a").paused_since == START
        assert queues.paused(connection) == {"a"}


def counters(books: Books) -> set[tuple[str, str]]:
    """Which counters are stored."""
    with books.read() as connection:
        return {(row.queue, row.state) for row in connection.execute(select(tally))}


def names(books: Books) -> set[str]:
    with books.read() as connection:
        return queues.names(connection)


@pytest.mark.parametrize("events", [2, retention.LIGHT_EVENTS + 1])
def test_a_queue_whose_jobs_have_expired_leaves_nothing_behind(books: Books, events: int) -> None:
    claimed = books.running(queue="a")
    books.report(books.end_of(claimed, Ending.SUCCEEDED, *[partial(1)] * events))
    books.queued(queue="b")
    while retention.remove_some(books.store, dict.fromkeys(State, books.now)):
        pass
    assert counters(books) == {("b", "queued")}
    assert (names(books), set(found(books))) == ({"b"}, {"b", "default"})


def test_a_queue_whose_jobs_were_deleted_leaves_nothing_behind(books: Books) -> None:
    books.remove(books.finished(Ending.SUCCEEDED, queue="a"))
    assert (counters(books), names(books), found(books)) == (set(), set(), {"default": (False, {})})
    job_id = books.finished(Ending.SUCCEEDED, queue="a")
    assert found(books)["a"] == (False, {"succeeded": 1})
    books.remove(job_id)


def test_a_counter_of_nothing_is_no_queue(books: Books) -> None:
    with books.store.write(durable=False) as connection:
        connection.execute(insert(tally), [{"queue": "a", "state": "failed", "jobs": 0}])
    assert (names(books), set(found(books))) == (set(), {"default"})


def test_a_paused_queue_stays_when_its_jobs_are_gone(books: Books) -> None:
    job_id = books.finished(Ending.SUCCEEDED, queue="a")
    change(books, "a", paused=True)
    books.remove(job_id)
    assert (names(books), found(books)["a"]) == ({"a"}, (True, {}))
    change(books, "a", paused=False)
    assert (names(books), set(found(books))) == (set(), {"default"})


def test_a_queue_that_never_had_a_job_is_not_there(books: Books) -> None:
    books.queued(queue="night")
    with (
        books.read() as connection,
        pytest.raises(QueueNotFoundError, match="'nihgt'; there is default, night"),
    ):
        queues.get(connection, "nihgt")

import json
import sqlite3
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import func, select

from jobrunner.errors import JobNotFoundError, WrongStateError
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import EventKind
from jobrunner.store import jobs
from jobrunner.store.jobs import NewJob
from jobrunner.store.tables import attempt, event, job, label
from tests.store.books import START, Books, new, partial, printed


def rows_about(books: Books, job_id: int) -> int:
    """How many rows of any table speak of the job."""
    columns = (job.c.id, event.c.job_id, attempt.c.job_id, label.c.job_id)
    with books.read() as connection:
        counts = (select(func.count()).where(column == job_id) for column in columns)
        return sum(connection.execute(one).scalar_one() for one in counts)


# -- submitting ----------------------------------------------------------------------------------


def test_ids_rise_in_the_order_of_submission(books: Books) -> None:
    assert books.submit(new(), new(), new()) == [1, 2, 3]
    assert books.submit(new()) == [4]
    assert books.submit(*[new()] * 2500) == list(range(5, 2505))


def test_an_id_is_not_given_twice_even_if_its_job_was_the_last_and_is_gone(books: Books) -> None:
    books.submit(new(), new())
    last = books.queued()
    books.cancel(last)
    books.remove(last)
    assert books.queued() == last + 1


def test_ids_go_on_when_every_job_is_gone(books: Books) -> None:
    ids = books.submit(new(), new())
    for job_id in ids:
        books.cancel(job_id)
        books.remove(job_id)
    books.store.close()
    assert books.submit(new(), new()) == [3, 4]


def test_a_job_is_kept_as_it_was_submitted(books: Books) -> None:
    run_at = START + timedelta(hours=1, microseconds=7)
    submitted = NewJob(
        task="examples.train",
        params='{"epochs": 20, "name": "ä"}',
        priority=-3,
        queue="slow",
        labels={"who": "ci", "run": "ü 7"},
        run_at=run_at,
        timeout_seconds=1.5,
        memory_limit_bytes=1 << 40,
        retries=4,
        crash_retries=0,
    )
    (job_id,) = books.submit(submitted)
    found = books.job(job_id)
    for name in NewJob.__slots__:
        if name not in ("labels", "map"):
            assert getattr(found, name) == getattr(submitted, name)
    assert json.loads(found.labels) == {"who": "ci", "run": "ü 7"}
    assert found.state is State.QUEUED
    assert not found.is_final
    assert (found.created_at, found.due_at) == (START, run_at)
    assert (found.attempt, found.version, found.partials) == (0, 1, 0)
    assert (found.retries_used, found.crash_retries_used) == (0, 0)
    nothing = (found.started_at, found.finished_at, found.dispatcher_id, found.cancel_grace_seconds)
    assert nothing == (None,) * 4
    assert (found.progress, found.result, found.error) == (None, None, None)


def test_a_plain_job_has_plain_values(books: Books) -> None:
    found = books.job(books.queued())
    assert (found.priority, found.queue, found.labels) == (0, "default", "{}")
    assert (found.run_at, found.due_at) == (None, None)
    assert (found.timeout_seconds, found.memory_limit_bytes) == (None, None)
    assert (found.retries, found.crash_retries) == (0, 2)


def test_the_history_begins_with_the_submission(books: Books) -> None:
    job_id = books.queued()
    (first,) = books.events(job_id)
    assert (first.seq, first.kind, first.attempt, first.at) == (1, EventKind.STATE, 0, START)
    assert json.loads(first.data) == {"state": "queued"}


@pytest.mark.parametrize(("seconds", "waits"), [(-1, False), (0, False), (1e-6, True), (60, True)])
def test_only_a_moment_that_is_still_to_come_is_waited_for(books: Books, seconds: float, waits: bool) -> None:
    run_at = START + timedelta(seconds=seconds)
    found = books.job(books.queued(run_at=run_at))
    assert found.run_at == run_at
    assert found.due_at == (run_at if waits else None)


def test_moments_come_back_in_utc_whatever_zone_they_were_given_in(books: Books) -> None:
    elsewhere = datetime(2026, 2, 1, 3, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    found = books.job(books.queued(run_at=elsewhere)).run_at
    assert found is not None
    assert found == elsewhere
    assert found.utcoffset() == timedelta(0)


def test_a_moment_without_a_zone_is_refused(books: Books) -> None:
    with pytest.raises(TypeError, match="offset-naive"):
        books.queued(run_at=datetime(2020, 1, 1))  # noqa: DTZ001 - that is what is refused
    books.now = START.replace(tzinfo=None)
    with pytest.raises(TypeError, match="offset-naive"):
        books.queued()
    assert books.counts()[State.QUEUED] == 0


def test_a_batch_is_stored_whole_or_not_at_all(books: Books) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=r"label\.value"):
        books.submit(new(), new(labels={"key": None}), new())
    assert books.counts()[State.QUEUED] == 0
    assert books.queued() == 1


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("job_id", [0, -1, 2, 10**18])
def test_a_job_that_is_not_there_is_not_found(books: Books, job_id: int) -> None:
    books.queued()
    with pytest.raises(JobNotFoundError, match=f"there is no job {job_id}"):
        books.job(job_id)
    with books.read() as connection, pytest.raises(JobNotFoundError):
        jobs.version(connection, job_id)


def test_the_version_is_that_of_the_last_event(books: Books) -> None:
    claimed = books.running()
    books.report(books.says(claimed, partial(1), printed("a")))
    with books.read() as connection:
        assert jobs.version(connection, claimed.id) == (4, State.RUNNING)
    assert books.job(claimed.id).version == 4
    assert [one.seq for one in books.events(claimed.id)] == [1, 2, 3, 4]


# -- deleting ------------------------------------------------------------------------------------


def with_a_history(books: Books, ending: Ending) -> int:
    claimed = books.running(labels={"who": "me", "what": "test"})
    books.report(books.says(claimed, partial(1), printed("hello")), books.end_of(claimed, ending))
    return claimed.id


@pytest.mark.parametrize("ending", [Ending.SUCCEEDED, Ending.EXCEPTION, Ending.CANCELLED])
def test_a_final_job_goes_with_all_its_history_and_no_others(books: Books, ending: Ending) -> None:
    stays, goes = with_a_history(books, ending), with_a_history(books, ending)
    before = rows_about(books, stays)
    assert rows_about(books, goes) == before == 1 + 5 + 1 + 2
    books.remove(goes)
    assert rows_about(books, goes) == 0
    assert rows_about(books, stays) == before
    with pytest.raises(JobNotFoundError):
        books.job(goes)


def test_a_job_that_is_not_final_is_not_deleted(books: Books) -> None:
    running, queued, later = books.running().id, books.queued(), books.queued(run_at=START + timedelta(1))
    before = books.dump()
    for job_id, state in ((running, "running"), (queued, "queued"), (later, "queued")):
        with pytest.raises(WrongStateError, match=f"job {job_id} is {state}: cannot delete it"):
            books.remove(job_id)
    assert books.dump() == before


def test_a_job_that_was_deleted_is_not_found_to_be_deleted_again(books: Books) -> None:
    job_id = books.finished(Ending.SUCCEEDED)
    books.remove(job_id)
    with pytest.raises(JobNotFoundError):
        books.remove(job_id)


# -- counting ------------------------------------------------------------------------------------


def test_each_state_is_counted(books: Books) -> None:
    assert books.counts() == dict.fromkeys(State, 0)
    books.submit(new(), new(), new(run_at=START + timedelta(1)))
    books.running()
    for ending, times in ((Ending.SUCCEEDED, 3), (Ending.CRASHED, 2), (Ending.CANCELLED, 1)):
        for _ in range(times):
            books.finished(ending, crash_retries=0)
    assert books.counts() == {
        State.QUEUED: 3,
        State.RUNNING: 1,
        State.SUCCEEDED: 3,
        State.FAILED: 2,
        State.CANCELLED: 1,
    }


def test_what_was_rolled_back_is_not_counted(books: Books) -> None:
    def fail() -> Any:
        with books.store.write(durable=True) as connection:
            jobs.submit(connection, [new()], now=START)
            assert jobs.counts(connection)[State.QUEUED] == 1
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert books.counts()[State.QUEUED] == 0


def test_the_oldest_queued_job_tells_how_long_the_queue_waits(books: Books) -> None:
    def oldest() -> datetime | None:
        with books.read() as connection:
            return jobs.oldest_queued_at(connection)

    assert oldest() is None
    first = books.queued()
    second_at = books.later(10)
    second = books.queued()
    assert oldest() == START
    books.cancel(first)
    assert oldest() == second_at
    books.cancel(second)
    assert oldest() is None

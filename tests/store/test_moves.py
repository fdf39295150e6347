"""What people decide: cancelling, asking again."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from jobrunner.errors import JobNotFoundError, WrongStateError
from jobrunner.lifecycle import Ending, State
from jobrunner.store import moves
from jobrunner.store.moves import StopRequest
from tests.store.books import START, Books, partial, progress

# -- cancelling ----------------------------------------------------------------------------------


def test_a_queued_job_is_cancelled_at_once(books: Books) -> None:
    job_id = books.queued()
    now = books.later(2)
    assert books.cancel(job_id) is State.CANCELLED
    found = books.job(job_id)
    assert (found.state, found.finished_at, found.version) == (State.CANCELLED, now, 2)
    assert found.is_final
    assert books.told(job_id) == [{"state": "queued"}, {"state": "cancelled"}]
    assert books.claim() == []


def test_a_scheduled_job_is_cancelled_at_once_and_not_waited_for(books: Books) -> None:
    job_id = books.queued(run_at=START + timedelta(1))
    assert books.cancel(job_id) is State.CANCELLED
    assert books.job(job_id).due_at is None
    with books.read() as connection:
        assert moves.next_due_at(connection) is None


def test_a_running_job_is_marked_to_be_stopped(books: Books) -> None:
    claimed = books.running()
    assert books.cancel(claimed.id, grace_seconds=2.5) is State.RUNNING
    found = books.job(claimed.id)
    assert (found.state, found.cancel_grace_seconds, found.version) == (State.RUNNING, 2.5, 3)
    assert books.told(claimed.id)[-1] == {"state": "running", "reason": "stopping"}
    with books.read() as connection:
        assert moves.stop_requests(connection, books.dispatcher_id) == [StopRequest(claimed.id, 1, 2.5)]


def test_a_wish_to_stop_is_told_to_the_dispatcher_that_holds_the_job_alone(books: Books) -> None:
    other = books.register()
    books.running()
    mine = books.running()
    books.cancel(mine.id)
    with books.read() as connection:
        assert moves.stop_requests(connection, other) == []
        assert [one.id for one in moves.stop_requests(connection, books.dispatcher_id)] == [mine.id]
    books.report(books.end_of(mine, Ending.CANCELLED))
    with books.read() as connection:
        assert moves.stop_requests(connection, books.dispatcher_id) == []


def test_cancelling_a_second_time_changes_nothing(books: Books) -> None:
    queued, running = books.queued(), books.running().id
    books.cancel(queued)
    books.cancel(running, grace_seconds=9.0)
    before = books.dump()
    books.later(1)
    assert books.cancel(queued) is State.CANCELLED
    assert books.cancel(running, grace_seconds=1.0) is State.RUNNING
    assert books.dump() == before


def test_a_grace_of_nothing_is_a_wish_too(books: Books) -> None:
    claimed = books.running()
    books.cancel(claimed.id, grace_seconds=0.0)
    assert books.job(claimed.id).cancel_grace_seconds == 0.0
    before = books.dump()
    books.cancel(claimed.id, grace_seconds=5.0)
    assert books.dump() == before


@pytest.mark.parametrize(("ending", "state"), [(Ending.SUCCEEDED, "succeeded"), (Ending.EXCEPTION, "failed")])
def test_what_has_ended_cannot_be_cancelled(books: Books, ending: Ending, state: str) -> None:
    job_id = books.finished(ending)
    before = books.dump()
    with pytest.raises(WrongStateError, match=f"job {job_id} is {state}: cannot cancel it"):
        books.cancel(job_id)
    assert books.dump() == before


# -- asking again --------------------------------------------------------------------------------


def test_a_failed_job_is_queued_again_with_its_budgets_whole(books: Books) -> None:
    claimed = books.running(retries=1, crash_retries=1)
    books.report(books.end_of(claimed, Ending.LOST, partial("kept"), progress(3)))
    (second,) = books.claim()
    books.report(books.end_of(second, Ending.CRASHED))
    failed = books.job(claimed.id)
    assert (failed.state, failed.crash_retries_used) == (State.FAILED, 1)
    assert failed.error is not None

    assert books.requeue(claimed.id) is State.QUEUED
    found = books.job(claimed.id)
    assert found.state is State.QUEUED
    assert (found.retries_used, found.crash_retries_used) == (0, 0)
    assert (found.error, found.finished_at, found.due_at, found.result) == (None,) * 4
    assert (found.started_at, found.progress) == (None, None)
    assert books.told(claimed.id)[-1] == {"state": "queued"}

    (third,) = books.claim()
    assert (third.id, third.attempt) == (claimed.id, 3)
    assert [one.number for one in books.attempts(claimed.id)] == [1, 2, 3]
    assert books.job(claimed.id).partials == 1  # what was told stays told


def test_a_cancelled_job_is_queued_again(books: Books) -> None:
    never_ran = books.queued(run_at=START + timedelta(1))
    stopped = books.running()
    books.cancel(never_ran)
    books.cancel(stopped.id)
    books.report(books.end_of(stopped, Ending.CANCELLED))
    for job_id in (never_ran, stopped.id):
        assert books.requeue(job_id) is State.QUEUED
        assert books.job(job_id).cancel_grace_seconds is None
    assert sorted(one.id for one in books.claim()) == [never_ran, stopped.id]


def a_queued_job(books: Books) -> int:
    return books.queued()


def a_running_job(books: Books) -> int:
    return books.running().id


def a_succeeded_job(books: Books) -> int:
    return books.finished(Ending.SUCCEEDED)


@pytest.mark.parametrize(
    ("made", "state"),
    [(a_queued_job, "queued"), (a_running_job, "running"), (a_succeeded_job, "succeeded")],
)
def test_what_is_not_failed_or_cancelled_cannot_be_queued_again(
    books: Books, made: Callable[[Books], int], state: str
) -> None:
    job_id = made(books)
    before = books.dump()
    with pytest.raises(WrongStateError, match=f"job {job_id} is {state}: cannot retry it"):
        books.requeue(job_id)
    assert books.dump() == before


@pytest.mark.parametrize("verb", [Books.cancel, Books.requeue])
def test_what_is_not_there_cannot_be_moved(books: Books, verb: Callable[[Books, int], Any]) -> None:
    with pytest.raises(JobNotFoundError, match="there is no job 7"):
        verb(books, 7)


def test_every_move_is_one_more_event_at_its_moment(books: Books) -> None:
    job_id = books.queued()
    moments = [START, books.later(1)]
    books.cancel(job_id)
    moments.append(books.later(1))
    books.requeue(job_id)
    moments.append(books.later(1))
    books.claim()
    found = books.events(job_id)
    assert [one.at for one in found] == moments
    assert [json.loads(one.data)["state"] for one in found] == ["queued", "cancelled", "queued", "running"]
    assert [one.attempt for one in found] == [0, 0, 0, 1]

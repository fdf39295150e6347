"""An attempt that is not the job's own any more changes nothing, whatever it says."""

import pytest

from jobrunner.lifecycle import Ending, State
from jobrunner.reports import EventKind, Report
from jobrunner.store import moves
from jobrunner.store.moves import Claimed
from tests.store.books import START, Books, ended, partial, printed, progress


def late_words(claimed: Claimed) -> list[Report]:
    """Whatever an attempt that is over might still say."""
    said = (partial("late"), progress(9), printed("late"))
    speech = Report(claimed.id, claimed.attempt, START, said)
    return [speech, *(speech._replace(ended=ended(ending)) for ending in Ending)]


def after_it_succeeded(books: Books) -> Claimed:
    claimed = books.running()
    books.report(books.end_of(claimed, Ending.SUCCEEDED))
    return claimed


def after_it_failed(books: Books) -> Claimed:
    claimed = books.running()
    books.report(books.end_of(claimed, Ending.EXCEPTION))
    return claimed


def after_it_was_cancelled(books: Books) -> Claimed:
    claimed = books.running()
    books.cancel(claimed.id)
    books.report(books.end_of(claimed, Ending.CANCELLED))
    return claimed


def after_it_was_given_back(books: Books) -> Claimed:
    claimed = books.running()
    books.report(books.end_of(claimed, Ending.LOST))
    return claimed


def after_another_attempt_began(books: Books) -> Claimed:
    claimed = after_it_was_given_back(books)
    (second,) = books.claim(by=books.register())
    assert (second.id, second.attempt) == (claimed.id, 2)
    return claimed


def after_it_was_queued_again(books: Books) -> Claimed:
    claimed = after_it_failed(books)
    books.requeue(claimed.id)
    return claimed


def after_it_was_deleted(books: Books) -> Claimed:
    claimed = after_it_succeeded(books)
    books.remove(claimed.id)
    return claimed


def before_it_began(books: Books) -> Claimed:
    claimed = books.running()
    return claimed._replace(attempt=2)


@pytest.mark.parametrize(
    "made",
    [
        after_it_succeeded,
        after_it_failed,
        after_it_was_cancelled,
        after_it_was_given_back,
        after_another_attempt_began,
        after_it_was_queued_again,
        after_it_was_deleted,
        before_it_began,
    ],
)
def test_an_attempt_that_is_not_the_jobs_own_is_refused_and_nothing_changes(
    books: Books, made: object
) -> None:
    assert callable(made)
    claimed = made(books)
    before = books.dump()
    for word in late_words(claimed):
        recorded = books.report(word)
        assert (recorded.refused, recorded.requeued) == ([word], False)
        assert books.dump() == before


def test_what_is_refused_keeps_nothing_else_out(books: Books) -> None:
    stale, fresh = after_it_succeeded(books), books.running()
    late = books.says(stale, partial("late"))
    good = [books.says(fresh, partial(1)), books.end_of(fresh, Ending.SUCCEEDED)]
    recorded = books.report(late, good[0], late, good[1], late)
    assert recorded.refused == [late] * 3
    assert books.job(fresh.id).state is State.SUCCEEDED
    assert books.job(fresh.id).partials == 1


def test_a_batch_tells_of_a_job_that_went_back_wherever_it_stands(books: Books) -> None:
    back, done = books.running(), books.running()
    assert books.report(books.end_of(back, Ending.RELEASED), books.end_of(done, Ending.SUCCEEDED)).requeued
    (back,), done = books.claim(), books.running()
    assert books.report(books.end_of(done, Ending.SUCCEEDED), books.end_of(back, Ending.RELEASED)).requeued


def test_of_two_ends_in_one_batch_the_first_counts(books: Books) -> None:
    claimed = books.running()
    first, second = books.end_of(claimed, Ending.EXCEPTION), books.end_of(claimed, Ending.SUCCEEDED)
    recorded = books.report(first, second)
    assert recorded.refused == [second]
    assert books.job(claimed.id).state is State.FAILED
    assert [one.outcome for one in books.attempts(claimed.id)] == ["exception"]


def test_what_is_said_after_the_end_in_one_batch_is_refused(books: Books) -> None:
    claimed = books.running(retries=1)
    speech, end, late = (
        books.says(claimed, partial(1)),
        books.end_of(claimed, Ending.EXCEPTION, partial(2)),
        books.says(claimed, partial(3)),
    )
    recorded = books.report(speech, end, late)
    assert recorded.refused == [late]
    assert recorded.requeued
    said = books.events(claimed.id, kinds=[EventKind.PARTIAL])
    assert [one.data for one in said] == ["1", "2"]
    assert books.job(claimed.id).partials == 2


def test_a_dead_dispatchers_jobs_are_given_back_once_whoever_looks(books: Books) -> None:
    dead = books.register()
    job_id = books.queued(crash_retries=1)
    (claimed,) = books.claim(by=dead)
    lost = books.end_of(claimed, Ending.LOST)
    for looker in range(2):
        with books.read() as connection:
            held = moves.held(connection, dead)
        assert held == ([(job_id, 1)] if looker == 0 else [])
        assert (books.report(lost).refused == []) is (looker == 0)
    assert books.job(job_id).crash_retries_used == 1

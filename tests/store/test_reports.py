"""What attempts tell of themselves becomes rows, once."""

import json
from datetime import timedelta

import pytest

from jobrunner.lifecycle import Ending, State, target
from jobrunner.reports import EventKind
from jobrunner.retry import Budgets, verdict
from tests.store.books import START, Books, partial, printed, progress

BAD_ENDINGS = [
    Ending.EXCEPTION,
    Ending.TIMEOUT,
    Ending.MEMORY_LIMIT,
    Ending.CRASHED,
    Ending.LOST,
    Ending.UNSERIALIZABLE,
]


# -- while it runs -------------------------------------------------------------------------------


def test_what_an_attempt_says_is_kept_in_order(books: Books) -> None:
    claimed = books.running()
    books.report(books.says(claimed, partial(1), printed("one\n"), progress(1)))
    at = books.later(1)
    books.report(books.says(claimed, partial(2)), books.says(claimed, printed("two\n"), partial([3])))
    found = books.events(claimed.id)[2:]
    assert [(one.seq, one.kind, one.data) for one in found] == [
        (3, "partial", "1"),
        (4, "log", "one\n"),
        (5, "progress", '{"done": 1, "total": 10, "message": null}'),
        (6, "partial", "2"),
        (7, "log", "two\n"),
        (8, "partial", "[3]"),
    ]
    assert {one.attempt for one in found} == {1}
    assert [one.at for one in found] == [START] * 3 + [at] * 3


def test_partials_are_counted_and_the_last_progress_shown(books: Books) -> None:
    claimed = books.running()
    books.report(books.says(claimed, partial(1), progress(1), partial(2), progress(2), printed("x")))
    books.report(books.says(claimed, partial(3)))
    found = books.job(claimed.id)
    assert (found.state, found.partials, found.version) == (State.RUNNING, 3, 8)
    assert json.loads(found.progress or "")["done"] == 2


def test_many_jobs_may_speak_in_one_batch(books: Books) -> None:
    claimed = [books.running() for _ in range(5)]
    turns = [books.says(one, partial(turn)) for turn in range(20) for one in claimed]
    assert books.report(*turns).refused == []
    for one in claimed:
        said = books.events(one.id, kinds=[EventKind.PARTIAL])
        assert [event.data for event in said] == [str(turn) for turn in range(20)]
        assert books.job(one.id).partials == 20


def test_a_report_without_a_word_changes_nothing(books: Books) -> None:
    claimed = books.running()
    before = books.dump()
    assert books.report(books.says(claimed)).refused == []
    assert books.report().refused == []
    assert books.dump() == before


# -- how it ends ---------------------------------------------------------------------------------


def test_a_job_that_succeeds_keeps_its_result(books: Books) -> None:
    claimed = books.running()
    now = books.later(2)
    end = books.end_of(
        claimed,
        Ending.SUCCEEDED,
        partial(1),
        result='{"a": 1}',
        worker=3,
        peak_memory_bytes=7,
        cpu_seconds=1.5,
    )
    recorded = books.report(end)
    assert (recorded.refused, recorded.requeued) == ([], False)
    found = books.job(claimed.id)
    assert (found.state, found.result, found.error) == (State.SUCCEEDED, '{"a": 1}', None)
    assert (found.started_at, found.finished_at, found.dispatcher_id) == (START, now, None)
    assert (found.version, found.partials) == (4, 1)
    assert books.told(claimed.id)[-1] == {"state": "succeeded"}
    (attempt,) = books.attempts(claimed.id)
    assert (attempt.outcome, attempt.finished_at, attempt.error) == (Ending.SUCCEEDED, now, None)
    assert attempt.started_at == START
    assert (attempt.worker, attempt.peak_memory_bytes, attempt.cpu_seconds) == (3, 7, 1.5)


@pytest.mark.parametrize("ending", [Ending.SUCCEEDED, Ending.EXCEPTION])
@pytest.mark.parametrize(
    ("ran_seconds", "waited_seconds"),
    [(None, 0.0), (0.5, 1.5), (2.0, 0.0), (60.0, 0.0), (-1.0, 2.0)],
    ids=["unknown", "waited for others", "began at once", "before it was claimed", "after its end"],
)
def test_a_job_that_waited_after_its_claim_began_when_its_task_did(
    books: Books, ending: Ending, ran_seconds: float | None, waited_seconds: float
) -> None:
    claimed = books.running()
    now = books.later(2)
    result = "1" if ending is Ending.SUCCEEDED else None
    began_at = None if ran_seconds is None else now - timedelta(seconds=ran_seconds)
    books.report(books.end_of(claimed, ending, result=result, began_at=began_at))
    found, (attempt,) = books.job(claimed.id), books.attempts(claimed.id)
    assert found.started_at == attempt.started_at == START + timedelta(seconds=waited_seconds)
    assert found.finished_at == attempt.finished_at == now


def test_a_job_that_goes_back_to_the_queue_has_not_begun(books: Books) -> None:
    claimed = books.running(retries=1)
    now = books.later(2)
    books.report(books.end_of(claimed, Ending.EXCEPTION, began_at=now - timedelta(seconds=0.5)))
    (attempt,) = books.attempts(claimed.id)
    assert attempt.started_at == START + timedelta(seconds=1.5)
    assert (books.job(claimed.id).state, books.job(claimed.id).started_at) == (State.QUEUED, None)


def test_a_result_of_null_is_a_result(books: Books) -> None:
    claimed = books.running()
    books.report(books.end_of(claimed, Ending.SUCCEEDED, result="null"))
    assert books.job(claimed.id).result == "null"


@pytest.mark.parametrize("ending", BAD_ENDINGS)
def test_a_job_without_a_budget_left_fails_and_says_why(books: Books, ending: Ending) -> None:
    claimed = books.running(retries=0, crash_retries=0)
    now = books.later(2)
    recorded = books.report(books.end_of(claimed, ending))
    assert (recorded.refused, recorded.requeued) == ([], False)
    found = books.job(claimed.id)
    assert (found.state, found.finished_at, found.dispatcher_id) == (State.FAILED, now, None)
    assert json.loads(found.error or "")["kind"] == ending
    assert (found.retries_used, found.crash_retries_used) == (0, 0)
    error = {"kind": ending, "message": f"it ended by {ending}"}
    assert books.told(claimed.id)[-1] == {"state": "failed", "error": error}
    (attempt,) = books.attempts(claimed.id)
    assert (attempt.outcome, attempt.finished_at, attempt.error) == (ending, now, found.error)


@pytest.mark.parametrize("ending", Ending)
def test_what_is_said_together_with_an_end_is_counted_and_shown(books: Books, ending: Ending) -> None:
    claimed = books.running(retries=1)
    books.report(books.says(claimed, partial(1)), books.end_of(claimed, ending, partial(2), progress(3)))
    found = books.job(claimed.id)
    assert (found.partials, json.loads(found.progress or "")["done"]) == (2, 3)


@pytest.mark.parametrize("ending", Ending)
def test_what_was_said_before_an_end_is_still_shown(books: Books, ending: Ending) -> None:
    claimed = books.running(retries=1)
    books.report(books.says(claimed, partial(1), progress(3)))
    books.report(books.end_of(claimed, ending))
    found = books.job(claimed.id)
    assert (found.partials, json.loads(found.progress or "")["done"]) == (1, 3)


@pytest.mark.parametrize("ending", [one for one in BAD_ENDINGS if one is not Ending.UNSERIALIZABLE])
def test_a_job_with_a_budget_left_goes_back_to_the_queue_and_pays(books: Books, ending: Ending) -> None:
    claimed = books.running(retries=1, crash_retries=1)
    recorded = books.report(books.end_of(claimed, ending, progress(3)))
    assert (recorded.refused, recorded.requeued) == ([], True)
    found = books.job(claimed.id)
    assert (found.state, found.result, found.finished_at, found.started_at) == (
        State.QUEUED,
        None,
        None,
        None,
    )
    assert (found.dispatcher_id, found.cancel_grace_seconds) == (None, None)
    charged = verdict(ending, Budgets(1, 1, 0, 0)).charged
    assert {"retries": found.retries_used, "crash_retries": found.crash_retries_used} == {
        name: int(name == charged) for name in ("retries", "crash_retries")
    }
    told = books.told(claimed.id)[-1]
    assert (told["state"], told["error"]["kind"], told["charged_to"]) == ("queued", ending, charged)
    if ending is Ending.LOST:
        assert found.due_at is None
        assert "due_at" not in told
    else:
        assert found.due_at is not None
        assert timedelta(0) <= found.due_at - START <= timedelta(seconds=1)
        assert told["due_at"] == found.due_at.isoformat()
    (attempt,) = books.attempts(claimed.id)
    assert (attempt.outcome, attempt.error) == (ending, found.error)
    assert json.loads(found.error or "")["kind"] == ending  # why it has to try again


def runs_until_it_is_over(books: Books, ending: Ending, **budgets: int) -> list[str]:
    """Run a job each of whose attempts ends like this; return the states it went through."""
    job_id = books.queued(**budgets)
    for _ in range(10):
        books.later(300)
        (claimed,) = books.claim()
        books.report(books.end_of(claimed, ending))
        if books.job(job_id).is_final:
            break
    return [told["state"] for told in books.told(job_id)]


@pytest.mark.parametrize(("retries", "crash_retries"), [(0, 0), (2, 0), (0, 3), (3, 1)])
@pytest.mark.parametrize("ending", BAD_ENDINGS)
def test_a_job_is_run_as_often_as_its_budgets_allow(
    books: Books, ending: Ending, retries: int, crash_retries: int
) -> None:
    charged = verdict(ending, Budgets(1, 1, 0, 0)).charged
    budget = {"retries": retries, "crash_retries": crash_retries, None: 0}[charged]
    states = runs_until_it_is_over(books, ending, retries=retries, crash_retries=crash_retries)
    assert states == ["queued", "running"] * (budget + 1) + ["failed"]
    assert len(books.attempts(1)) == budget + 1


def test_the_error_of_an_attempt_is_forgotten_when_a_later_one_succeeds(books: Books) -> None:
    first = books.running(crash_retries=1)
    books.report(books.end_of(first, Ending.LOST))
    (second,) = books.claim()
    books.report(books.end_of(second, Ending.SUCCEEDED))
    assert books.job(first.id).error is None
    assert [one.error is None for one in books.attempts(first.id)] == [False, True]


def test_a_budget_pays_only_for_its_own_kind_of_end(books: Books) -> None:
    job_id = books.queued(retries=1, crash_retries=1)
    for ending in (Ending.CRASHED, Ending.EXCEPTION, Ending.MEMORY_LIMIT):
        books.later(300)
        (claimed,) = books.claim()
        books.report(books.end_of(claimed, ending))
    found = books.job(job_id)
    assert (found.state, found.retries_used, found.crash_retries_used) == (State.FAILED, 1, 1)
    assert json.loads(found.error or "")["kind"] == "memory_limit"
    assert [one.outcome for one in books.attempts(job_id)] == ["crashed", "exception", "memory_limit"]


def test_a_release_costs_nothing_and_the_job_goes_on_at_once(books: Books) -> None:
    claimed = books.running(crash_retries=1)
    for _ in range(3):
        recorded = books.report(books.end_of(claimed, Ending.RELEASED))
        assert recorded.requeued
        (again,) = books.claim()
        assert (again.id, again.attempt) == (claimed.id, claimed.attempt + 1)
        claimed = again
    found = books.job(claimed.id)
    assert (found.retries_used, found.crash_retries_used) == (0, 0)
    assert [one.outcome for one in books.attempts(claimed.id)] == ["released"] * 3 + [None]


def test_a_job_that_may_run_only_once_is_lost_when_it_is_released(books: Books) -> None:
    claimed = books.running(crash_retries=0, retries=5)
    recorded = books.report(books.end_of(claimed, Ending.RELEASED))
    assert not recorded.requeued
    found = books.job(claimed.id)
    assert found.state is State.FAILED
    error = json.loads(found.error or "")
    assert error["kind"] == "lost"
    assert "crash_retries is 0" in error["message"]
    assert books.claim() == []
    assert [one.outcome for one in books.attempts(claimed.id)] == ["released"]


# -- somebody asked to cancel --------------------------------------------------------------------


@pytest.mark.parametrize("ending", [*BAD_ENDINGS, Ending.RELEASED, Ending.CANCELLED])
def test_a_wish_to_cancel_wins_over_every_bad_end(books: Books, ending: Ending) -> None:
    claimed = books.running(retries=3, crash_retries=3)
    books.cancel(claimed.id)
    recorded = books.report(books.end_of(claimed, ending))
    assert not recorded.requeued
    found = books.job(claimed.id)
    assert (found.state, found.error, found.result) == (State.CANCELLED, None, None)
    assert (found.cancel_grace_seconds, found.dispatcher_id) == (None, None)
    assert (found.retries_used, found.crash_retries_used) == (0, 0)
    assert [one.outcome for one in books.attempts(claimed.id)] == [ending]


def test_a_result_that_came_before_the_stop_counts(books: Books) -> None:
    claimed = books.running()
    books.cancel(claimed.id)
    books.report(books.end_of(claimed, Ending.SUCCEEDED))
    found = books.job(claimed.id)
    assert (found.state, found.result, found.cancel_grace_seconds) == (State.SUCCEEDED, "42", None)


@pytest.mark.parametrize("ending", Ending)
@pytest.mark.parametrize("cancelling", [False, True])
@pytest.mark.parametrize("crash_retries", [0, 2])
def test_every_end_leads_where_its_verdict_says(
    books: Books, ending: Ending, cancelling: bool, crash_retries: int
) -> None:
    claimed = books.running(retries=1, crash_retries=crash_retries)
    if cancelling:
        books.cancel(claimed.id)
    event = verdict(ending, Budgets(1, crash_retries, 0, 0), cancel_requested=cancelling).event
    books.report(books.end_of(claimed, ending))
    assert books.job(claimed.id).state is target(State.RUNNING, event)

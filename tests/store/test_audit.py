import contextlib
import sqlite3
import tracemalloc

import pytest

from jobrunner.lifecycle import Ending
from jobrunner.store.audit import contradictions, contradictions_in_turns
from jobrunner.store.contradiction import Contradiction, Kind
from jobrunner.store.engine import Store
from tests.store.books import Books, new, partial, printed


@pytest.fixture
def books(store: Store) -> Books:
    """Books that a test may put into disorder."""
    return Books(store)


def found(books: Books) -> list[Contradiction]:
    with books.read() as connection:
        return list(contradictions(connection))


def forge(books: Books, job_id: int, *statements: str) -> None:
    """Write what no program of ours would, and no rule of the tables would let it."""
    with contextlib.closing(sqlite3.connect(books.store.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        for statement in statements:
            connection.execute(statement, {"id": job_id})


def event(seq: int, kind: str, attempt: int, data: str) -> str:
    columns = "job_id, seq, kind, attempt, at, data"
    return f"INSERT INTO event ({columns}) VALUES (:id, {seq}, '{kind}', {attempt}, 0, '{data}')"  # noqa: S608 - in a test


def state(seq: int, attempt: int, to: str) -> str:
    return event(seq, "state", attempt, f'{{"state":"{to}"}}')


def version(seq: int) -> str:
    return f"UPDATE job SET version = {seq} WHERE id = :id"  # noqa: S608 - in a test


ENDED_TOO = """INSERT INTO attempt (job_id, number, dispatcher_id, started_at, finished_at, outcome)
    VALUES (:id, 2, 1, 0, 0, 'lost')"""

REMOVAL = "INSERT INTO removal VALUES (:id)"


def keep(books: Books) -> None:
    """Jobs in every state, by every way into it."""
    retried = books.running(retries=1)
    books.report(books.end_of(retried, Ending.EXCEPTION, partial(1), printed("so far\n")))
    books.later(1000)
    books.report(*(books.end_of(one, Ending.SUCCEEDED, partial(2)) for one in books.claim()))
    asked_again = books.finished(Ending.CRASHED, crash_retries=0)
    books.requeue(asked_again)
    books.cancel(asked_again)
    books.requeue(asked_again)
    books.claim()
    stopped = books.running()
    books.cancel(stopped.id)
    books.report(books.end_of(stopped, Ending.CANCELLED))
    released = books.running()
    books.report(books.end_of(released, Ending.RELEASED))
    books.cancel(released.id)
    books.finished(Ending.RELEASED, crash_retries=0)
    books.running()
    books.queued()


def test_books_that_only_the_program_wrote_have_no_contradiction(books: Books) -> None:
    keep(books)
    assert found(books) == []


@pytest.mark.parametrize(
    ("forgery", "kind", "detail"),
    [
        (["UPDATE tally SET jobs = 7 WHERE state = 'queued'"], Kind.TALLY, "7 jobs are counted"),
        (
            ["DELETE FROM event WHERE job_id = :id AND seq = 2"],
            Kind.GAP,
            "event 3 follows event 1",
        ),
        ([version(9)], Kind.GAP, "its version 9"),
        (["UPDATE job SET partials = 5 WHERE id = :id"], Kind.PARTIALS, "5 partial results"),
        (
            [state(5, 1, "succeeded"), version(5)],
            Kind.TWICE,
            "from succeeded to succeeded by attempt 1",
        ),
        (
            [state(5, 2, "running"), version(5)],
            Kind.AFTER_FINAL,
            "from succeeded to running by attempt 2",
        ),
        (
            [event(5, "partial", 1, "3"), version(5)],
            Kind.AFTER_FINAL,
            "a partial of attempt 1",
        ),
        (["DELETE FROM attempt WHERE job_id = :id"], Kind.ATTEMPTS, "there are rows of none"),
        (
            ["UPDATE attempt SET outcome = NULL, finished_at = NULL WHERE job_id = :id"],
            Kind.ATTEMPTS,
            "its row has not",
        ),
        (
            ["UPDATE attempt SET outcome = 'exception' WHERE job_id = :id"],
            Kind.ATTEMPTS,
            "does not lead to succeeded",
        ),
        (
            ["UPDATE event SET data = '{}' WHERE job_id = :id AND seq = 4"],
            Kind.PATH,
            "to no state",
        ),
    ],
)
def test_a_contradiction_about_a_job_that_succeeded_is_found(
    books: Books, forgery: list[str], kind: Kind, detail: str
) -> None:
    keep(books)
    claimed = books.running()
    books.report(books.end_of(claimed, Ending.SUCCEEDED, partial(1)))
    forge(books, claimed.id, *forgery)
    assert any(one.kind is kind and detail in one.detail for one in found(books)), found(books)
    assert {one.job_id for one in found(books)} == {None if kind is Kind.TALLY else claimed.id}


@pytest.mark.parametrize(
    ("forgery", "kind", "detail"),
    [
        ([state(4, 1, "queued"), version(4)], Kind.TWICE, "from queued to queued"),
        ([state(4, 1, "succeeded"), version(4)], Kind.TWICE, "from queued to succeeded"),
        ([event(4, "log", 1, "late"), version(4)], Kind.LATE, "a log of attempt 1"),
        ([state(4, 3, "running"), version(4)], Kind.PATH, "by attempt 3"),
        ([state(4, 2, "failed"), version(4)], Kind.PATH, "from queued to failed"),
        (
            [state(4, 2, "running"), event(5, "partial", 1, "1"), version(5)],
            Kind.LATE,
            "when it was running in attempt 2",
        ),
        (["UPDATE job SET attempt = 2 WHERE id = :id"], Kind.PATH, "in attempt 2"),
        (
            [
                "UPDATE job SET state = 'failed', due_at = NULL, finished_at = 0 WHERE id = :id",
            ],
            Kind.PATH,
            "it is failed",
        ),
        ([ENDED_TOO], Kind.ATTEMPTS, "the row of attempt 2 has ended (lost)"),
        (
            ["DELETE FROM event WHERE job_id = :id AND seq = 1"],
            Kind.GAP,
            "event 2 follows event 0",
        ),
    ],
)
def test_a_contradiction_about_a_job_that_waits_for_its_retry_is_found(
    books: Books, forgery: list[str], kind: Kind, detail: str
) -> None:
    claimed = books.running(retries=1)
    books.report(books.end_of(claimed, Ending.EXCEPTION))
    forge(books, claimed.id, *forgery)
    assert any(one.kind is kind and detail in one.detail for one in found(books)), found(books)


def test_a_running_job_whose_dispatcher_has_ended_is_found(books: Books) -> None:
    claimed = books.running()
    books.end_dispatcher(books.dispatcher_id)
    assert [(one.kind, one.job_id) for one in found(books)] == [(Kind.UNATTENDED, claimed.id)]


def test_a_history_without_a_job_is_found(books: Books) -> None:
    job_id = books.finished(Ending.SUCCEEDED)
    forge(books, job_id, "DELETE FROM job WHERE id = :id")
    assert {str(one) for one in found(books)} == {
        "reference: a row of event belongs to no job",
        "reference: a row of attempt belongs to no job",
    }


def test_a_row_that_breaks_a_rule_of_its_table_is_found(books: Books) -> None:
    claimed = books.running()
    forge(books, claimed.id, "UPDATE job SET result = '1' WHERE id = :id")
    assert [str(one) for one in found(books)] == ["file: CHECK constraint failed in job"]


@pytest.mark.parametrize("events_left", [3, 1, 0])
def test_a_job_that_is_being_removed_is_no_contradiction(books: Books, events_left: int) -> None:
    claimed = books.running()
    books.report(books.end_of(claimed, Ending.SUCCEEDED, partial(1), partial(2)))
    forge(books, claimed.id, REMOVAL, f"DELETE FROM event WHERE job_id = :id AND seq <= {5 - events_left}")  # noqa: S608
    assert found(books) == []


@pytest.mark.parametrize(("lost", "left"), [("1, 3", "event 4 follows event 2"), ("1, 5", "its last event")])
def test_what_is_left_of_a_history_must_hang_together(books: Books, lost: str, left: str) -> None:
    claimed = books.running()
    books.report(books.end_of(claimed, Ending.SUCCEEDED, partial(1), partial(2)))
    forge(books, claimed.id, REMOVAL, f"DELETE FROM event WHERE job_id = :id AND seq IN ({lost})")  # noqa: S608
    (one,) = found(books)
    assert (one.kind, one.job_id) == (Kind.GAP, claimed.id)
    assert left in one.detail


def test_a_job_that_is_not_final_must_not_be_removed(books: Books) -> None:
    job_id = books.queued()
    forge(books, job_id, REMOVAL)
    assert [str(one) for one in found(books)] == [
        f"path: job {job_id}: it is queued, and yet it is being removed"
    ]


def test_a_contradiction_says_which_job_and_what(books: Books) -> None:
    job_id = books.queued()
    forge(books, job_id, version(2))
    assert [str(one) for one in found(books)] == [f"gap: job {job_id}: its last event is 1, its version 2"]


@pytest.mark.parametrize("turn", [1, 3, 7, 8])
def test_in_turns_the_same_is_found(books: Books, turn: int) -> None:
    keep(books)
    books.remove(books.finished(Ending.SUCCEEDED))
    books.submit(*[new()] * 2)
    assert list(contradictions_in_turns(books.store, turn)) == []
    forge(books, 0, "UPDATE job SET version = version + 1, partials = partials + 1")
    assert len(found(books)) > 10
    assert list(contradictions_in_turns(books.store, turn)) == found(books)


def test_many_jobs_need_no_more_memory_than_few(books: Books) -> None:
    def peak_bytes() -> int:
        tracemalloc.start()
        assert found(books) == []
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    books.submit(*[new()] * 1_500)
    few = peak_bytes()
    books.submit(*[new()] * 6_000)
    assert peak_bytes() < 1.5 * few

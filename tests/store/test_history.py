"""Reading what a job's events and attempts tell."""

import pytest

from jobrunner.lifecycle import Ending
from jobrunner.reports import EventKind
from tests.store.books import Books, partial, printed, progress


@pytest.fixture
def told(books: Books) -> int:
    """A job with two attempts: events 1 to 10, the second attempt's from 7 on."""
    first = books.running()
    books.report(books.end_of(first, Ending.LOST, partial("a"), printed("1"), progress(1)))
    (second,) = books.claim()
    books.report(books.end_of(second, Ending.SUCCEEDED, partial("b"), printed("2")))
    return first.id


def seqs(books: Books, job_id: int, **more: object) -> list[int]:
    return [one.seq for one in books.events(job_id, **more)]


def test_all_events_are_told_in_order(books: Books, told: int) -> None:
    found = books.events(told)
    assert [one.seq for one in found] == list(range(1, 11))
    kinds = ["state", "state", "partial", "log", "progress", "state", "state", "partial", "log", "state"]
    assert [one.kind for one in found] == kinds
    assert all(isinstance(one.kind, EventKind) for one in found)
    assert [one.attempt for one in found] == [0] + [1] * 5 + [2] * 4


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"seq": 8}, [9, 10]),
        ({"seq": 10}, []),
        ({"seq": 99}, []),
        ({"limit": 3}, [1, 2, 3]),
        ({"seq": 4, "limit": 2}, [5, 6]),
        ({"seq": 2, "kinds": [EventKind.PARTIAL, EventKind.LOG], "most_characters": 5}, [3, 4, 8]),
        ({"most_characters": 1}, [1]),
        ({"kinds": [EventKind.PARTIAL]}, [3, 8]),
        ({"kinds": [EventKind.LOG, EventKind.PROGRESS]}, [4, 5, 9]),
        ({"kinds": [EventKind.PARTIAL], "seq": 3}, [8]),
        ({"kinds": []}, []),
        ({"attempt": 2}, [7, 8, 9, 10]),
        ({"attempt": 1, "kinds": [EventKind.STATE]}, [2, 6]),
        ({"attempt": 3}, []),
    ],
)
def test_a_part_of_the_events_may_be_asked_for(
    books: Books, told: int, asked: dict[str, object], found: list[int]
) -> None:
    assert seqs(books, told, **asked) == found


def test_each_job_has_its_own_history(books: Books, told: int) -> None:
    other = books.queued()
    assert seqs(books, other) == [1]
    assert books.attempts(other) == []
    assert len(books.attempts(told)) == 2


def test_a_job_that_is_not_there_has_no_history(books: Books) -> None:
    assert books.events(7) == []
    assert books.attempts(7) == []


def test_attempts_are_told_first_to_last(books: Books, told: int) -> None:
    first, second = books.attempts(told)
    assert (first.number, first.outcome) == (1, Ending.LOST)
    assert (second.number, second.outcome) == (2, Ending.SUCCEEDED)
    assert isinstance(first.outcome, Ending)

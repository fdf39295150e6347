"""Lists of jobs, against the same question asked of all of them in Python."""

import json
import random
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrunner.lifecycle import Ending, State
from jobrunner.store import jobs, lists
from jobrunner.store.engine import Store
from jobrunner.store.jobs import Job
from jobrunner.store.lists import Filter
from tests.bench.growth.filling import fill
from tests.store.books import START, Books, url_of
from tests.stores import prepared

TASKS = ["t", "a.b", "a.b.c", "%", "T"]
QUEUES = ["default", "slow", "s_ow"]
LABELS = [("who", "ci"), ("who", "me"), ("run", "7"), ("run", "ci"), ("%", "_")]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    """Books with jobs of every kind."""
    books = Books(prepared(tmp_path_factory.mktemp("lists") / "jobs.db"))
    chance = random.Random(20260131)
    for number in range(60):
        books.later(chance.choice([0, 1]))
        more = {
            "task": chance.choice(TASKS),
            "queue": chance.choice(QUEUES),
            "labels": dict(chance.sample(LABELS, chance.randrange(3))),
        }
        if number % 3 == 0:
            books.queued(**more)
            continue
        job_id = books.queued(priority=1, **more)
        (claimed,) = books.claim(tasks=TASKS, limit=1)
        assert claimed.id == job_id
        ending = chance.choice([None, Ending.SUCCEEDED, Ending.EXCEPTION, Ending.CANCELLED])
        if ending is not None:
            books.report(books.end_of(claimed, ending))
    yield books
    books.audit()
    books.store.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with so many jobs that a way is walked in several stretches."""
    directory = tmp_path_factory.mktemp("many")
    fill(directory, 2500, 500)
    store = Store(url_of(directory / "jobrunner.db"))
    yield store
    store.close()


def page(books: Books, wanted: Filter, before_id: int | None = None, limit: int = 1000) -> list[Job]:
    with books.read() as connection:
        return lists.page(connection, wanted, before_id=before_id, limit=limit)


def fits(one: Job, wanted: Filter) -> bool:
    its = json.loads(one.labels)
    return (
        (not wanted.states or one.state in wanted.states)
        and wanted.task in (None, one.task)
        and wanted.queue in (None, one.queue)
        and (wanted.created_after is None or one.created_at > wanted.created_after)
        and all(its.get(key) == value for key, value in wanted.labels)
    )


filters = st.builds(
    Filter,
    states=st.lists(st.sampled_from(State), max_size=3, unique=True).map(tuple),
    task=st.none() | st.sampled_from([*TASKS, "none"]),
    queue=st.none() | st.sampled_from([*QUEUES, "none"]),
    labels=st.lists(st.sampled_from(LABELS), max_size=2).map(tuple),
    created_after=st.none() | st.integers(-1, 40).map(lambda seconds: START + timedelta(seconds=seconds)),
)


def test_the_jobs_that_are_listed_are_of_every_kind(full: Books) -> None:
    found = page(full, Filter())
    assert {one.state for one in found} == set(State)
    assert {one.task for one in found} == set(TASKS)
    assert {one.queue for one in found} == set(QUEUES)
    assert {len(json.loads(one.labels)) for one in found} == {0, 1, 2}


def test_without_a_filter_all_are_listed_newest_first(full: Books) -> None:
    found = page(full, Filter())
    assert [one.id for one in found] == list(range(60, 0, -1))
    assert found == [full.job(one.id) for one in found]


@settings(max_examples=150)
@given(filters)
def test_a_list_shows_those_that_fit_and_no_others(full: Books, wanted: Filter) -> None:
    every = page(full, Filter())
    assert page(full, wanted) == [one for one in every if fits(one, wanted)]


@settings(max_examples=60)
@given(filters, st.integers(1, 20))
def test_pages_one_after_the_other_are_the_whole_list(full: Books, wanted: Filter, limit: int) -> None:
    found: list[Job] = []
    while True:
        next_page = page(full, wanted, before_id=found[-1].id if found else None, limit=limit)
        assert len(next_page) <= limit
        assert {one.id for one in next_page}.isdisjoint(one.id for one in found)
        found += next_page
        if len(next_page) < limit:
            break
    assert found == page(full, wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(states=(State.FAILED,), task="growth.never_fails"),
        Filter(states=(State.FAILED,), task="growth.train", queue="slow"),
        Filter(states=(State.FAILED, State.CANCELLED), task="growth.train", queue="slow"),
        Filter(states=(State.SUCCEEDED,), labels=(("team", "a"), ("batch", "0"))),
        Filter(states=(State.QUEUED,), queue="gpu", labels=(("team", "b"),)),
        Filter(task="growth.index", queue="default"),
    ],
)
def test_however_long_the_ways_are_none_is_missed(many: Store, wanted: Filter) -> None:
    found: list[int] = []
    with many.read() as connection:
        every = lists.page(connection, Filter(), before_id=None, limit=10_000)
        while next_page := lists.page(connection, wanted, before_id=found[-1] if found else None, limit=7):
            found += [one.id for one in next_page]
    assert len(every) > 10 * lists.STRETCH
    assert found == [one.id for one in every if fits(one, wanted)]


def test_jobs_that_come_meanwhile_do_not_shift_the_pages(books: Books) -> None:
    ids = [books.queued() for _ in range(6)]
    first = page(books, Filter(), limit=3)
    books.queued()
    second = page(books, Filter(), before_id=first[-1].id, limit=3)
    assert [one.id for one in first + second] == ids[::-1]


def test_a_label_is_its_key_with_its_value(books: Books) -> None:
    mine, crossed = books.queued(labels={"a": "x", "b": "y"}), books.queued(labels={"a": "y", "b": "x"})
    assert [one.id for one in page(books, Filter(labels=(("a", "x"),)))] == [mine]
    assert [one.id for one in page(books, Filter(labels=(("a", "y"), ("b", "x"))))] == [crossed]
    assert page(books, Filter(labels=(("a", "x"), ("b", "x")))) == []


def test_a_large_result_is_not_in_a_list_but_with_its_job(books: Books) -> None:
    for size in (jobs.LISTED_RESULT_CHARACTERS, jobs.LISTED_RESULT_CHARACTERS + 1):
        claimed = books.running()
        books.report(books.end_of(claimed, Ending.SUCCEEDED, result=f'"{"x" * (size - 2)}"'))
    larger, large = page(books, Filter())
    assert larger.result is None
    assert large.result == books.job(large.id).result
    assert len(books.job(larger.id).result or "") == jobs.LISTED_RESULT_CHARACTERS + 1

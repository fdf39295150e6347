from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from jobrunner.store import tables, throughput
from jobrunner.store.series import Step, finest, series
from jobrunner.store.throughput import Sample
from tests.store.books import START, Books


def add(
    books: Books, seconds: float, *, done: int = 1, queued: int | None = 0, by: int | None = None
) -> None:
    at = START + timedelta(seconds=seconds)
    with books.store.write(durable=False) as connection:
        throughput.add(connection, by or books.dispatcher_id, Sample(at, 1.0, done, 2 * done, 0, 0.5, queued))


def look(books: Books, until: float, step_seconds: int, steps: int) -> list[Step]:
    with books.read() as connection:
        moment = START + timedelta(seconds=until)
        return series(connection, until=moment, step_seconds=step_seconds, steps=steps)


def test_where_nothing_was_sampled_nothing_happened_and_nobody_knows_the_queue(books: Books) -> None:
    assert look(books, 20, 10, 2) == [
        Step(START + timedelta(seconds=10), 0, 0, 0.0, None),
        Step(START + timedelta(seconds=20), 0, 0, 0.0, None),
    ]


def test_a_sample_belongs_to_the_step_that_ends_with_it(books: Books) -> None:
    for second in (10, 10.000001, 20, 20.000001):
        add(books, second)
    assert [one.done for one in look(books, 30, 10, 3)] == [1, 2, 1]


def test_all_dispatchers_count_and_the_last_look_at_the_queue_holds(books: Books) -> None:
    other = books.register()
    add(books, 3, queued=50)
    add(books, 4, queued=40, by=other)
    add(books, 9, queued=7, by=other)
    add(books, 9, queued=6)
    (step,) = look(books, 10, 10, 1)
    assert (step.done, step.failed, step.busy, step.queued) == (4, 8, 0.2, 7)


def test_the_queue_stays_as_it_was_where_nobody_looked(books: Books) -> None:
    add(books, -500, queued=3)
    add(books, 25, queued=8)
    assert [one.queued for one in look(books, 50, 10, 5)] == [3, 3, 8, 8, 8]


def test_the_step_that_is_not_over_is_left_out(books: Books) -> None:
    add(books, 11)
    assert [one.done for one in look(books, 19.999999, 10, 1)] == [0]
    assert [one.done for one in look(books, 20, 10, 1)] == [1]


def test_two_looks_at_the_same_time_agree(books: Books) -> None:
    for second in range(60):
        add(books, second, queued=second)
    early, late = look(books, 43, 10, 4), look(books, 57, 10, 4)
    assert [one for one in late if one in early] == early[1:]


@pytest.mark.parametrize(
    ("window", "seconds"), [(timedelta(hours=1), 1), (timedelta(hours=2), 10), (timedelta(days=2), 60)]
)
def test_no_step_is_finer_than_what_is_kept(window: timedelta, seconds: int) -> None:
    assert finest(window) == timedelta(seconds=seconds)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    taken=st.dictionaries(st.integers(0, 300_000), st.integers(0, 99), max_size=30),
    step_seconds=st.integers(1, 70),
)
def test_no_sample_is_left_out_or_counted_twice(
    books: Books, taken: dict[int, int], step_seconds: int
) -> None:
    with books.store.write(durable=False) as connection:
        connection.execute(delete(tables.throughput))
    for milliseconds, done in taken.items():
        add(books, milliseconds / 1000 + step_seconds, done=done)
    found = look(books, 300 + 2 * step_seconds, step_seconds, 300 // step_seconds + 2)
    assert sum(one.done for one in found) == sum(taken.values())
    assert sum(one.failed for one in found) == 2 * sum(taken.values())
    assert sum(one.busy * step_seconds for one in found) == pytest.approx(0.5 * len(taken))

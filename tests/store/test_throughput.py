from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Row, delete, insert, select

from jobrunner.store import tables, throughput
from jobrunner.store.throughput import Sample
from tests.store.books import START, Books


def add(books: Books, dispatcher_id: int, sample: Sample) -> None:
    with books.store.write(durable=False) as connection:
        throughput.add(connection, dispatcher_id, sample)


def since(books: Books, seconds: float) -> Sample:
    with books.read() as connection:
        return throughput.since(connection, START + timedelta(seconds=seconds))


def sample(seconds: float, done: int) -> Sample:
    at = START + timedelta(seconds=seconds)
    return Sample(at, seconds=1.0, done=done, failed=1, partials=10, busy_seconds=0.5)


def test_without_samples_nothing_happened(books: Books) -> None:
    assert since(books, 0) == Sample(START, 0, 0, 0, 0, 0)


def test_samples_after_a_moment_are_summed(books: Books) -> None:
    for second, done in ((1, 100), (2, 20), (3, 3)):
        add(books, books.dispatcher_id, sample(second, done))
    assert since(books, 0).done == 123
    assert since(books, 1) == Sample(START + timedelta(seconds=1), 2.0, 23, 2, 20, 1.0)
    assert since(books, 2.999999).done == 3
    assert since(books, 3).done == 0


def test_all_dispatchers_count_even_at_one_moment_and_even_if_they_have_ended(books: Books) -> None:
    other = books.register()
    add(books, books.dispatcher_id, sample(1, 100))
    add(books, other, sample(1, 20))
    books.end_dispatcher(other)
    assert since(books, 0).done == 120


# -- what is old ---------------------------------------------------------------------------------

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
STEPS = [step for _, step in throughput.STEPS]


def rows(books: Books) -> list[Row[tuple[object, ...]]]:
    with books.read() as connection:
        return list(connection.execute(select(tables.throughput).order_by(*tables.throughput.primary_key)))


def thin(books: Books, step: timedelta, before: datetime) -> int:
    """Thin all that can be thinned; return in how many pieces."""
    pieces = 0
    while True:
        with books.read() as connection:
            first = throughput.first_unthinned(connection, step, after=LONG_AGO, before=before)
        if first is None:
            return pieces
        with books.store.write(durable=False) as connection:
            throughput.thin(connection, step, first=first, before=before)
        pieces += 1


def test_a_step_becomes_one_sample_of_each_dispatcher_at_its_end(books: Books) -> None:
    other = books.register()
    for second in range(1, 21):
        add(books, books.dispatcher_id, sample(second, 1))
    add(books, other, sample(10, 100))
    add(books, other, sample(9.5, 1000))
    thin(books, timedelta(seconds=10), START + timedelta(seconds=20))
    assert [(row.at - START).total_seconds() for row in rows(books)] == [10, 10, 20]
    assert [row.done for row in rows(books)] == [10, 1100, 10]
    assert [row.seconds for row in rows(books)] == [10.0, 2.0, 10.0]
    assert [row.busy_seconds for row in rows(books)] == [5.0, 1.0, 5.0]


def test_of_a_step_the_last_look_at_the_queue_is_kept(books: Books) -> None:
    for second, queued in ((9, 30), (3, 500), (10, None), (11, 7), (14, 0)):
        add(books, books.dispatcher_id, replace(sample(second, 1), queued=queued))
    thin(books, timedelta(seconds=10), START + timedelta(seconds=20))
    assert [row.queued for row in rows(books)] == [None, 0]


def test_a_step_that_is_not_over_is_left_alone(books: Books) -> None:
    for second in range(1, 21):
        add(books, books.dispatcher_id, sample(second, 1))
    thin(books, timedelta(seconds=10), START + timedelta(seconds=19.999999))
    assert len(rows(books)) == 1 + 10


def test_rates_are_not_touched() -> None:
    assert all(age > timedelta(minutes=15) + step for age, step in throughput.STEPS)


def test_an_hour_of_samples_is_thinned_in_many_short_pieces(books: Books) -> None:
    each = [
        {"dispatcher_id": books.dispatcher_id, "at": START + timedelta(seconds=second)}
        | {"seconds": 1.0, "done": second, "failed": 0, "partials": 0, "busy_seconds": 0.25}
        for second in range(3600)
    ]
    with books.store.write(durable=False) as connection:
        connection.execute(insert(tables.throughput), each)
    before = since(books, -1)
    pieces = thin(books, timedelta(minutes=1), START + timedelta(hours=1))
    assert pieces >= 3600 / throughput.SPAN.total_seconds()
    assert len(rows(books)) == 61
    assert since(books, -1) == before


@pytest.mark.parametrize("step", STEPS)
def test_samples_of_before_1970_or_of_the_far_future_are_no_mishap(books: Books, step: timedelta) -> None:
    moments = [datetime(1969, 12, 31, 23, 59, 57, tzinfo=UTC), datetime(2999, 1, 1, 0, 0, 3, tzinfo=UTC)]
    for moment in moments:
        add(books, books.dispatcher_id, Sample(moment, 1.0, 1, 0, 0, 0.0))
    thin(books, step, START)
    assert [row.at for row in rows(books)] == moments


@st.composite
def samples(draw: st.DrawFn) -> list[tuple[int, Sample]]:
    """Of two dispatchers, within some minutes; sums of 64ths are exact."""
    moments = draw(st.sets(st.tuples(st.integers(0, 500_000), st.integers(0, 1)), max_size=40))
    sixty_fourths = st.integers(0, 640).map(lambda number: number / 64)
    return [
        (which, Sample(START + timedelta(milliseconds=milliseconds), *draw(counted)))
        for milliseconds, which in sorted(moments)
        for counted in [st.tuples(sixty_fourths, *[st.integers(0, 10**6)] * 3, sixty_fourths)]
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(
    taken=samples(),
    seconds=st.floats(0, 600),
    steps=st.sampled_from([STEPS, STEPS[::-1], STEPS[:1], STEPS[1:]]),
)
def test_thinning_changes_no_sum_over_whole_steps_and_nothing_the_second_time(
    books: Books, taken: list[tuple[int, Sample]], seconds: float, steps: list[timedelta]
) -> None:
    with books.store.write(durable=False) as connection:
        connection.execute(delete(tables.throughput))
    dispatcher_ids = books.dispatcher_id, books.register()
    for which, one in taken:
        add(books, dispatcher_ids[which], one)
    whole = [float(moment) for moment in range(-60, 661, 60)]
    before = [since(books, moment) for moment in whole]
    until = START + timedelta(seconds=seconds)
    recent = [row for row in rows(books) if row.at > until]
    for step in steps:
        thin(books, step, until)
    assert [since(books, moment) for moment in whole] == before
    after = rows(books)
    assert [row for row in after if row.at > until] == recent
    over = until - (until - START) % steps[-1]
    assert all((row.at - START) % steps[-1] == timedelta(0) for row in after if row.at <= over)
    for step in steps:
        assert thin(books, step, until) == 0
    assert rows(books) == after


def test_the_oldest_samples_are_dropped_some_at_a_time(books: Books) -> None:
    number = throughput.DROPPED + 10
    for second in range(number):
        add(books, books.dispatcher_id, sample(second, 1))
    before = START + timedelta(seconds=number - 3)
    left = []
    for _ in range(3):
        with books.store.write(durable=False) as connection:
            throughput.drop(connection, before=before)
            oldest = throughput.oldest_at(connection)
        left.append(len(rows(books)))
    assert left == [10, 2, 2]
    assert oldest == START + timedelta(seconds=number - 2)


def test_where_nothing_was_sampled_nothing_is_the_oldest(books: Books) -> None:
    with books.read() as connection:
        assert throughput.oldest_at(connection) is None

from datetime import timedelta

from jobrunner.store import throughput
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

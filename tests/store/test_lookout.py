import contextlib
from collections.abc import Iterator

import pytest

from jobrunner.errors import StoreError
from jobrunner.lifecycle import Ending, State
from jobrunner.store.lookout import Lookout
from tests.store.books import Books


@pytest.fixture
def lookout(books: Books) -> Iterator[Lookout]:
    with contextlib.closing(Lookout(lambda: books.store)) as made:
        yield made


def test_it_is_changed_at_first_and_then_once_after_what_was_committed(
    books: Books, lookout: Lookout
) -> None:
    assert [lookout.is_changed() for _ in range(3)] == [True, False, False]
    books.queued()
    books.queued()
    assert [lookout.is_changed() for _ in range(3)] == [True, False, False]


def test_it_is_changed_after_an_interruption(books: Books, lookout: Lookout) -> None:
    assert lookout.is_changed()
    lookout.close()
    assert [lookout.is_changed() for _ in range(2)] == [True, False]


def test_a_store_that_cannot_be_opened_is_asked_again(books: Books, lookout: Lookout) -> None:
    books.store.close()
    away = books.store.path.rename(books.store.path.with_suffix(".away"))
    with pytest.raises(StoreError):
        lookout.is_changed()
    with pytest.raises(StoreError):
        lookout.standings([1])
    away.rename(books.store.path)
    assert [lookout.is_changed() for _ in range(2)] == [True, False]


def test_standings_are_read_again_when_something_was_committed(books: Books, lookout: Lookout) -> None:
    claimed = books.running()
    lookout.is_changed()
    assert lookout.standings([claimed.id, 999]) == {claimed.id: (2, State.RUNNING), 999: None}
    books.report(books.end_of(claimed, Ending.SUCCEEDED))
    assert lookout.standings([claimed.id]) == {claimed.id: (2, State.RUNNING)}
    assert lookout.is_changed()
    assert lookout.standings([999, claimed.id]) == {999: None, claimed.id: (3, State.SUCCEEDED)}
    books.remove(claimed.id)
    assert lookout.is_changed()
    assert lookout.standings([claimed.id]) == {claimed.id: None}

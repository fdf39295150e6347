import json
from typing import Any

import pytest

from jobrunner.errors import TaskNotFoundError
from jobrunner.store import catalogue
from tests.store.books import Books


def described(name: str, doc: str = "") -> dict[str, Any]:
    return {"name": name, "doc": doc, "params": {"type": "object"}, "options": {"retries": 1}}


def publish(books: Books, dispatcher_id: int, *descriptions: dict[str, Any]) -> None:
    with books.store.write(durable=True) as connection:
        catalogue.publish(connection, dispatcher_id, descriptions, now=books.now)


def names(books: Books) -> list[str]:
    with books.read() as connection:
        found = catalogue.names(connection)
        assert [json.loads(one)["name"] for one in catalogue.descriptions(connection)] == found
    return found


def test_what_is_published_is_found_by_name(books: Books) -> None:
    publish(books, books.dispatcher_id, described("b", "Do b."), described("a"))
    assert names(books) == ["a", "b"]
    with books.read() as connection:
        assert json.loads(catalogue.description(connection, "b")) == described("b", "Do b.")


def test_what_nobody_has_published_is_not_found(books: Books) -> None:
    assert names(books) == []
    with books.read() as connection, pytest.raises(TaskNotFoundError, match="a task named 'a'"):
        catalogue.description(connection, "a")


def test_what_is_published_anew_takes_the_place_of_all_that_was(books: Books) -> None:
    publish(books, books.dispatcher_id, described("a", "old"), described("b"))
    publish(books, books.dispatcher_id, described("a", "new"), described("c"))
    assert names(books) == ["a", "c"]
    with books.read() as connection:
        assert json.loads(catalogue.description(connection, "a"))["doc"] == "new"


def test_publishing_nothing_takes_back_what_was(books: Books) -> None:
    publish(books, books.dispatcher_id, described("a"))
    publish(books, books.dispatcher_id)
    assert names(books) == []


def test_what_a_living_dispatcher_has_published_stays(books: Books) -> None:
    publish(books, books.dispatcher_id, described("a"))
    publish(books, books.register(), described("b"))
    assert names(books) == ["a", "b"]


def test_what_a_dispatcher_that_has_ended_published_goes_with_the_next(books: Books) -> None:
    """Until then its jobs can be submitted: a restart must not turn anybody away."""
    publish(books, books.dispatcher_id, described("a"), described("b"))
    books.end_dispatcher(books.dispatcher_id)
    assert names(books) == ["a", "b"]
    publish(books, books.register(), described("b"), described("c"))
    assert names(books) == ["b", "c"]


def test_of_two_living_dispatchers_with_one_task_the_later_describes_it(books: Books) -> None:
    publish(books, books.dispatcher_id, described("a", "first"), described("b"))
    publish(books, books.register(), described("a", "second"))
    assert names(books) == ["a", "b"]
    with books.read() as connection:
        assert json.loads(catalogue.description(connection, "a"))["doc"] == "second"


def test_a_task_of_two_dispatchers_stays_when_one_of_them_has_gone(books: Books) -> None:
    second = books.register()
    publish(books, books.dispatcher_id, described("a"), described("b"))
    publish(books, second, described("a"))
    books.end_dispatcher(second)
    publish(books, books.register(), described("c"))
    assert names(books) == ["a", "b", "c"]

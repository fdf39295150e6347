"""Submissions that come at the same time: stored together, answered each for itself."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from jobrunner.api import intake
from jobrunner.api.intake import Claim, Intake, Stored
from jobrunner.errors import QueueFullError, StoreUnavailableError, TooManyQueuesError
from jobrunner.lifecycle import State
from jobrunner.store.jobs import NewJob
from jobrunner.store.queues import DEFAULT
from tests.store.books import Books
from tests.stores import prepared
from tests.waiting import eventually

LIMIT = 10


class Door:
    """An intake, and threads that come to it."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.rings: list[int] = []
        self.intake = Intake(lambda: books.store, self._ring, max_queued=LIMIT)
        self._threads = ThreadPoolExecutor(8)

    def _ring(self) -> None:
        """Note how many jobs are there by now, for all who look."""
        self.rings.append(self.books.counts()[State.QUEUED])

    def come(self, *new: NewJob, claim: Claim | None = None) -> "Future[Stored]":
        return self._threads.submit(self.intake.store, new, claim)

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Hold the write lock, with one job's submission waiting for it; the others wait for their turn."""
        other = sqlite3.connect(self.books.store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        tried = threading.Event()
        write = self.books.store.write

        def announced(*, durable: bool) -> AbstractContextManager[Connection]:
            tried.set()
            return write(durable=durable)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.books.store, "write", announced)
            first = self.come(job())
            assert tried.wait(20)
        yield
        other.execute("ROLLBACK")
        other.close()
        first.result(20)

    def crowd(self, *each: tuple[NewJob, ...], claim: Claim | None = None) -> "list[Future[Stored]]":
        """Have all these come while the door is shut; return once it is open again."""
        with self.shut():
            coming = [self.come(*one, claim=claim) for one in each]
            eventually(lambda: self.intake.waiting == len(each))
        return coming

    def close(self) -> None:
        self._threads.shutdown()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    store = prepared(tmp_path / "jobrunner.db")
    made = Door(Books(store))
    yield made
    made.close()
    made.books.audit()
    store.close()


def job(queue: str = DEFAULT, **more: Any) -> NewJob:
    return NewJob("t", "{}", queue=queue, **more)


def test_those_that_come_at_the_same_time_are_stored_in_one_transaction(door: Door) -> None:
    coming = door.crowd((job(),), (job(), job()), (job(labels={"who": "me"}),))
    stored = [one.result(20) for one in coming]
    assert door.rings == [1, 5], "after each of two commits"
    ids = [one.ids for one in stored]
    assert [len(one) for one in ids] == [1, 2, 1]
    assert sorted(number for one in ids for number in one) == [2, 3, 4, 5]
    assert [one.first.id for one in stored] == [one[0] for one in ids]
    assert stored[2].first.labels == '{"who": "me"}'


def test_who_is_refused_keeps_nobody_else_out(door: Door) -> None:
    coming = door.crowd((job(),) * LIMIT, (job(),) * (LIMIT - 2), (job(),), (job(),))
    answers = [one.exception(20) or "stored" for one in coming]
    assert answers.count("stored") == 2
    refused = [one for one in answers if one != "stored"]
    assert {type(one) for one in refused} == {QueueFullError}
    assert door.books.counts()[State.QUEUED] in (LIMIT, 1 + 2)


def test_the_queues_of_all_count_together(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_QUEUES", 2)
    coming = door.crowd((job("a"),), (job("b"),), (job(),))
    errors = [one.exception(20) for one in coming]
    assert sum(isinstance(one, TooManyQueuesError) for one in errors) == 1
    assert errors.count(None) == 2


def test_of_many_with_the_same_key_one_is_stored(door: Door) -> None:
    coming = door.crowd(*[(job(), job())] * 4, claim=Claim(0, "k", "d"))
    stored = [one.result(20) for one in coming]
    assert {tuple(one.ids) for one in stored} == {(2, 3)}
    assert sorted(one.is_replayed for one in stored) == [False, True, True, True]


def test_where_the_store_cannot_be_written_all_are_told_and_nothing_is_stored(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*, durable: bool) -> None:
        raise StoreUnavailableError(f"the disk is full, durable: {durable}")

    with monkeypatch.context() as outage:
        with door.shut():
            coming = [door.come(job()) for _ in range(3)]
            eventually(lambda: door.intake.waiting == 3)
            outage.setattr(door.books.store, "write", refusing)
        assert {str(one.exception(20)) for one in coming} == {"the disk is full, durable: True"}
    assert door.come(job()).result(20).ids == [2]


def test_more_than_a_turn_holds_takes_several(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "TURN_JOBS", 2)
    coming = door.crowd(*[(job(),)] * 5)
    assert sorted(number for one in coming for number in one.result(20).ids) == [2, 3, 4, 5, 6]
    assert len(door.rings) == 1 + 3


def test_a_commit_that_fails_has_stored_nothing(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    write = door.books.store.write

    @contextmanager
    def failing(*, durable: bool) -> Iterator[Connection]:
        with write(durable=durable) as connection:
            yield connection
            raise StoreUnavailableError("the disk is full")

    with monkeypatch.context() as outage:
        outage.setattr(door.books.store, "write", failing)
        with pytest.raises(StoreUnavailableError, match="the disk is full"):
            door.come(job()).result(20)
    assert door.books.counts()[State.QUEUED] == 0
    assert door.come(job()).result(20).ids == [1]


def test_where_nobody_can_be_woken_what_is_stored_is_answered_as_that(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise MemoryError

    monkeypatch.setattr(door.intake, "_ring", broken)
    assert door.come(job()).result(20).ids == [1]
    assert "nobody could be woken" in caplog.text


def test_what_only_one_does_wrong_keeps_nobody_else_out(door: Door) -> None:
    coming = door.crowd((job(),), (job(labels={"who": "\ud800"}),), (job(), job()))
    good, bad, both = coming
    assert isinstance(bad.exception(20), UnicodeEncodeError)
    assert sorted([*good.result(20).ids, *both.result(20).ids]) == [2, 3, 4]


def test_who_stores_for_others_and_is_ended_leaves_nobody_waiting(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = intake._submit

    def ended(connection: Connection, admitted: Sequence[Any]) -> None:
        if len(admitted) > 1:
            raise SystemExit
        submit(connection, admitted)

    with door.shut():
        coming = [door.come(job()) for _ in range(3)]
        eventually(lambda: door.intake.waiting == 3)
        monkeypatch.setattr(intake, "_submit", ended)
    told = [one.exception(20) for one in coming]
    assert {type(one) for one in told} == {SystemExit, RuntimeError}
    assert len(door.come(job()).result(20).ids) == 1

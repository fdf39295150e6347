"""A report that the store refuses fails its job and no other; it does not come back after each restart."""

import json
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from jobrunner.dispatcher.writer import Writer
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import Ended, EventKind, Report, Values
from jobrunner.store import maps, migrations, moves
from jobrunner.store.engine import Store
from jobrunner.store.jobs import NewMap
from jobrunner.store.moves import Claimed
from tests.store.books import Books, partial, url_of
from tests.waiting import eventually


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    store = Store(url_of(tmp_path / "jobs.db"))
    migrations.prepare(store)
    kept = Books(store)
    yield kept
    kept.audit()
    store.close()


@contextmanager
def writing(books: Books, *reports: Report) -> Iterator[None]:
    """Run a result writer that gets these reports at once."""
    queue: multiprocessing.Queue[list[Report]] = multiprocessing.Queue()
    queue.put(list(reports))
    writer = Writer(queue, books.store, books.store.path.parent)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        yield
    finally:
        writer.stop()
        thread.join(30)
        queue.close()


class StrangeKind(StrEnum):
    NONSENSE = "nonsense"


Poison = Callable[[Books, Claimed], Report]


def without_result(books: Books, claimed: Claimed) -> Report:
    return Report(claimed.id, claimed.attempt, books.now, (), Ended(Ending.SUCCEEDED))


def of_a_strange_kind(books: Books, claimed: Claimed) -> Report:
    kind: Any = StrangeKind.NONSENSE
    return Report(claimed.id, claimed.attempt, books.now, ((kind, "1"),))


def with_half_a_character(books: Books, claimed: Claimed) -> Report:
    return books.says(claimed, (EventKind.LOG, "half \ud83d"))


def test_values_that_cannot_be_written_fail_their_map_job(books: Books) -> None:
    job_id = books.queued(map=NewMap("[{}, {}]", 2))
    with books.store.write(durable=False) as connection:
        (claimed,) = moves.claim(
            connection, books.dispatcher_id, tasks="t", limit=0, map_limit=1, now=books.now
        )
        maps.open_chunks(connection, [(job_id, 0, 2)])
    values = (Values(0, 1, "[1]"), Values(1, 1, '["half \ud83d"]'))
    reports = [
        Report(job_id, claimed.attempt, books.now, items=values[:1]),
        Report(job_id, claimed.attempt, books.now, items=values[1:], closed=0),
    ]
    with writing(books, *reports):
        eventually(lambda: books.job(job_id).is_final)
    failed = books.job(job_id)
    assert (failed.state, failed.partials) == (State.FAILED, 1)
    assert "what it reported cannot be written: " in str(failed.error)


@pytest.mark.parametrize(
    ("poison", "why"),
    [
        (without_result, "CHECK constraint failed"),
        (of_a_strange_kind, "CHECK constraint failed"),
        (with_half_a_character, "surrogates not allowed"),
    ],
)
def test_a_report_that_cannot_be_written_fails_its_job_and_no_other(
    books: Books, poison: Poison, why: str
) -> None:
    before, bad, after = books.running(), books.running(), books.running()
    reports = [
        books.end_of(before, Ending.SUCCEEDED, partial(1)),
        books.says(bad, partial(1)),
        poison(books, bad),
        books.end_of(bad, Ending.SUCCEEDED),
        books.end_of(after, Ending.SUCCEEDED, partial(1)),
    ]
    with writing(books, *reports):
        eventually(lambda: books.job(after.id).is_final)
    assert books.job(before.id).state is books.job(after.id).state is State.SUCCEEDED
    failed = books.job(bad.id)
    assert failed.state is State.FAILED
    assert failed.partials == 1  # what came before it is kept, what came after is refused
    error = json.loads(failed.error or "")
    assert error["kind"] == "unserializable"
    assert error["message"].startswith("what it reported cannot be written: ")
    assert why in error["message"]
    assert len(error["message"]) < 1000

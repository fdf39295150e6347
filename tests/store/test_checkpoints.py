import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from jobrunner.lifecycle import State
from jobrunner.store import engine, jobs, lists
from jobrunner.store.engine import Store
from tests.store import processes as work
from tests.store.books import START, Books, new, url_of
from tests.store.processes import Processes

BOUND = engine.CHECKPOINT_BYTES_IDLE
ROWS = 2500


@pytest.fixture
def filled(books: Books) -> Books:
    """Books whose WAL is past the bound."""
    fill(books.store)
    assert books.store.wal_bytes() > BOUND
    return books


def fill(store: Store, count: int = ROWS) -> None:
    params = f'{{"text": "{"x" * 12_000}"}}'
    with store.write(durable=False) as connection:
        jobs.submit(connection, [new(params=params)] * count, now=START)


def jobs_in_the_file_alone(path: Path, aside: Path) -> int:
    """How many jobs the database file holds without its WAL."""
    copy = aside / "copy.db"
    # In another process: to close the file in this one would drop SQLite's locks on it.
    subprocess.run(["cp", str(path), str(copy)], check=True)
    connection = sqlite3.connect(copy)
    (count,) = connection.execute("SELECT count(*) FROM job").fetchone()
    connection.close()
    return int(count)


def test_nobody_checkpoints_on_his_own(filled: Books, path: Path, tmp_path: Path) -> None:
    assert filled.counts()[State.QUEUED] == ROWS
    assert jobs_in_the_file_alone(path, tmp_path) == 0


def test_a_small_wal_is_left_alone(filled: Books, path: Path, tmp_path: Path) -> None:
    assert not filled.store.checkpoint_if_large(filled.store.wal_bytes() + 1)
    assert jobs_in_the_file_alone(path, tmp_path) == 0


def test_a_large_wal_is_copied_into_the_database(filled: Books, path: Path, tmp_path: Path) -> None:
    assert filled.store.checkpoint_if_large(BOUND)
    assert jobs_in_the_file_alone(path, tmp_path) == ROWS


def test_a_wal_that_was_copied_is_begun_anew(filled: Books) -> None:
    before = filled.store.wal_bytes()
    for _ in range(4):
        filled.store.checkpoint_if_large(BOUND)
        fill(filled.store)
    assert filled.store.wal_bytes() < 1.5 * before


def test_a_wal_that_was_copied_is_small_again_at_the_next_write(filled: Books) -> None:
    assert filled.store.checkpoint_if_large(BOUND)
    filled.queued()
    assert filled.store.wal_bytes() < BOUND
    assert not filled.store.checkpoint_if_large(BOUND)


def test_room_in_the_wal_is_made_once_and_stays(books: Books) -> None:
    job_id = books.queued()
    books.store.make_room()
    made = books.store.wal_bytes()
    assert 0.9 * engine.WAL_ROOM_BYTES < made < 1.1 * engine.WAL_ROOM_BYTES
    books.store.make_room()
    for _ in range(3):  # which is written over what was there
        books.queued()
    assert books.store.wal_bytes() == made
    assert books.store.checkpoint_if_large(1)
    assert not books.store.checkpoint_if_large(BOUND), "and is not taken for what is to be copied"
    books.queued()
    assert books.store.wal_bytes() == min(made, engine.WAL_ROOM_BYTES)
    assert books.store.path.stat().st_size < 1 << 20, "nothing of it comes into the database"
    assert books.job(job_id).state is State.QUEUED
    with books.store.write(durable=False) as connection:
        assert connection.exec_driver_sql("PRAGMA cache_size").scalar() == -16384, "as before"


def test_no_room_is_made_where_the_disk_is_nearly_full(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(books.store.path).free
    monkeypatch.setattr(engine, "SPARE_ROOMS", 2 * free // engine.WAL_ROOM_BYTES)
    before = books.store.wal_bytes()
    books.store.make_room()
    assert books.store.wal_bytes() == before


def test_without_a_wal_there_is_nothing_to_copy(path: Path) -> None:
    store = Store(url_of(path))
    assert store.wal_bytes() == 0
    assert not store.checkpoint_if_large(1)


def test_another_connection_holds_the_write_lock_during_a_checkpoint(filled: Books, path: Path) -> None:
    """SQLite 3.7.0-3.51.2 can lose commits where a checkpoint races with them."""
    tried: list[str] = []
    rival = sqlite3.connect(path, timeout=0, isolation_level=None)

    def try_to_write(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "wal_checkpoint" in statement:
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                rival.execute("BEGIN IMMEDIATE")
            tried.append(statement)

    event.listen(filled.store.engine, "before_cursor_execute", try_to_write)
    assert filled.store.checkpoint_if_large(BOUND)
    rival.close()
    assert tried == ["PRAGMA wal_checkpoint(PASSIVE)"]


def test_a_reader_keeps_its_view_across_a_checkpoint(filled: Books) -> None:
    with filled.read() as reader:
        before = jobs.counts(reader)
        fill(filled.store, 5)
        assert filled.store.checkpoint_if_large(BOUND)
        fill(filled.store, 5)
        assert jobs.counts(reader) == before
    assert filled.counts()[State.QUEUED] == ROWS + 10


def test_no_row_is_lost_where_two_processes_write_and_a_third_checkpoints(
    books: Books, processes: Processes, path: Path
) -> None:
    each = 150
    first, second, checkpoints = processes.together(
        (work.submit_singly, url_of(path), each),
        (work.submit_singly, url_of(path), each),
        (work.checkpoint_until, url_of(path), 2 * each),
    )
    assert checkpoints > 10
    with books.read() as connection:
        found = lists.page(connection, lists.Filter(), before_id=None, limit=10 * each)
    assert sorted(one.id for one in found) == sorted(first + second) == list(range(1, 2 * each + 1))

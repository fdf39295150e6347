import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from jobrunner.errors import StoreUnavailableError
from jobrunner.store import engine, jobs, migrations
from jobrunner.store.engine import Store
from tests.store.books import START, Books, new, url_of
from tests.stores import prepared
from tests.waiting import eventually

NOBODY = 65534


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Be a user whom the kernel refuses something; root is refused nothing."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(mine)


@pytest.fixture
def anyones() -> Iterator[Path]:
    """A directory that every user can reach; pytest's own belong to one."""
    with tempfile.TemporaryDirectory() as name:
        found = Path(name)
        found.chmod(0o755)
        yield found
        found.chmod(0o755)


def test_a_lock_that_is_held_for_too_long_is_told(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.2)
    waited: list[float] = []

    def write() -> None:
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="database is locked"):
            books.queued()
        waited.append(time.monotonic() - started)

    with books.store.write(durable=False):
        second = threading.Thread(target=write)
        second.start()
        second.join(20)
    assert len(waited) == 1
    assert waited[0] >= 0.2


def test_after_a_lock_was_held_for_too_long_the_store_works_as_before(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as impatient:
        impatient.setattr(engine, "BUSY_SECONDS", 0.05)
        with books.store.write(durable=False), pytest.raises(StoreUnavailableError):
            books.queued()
    books.queued()
    with books.read() as connection, books.read() as other:
        for one in (connection, other):
            timeout = one.exec_driver_sql("PRAGMA busy_timeout").scalar()
            assert timeout in (50, 5000)  # not the 0 of the wait for the lock
    assert len(books.dump()["job"]) == 1


def test_a_disk_that_is_full_is_told_and_nothing_is_kept(path: Path) -> None:
    store = Store(url_of(path))

    def keep_small(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA max_page_count = 60")

    event.listen(store.engine, "connect", keep_small)

    def write() -> None:
        with store.write(durable=True) as connection:
            jobs.submit(connection, [new(params=f'["{"x" * 100_000}"]')] * 10, now=START)

    with pytest.raises(StoreUnavailableError, match="database or disk is full"):
        write()
    with store.read() as connection:
        assert sum(jobs.counts(connection).values()) == 0
    store.close()


def test_a_directory_that_cannot_be_written_is_told(anyones: Path) -> None:
    anyones.chmod(0o555)
    with without_privileges(), pytest.raises(StoreUnavailableError, match="Permission denied"):
        migrations.prepare(Store(url_of(anyones / "jobs.db")))
    with without_privileges(), pytest.raises(StoreUnavailableError, match="Permission denied"):
        migrations.prepare(Store(url_of(anyones / "below" / "jobs.db")))
    assert list(anyones.iterdir()) == []


def test_a_file_that_cannot_be_written_is_told(anyones: Path) -> None:
    file = anyones / "jobs.db"
    prepared(file).close()
    file.chmod(0o444)
    anyones.chmod(0o555)
    store = Store(url_of(file))
    with (
        without_privileges(),
        pytest.raises(StoreUnavailableError, match=r"readonly|unable to open"),
        store.write(durable=True) as connection,
    ):
        jobs.submit(connection, [new()], now=START)
    store.close()


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    store = Store(url_of(tmp_path / "gone" / "jobs.db"))
    with pytest.raises(StoreUnavailableError, match="unable to open database file"), store.read():
        pass


def test_a_file_in_the_way_of_the_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="ascii")
    with pytest.raises(StoreUnavailableError, match="the store's directory cannot be written"):
        migrations.prepare(Store(url_of(tmp_path / "file" / "jobs.db")))


def test_a_directory_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="unable to open database file"):
        migrations.prepare(Store(url_of(tmp_path)))


def test_a_file_that_is_no_database_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    file.write_bytes(b"Dear diary, " * 1000)
    store = Store(url_of(file))
    with pytest.raises(StoreUnavailableError, match="file is not a database"):
        migrations.prepare(store)
    with pytest.raises(StoreUnavailableError, match="file is not a database"), store.write(durable=True):
        pass
    assert file.read_bytes() == b"Dear diary, " * 1000


def test_a_file_that_is_damaged_is_told(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\x55" * (4096 - 100)
    path.write_bytes(content)
    store = Store(url_of(path))
    with pytest.raises(StoreUnavailableError, match="malformed"), store.read() as connection:
        jobs.counts(connection)
    store.close()


# -- a file that is not the one any more -----------------------------------------------------------


def refuses_to_write(books: Books, why: str) -> None:
    with pytest.raises(StoreUnavailableError, match=why):
        books.queued()


def test_a_file_that_was_moved_away_is_missed_and_not_begun_anew(books: Books) -> None:
    job_id = books.queued()
    path = books.store.path
    aside = path.rename(path.with_name("aside.db"))
    refuses_to_write(books, "is not there: put it back")
    with pytest.raises(StoreUnavailableError, match="is not there: put it back"):
        books.job(job_id)
    assert not path.exists()
    aside.rename(path)
    assert books.queued() == job_id + 1


def test_a_file_that_was_moved_away_is_not_begun_anew_by_who_has_not_read_it_yet(books: Books) -> None:
    late = Store(url_of(books.store.path))
    aside = books.store.path.rename(books.store.path.with_name("aside.db"))
    with pytest.raises(StoreUnavailableError, match="is not there"), late.read():
        pass
    assert not books.store.path.exists()
    aside.rename(books.store.path)


def test_a_file_that_took_the_place_of_the_store_is_not_touched(books: Books, tmp_path: Path) -> None:
    other = prepared(tmp_path / "other.db")
    other.close()
    books.queued()
    path = books.store.path
    aside = path.rename(path.with_name("aside.db"))
    path.write_bytes(other.path.read_bytes())
    refuses_to_write(books, "is another file than the one that was opened")
    assert path.read_bytes() == other.path.read_bytes()
    aside.rename(path)
    books.queued()


def test_a_wal_that_was_removed_is_missed(books: Books) -> None:
    books.queued()
    wal = books.store.path.with_name("jobs.db-wal")
    aside = wal.rename(wal.with_name("aside"))
    refuses_to_write(books, "jobs.db-wal was removed while it was in use")
    wal.touch()
    refuses_to_write(books, "jobs.db-wal was removed while it was in use")
    aside.rename(wal)
    books.queued()


def test_a_store_that_was_closed_may_be_opened_again(books: Books) -> None:
    books.queued()
    books.store.close()
    assert not books.store.path.with_name("jobs.db-wal").exists()
    books.queued()


# -- a reader of an old view ----------------------------------------------------------------------


def test_a_reader_in_the_way_of_the_checkpoint_costs_little_and_not_for_ever(books: Books) -> None:
    def checkpoint() -> bool:
        return books.store.checkpoint_if_large(1)

    with books.read() as connection:
        jobs.counts(connection)
        books.submit(*[new()] * 2000)
        assert checkpoint()
        assert not checkpoint()  # it would do the same work again, while nobody can write
        eventually(checkpoint)  # but now and then it looks
    eventually(checkpoint)
    grown = books.store.wal_bytes()
    books.queued()
    assert books.store.wal_bytes() <= grown  # the reader is gone: the WAL was copied, and begun anew


def test_without_a_reader_in_the_way_nobody_waits_for_a_checkpoint(books: Books) -> None:
    for _ in range(3):
        books.queued()
        assert books.store.checkpoint_if_large(1)


def test_trying_to_write_takes_room_on_the_disk(books: Books) -> None:
    before = books.store.wal_bytes()
    books.store.try_to_write()
    assert books.store.wal_bytes() > before

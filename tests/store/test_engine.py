import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, select
from sqlalchemy.exc import IntegrityError

from jobrunner.errors import StoreError
from jobrunner.store import jobs
from jobrunner.store.engine import Store
from jobrunner.store.tables import job
from tests.store import processes as work
from tests.store.books import START, Books, new, url_of
from tests.store.processes import Processes
from tests.waiting import eventually


def pragma(connection: Connection, name: str) -> Any:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(job)).scalar_one()


def submit(connection: Connection) -> None:
    jobs.submit(connection, [new()], now=START)


# -- how a connection is set up ------------------------------------------------------------------


def test_every_connection_is_set_up(store: Store) -> None:
    with store.read() as first, store.read() as second, store.write(durable=False) as third:
        for connection in (first, second, third):
            assert pragma(connection, "journal_mode") == "wal"
            assert pragma(connection, "foreign_keys") == 1
            assert pragma(connection, "wal_autocheckpoint") == 0
            # Who writes waits otherwise: see `test_a_second_writer_waits_for_the_first`.
            assert pragma(connection, "busy_timeout") == (0 if connection is third else 5000)


def test_a_durable_write_is_synchronous_and_another_is_not_so_strict(store: Store) -> None:
    full, normal = 2, 1
    for durable, synchronous in ((True, full), (False, normal), (True, full), (True, full), (False, normal)):
        with store.write(durable=durable) as connection:
            assert pragma(connection, "synchronous") == synchronous


def test_what_is_written_goes_through_one_connection_until_something_fails(store: Store) -> None:
    def used(*, fails: bool = False) -> Any:
        with store.write(durable=True) as connection:
            driver = connection.connection.dbapi_connection
            submit(connection)
            if fails:
                raise KeyError
        return driver

    first = used()
    assert len(store._writers[True]) == 1
    assert used() is first
    with pytest.raises(KeyError):
        used(fails=True)
    assert not store._writers[True]
    with store.read() as connection:  # through the one that was let go
        assert connection.connection.dbapi_connection is first
        assert pragma(connection, "busy_timeout") == 5000
    used()
    with store.read() as connection:
        assert count(connection) == 3


def test_an_open_store_has_no_connection_until_it_is_used(tmp_path: Path) -> None:
    store = Store(url_of(tmp_path / "new.db"))
    assert list(tmp_path.iterdir()) == []
    assert store.wal_bytes() == 0


def test_a_closed_store_can_be_used_again(books: Books) -> None:
    job_id = books.queued()
    books.store.close()
    assert books.job(job_id).id == job_id


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:secret@host/jobs",
        "mysql://me:secret@host/jobs",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "jobs.db",
    ],
)
def test_what_is_no_sqlite_file_is_refused_and_no_password_shown(url: str) -> None:
    with pytest.raises(StoreError, match="sqlite:////path/to/") as caught:
        Store(url)
    assert "secret" not in str(caught.value)


# -- how a transaction ends ----------------------------------------------------------------------


def test_a_write_is_there_for_others_once_its_block_has_ended(store: Store) -> None:
    with store.write(durable=True) as connection:
        submit(connection)
        with store.read() as other:
            assert count(other) == 0
    with store.read() as other:
        assert count(other) == 1


def test_a_write_that_raises_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.write(durable=True) as connection:
            submit(connection)
            raise LookupError("the caller's own")

    with pytest.raises(LookupError, match="the caller's own"):
        fail()
    with store.read() as connection:
        assert count(connection) == 0


@pytest.mark.parametrize("fails", [False, True])
def test_so_it_is_with_what_is_written_past_sqlalchemy_and_the_next_write_is_another(
    store: Store, *, fails: bool
) -> None:
    with contextlib.suppress(LookupError), store.write(durable=False) as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.execute("PRAGMA user_version = 7")
        if fails:
            raise LookupError
    with store.write(durable=False) as connection:
        assert pragma(connection, "user_version") == (0 if fails else 7)


def test_what_the_tables_refuse_is_not_taken_for_a_store_that_cannot_be_used(store: Store) -> None:
    def break_a_rule() -> None:
        with store.write(durable=True) as connection:
            submit(connection)
            connection.exec_driver_sql("UPDATE job SET state = 'asleep'")

    with pytest.raises(IntegrityError, match="ck_job_state"):
        break_a_rule()
    with store.read() as connection:
        assert count(connection) == 0


@pytest.mark.parametrize("past_sqlalchemy", [False, True])
def test_a_commit_that_fails_leaves_nothing_to_whoever_reads_through_the_connection_next(
    store: Store, *, past_sqlalchemy: bool
) -> None:
    with store.write(durable=False) as connection:
        connection.exec_driver_sql(
            "CREATE TABLE late (job REFERENCES job (id) DEFERRABLE INITIALLY DEFERRED)"
        )

    def commit_what_is_refused() -> Any:
        with store.write(durable=True) as connection:
            driver: Any = connection.connection.dbapi_connection
            execute = driver.execute if past_sqlalchemy else connection.exec_driver_sql
            found.append(driver)
            execute("INSERT INTO late VALUES (7)")

    found: list[Any] = []
    with pytest.raises((IntegrityError, sqlite3.IntegrityError)):
        commit_what_is_refused()
    assert not found[0].in_transaction
    with store.read() as connection:
        assert connection.connection.dbapi_connection is found[0]
        assert connection.exec_driver_sql("SELECT count(*) FROM late").scalar() == 0


def test_a_reader_has_one_view_from_its_first_look_to_its_last(store: Store) -> None:
    with store.read() as reader:
        assert count(reader) == 0
        with store.write(durable=False) as writer:
            submit(writer)
        assert count(reader) == 0
    with store.read() as reader:
        assert count(reader) == 1


def test_a_reader_does_not_wait_for_a_writer(store: Store) -> None:
    with store.write(durable=False) as writer:
        submit(writer)
        with store.read() as reader:
            assert count(reader) == 0


# -- how writers take turns ----------------------------------------------------------------------


@pytest.fixture
def begun(store: Store) -> Iterator[list[str]]:
    """The transactions that the store's connections have begun, as SQLite was told."""
    found: list[str] = []

    def listen(connection: Any, _: Any) -> None:
        connection.set_trace_callback(lambda sql: found.append(sql) if sql.startswith("BEGIN") else None)

    event.listen(store.engine, "connect", listen)
    return found  # type: ignore[return-value]


def test_a_second_writer_waits_for_the_first(store: Store, begun: list[str]) -> None:
    order: list[str] = []

    def write() -> None:
        with store.write(durable=True) as connection:
            order.append("second in")
            submit(connection)

    second = threading.Thread(target=write)
    with store.write(durable=True) as connection:
        submit(connection)
        second.start()
        eventually(lambda: len(begun) > 20)  # it has been turned away again and again
        order.append("first out")
    second.join(10)
    assert order == ["first out", "second in"]
    with store.read() as connection:
        assert count(connection) == 2


def test_a_writer_holds_the_lock_before_it_reads(store: Store, begun: list[str]) -> None:
    with store.write(durable=False) as connection:
        assert count(connection) == 0
    with store.read() as connection:
        assert count(connection) == 0
    assert begun == ["BEGIN IMMEDIATE", "BEGIN"]


def test_a_store_that_another_process_is_just_creating_is_waited_for(tmp_path: Path) -> None:
    """SQLite does not wait by itself where a file is to become one with a WAL."""
    path = tmp_path / "new.db"
    store = Store(url_of(path))
    asked: list[str] = []
    event.listen(store.engine, "connect", lambda one, _: one.set_trace_callback(asked.append), insert=True)
    rival = sqlite3.connect(path, isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    modes: list[str] = []

    def read() -> None:
        with store.read() as connection:
            modes.append(pragma(connection, "journal_mode"))

    second = threading.Thread(target=read)
    second.start()
    eventually(lambda: len(asked) > 3 or not second.is_alive())
    rival.execute("COMMIT")
    rival.close()
    second.join(10)
    store.close()
    assert modes == ["wal"]


def test_three_processes_that_read_and_then_write_never_get_in_each_others_way(
    books: Books, processes: Processes, path: Path
) -> None:
    ids = processes.together(*[(work.submit_singly, url_of(path), 60)] * 3)
    assert sorted(id_ for each in ids for id_ in each) == list(range(1, 181))
    assert all(each == sorted(each) for each in ids)

"""The engine: how a connection is set up, how a transaction begins, when the WAL is checkpointed.

Every write transaction is BEGIN IMMEDIATE: a plain BEGIN that reads and then writes fails at once
with "database is locked", whatever `busy_timeout` says.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from jobrunner.errors import StoreError, StoreUnavailableError

BUSY_SECONDS: Final = 5.0  #: how long a writer waits for another one
BUSY_PAUSE_SECONDS: Final = 0.0003  #: between two attempts to get the write lock
CHECKPOINT_BYTES: Final = (
    64 << 20
)  #: a daemon checkpoints a WAL of this size, although it stops all writers for a while
CHECKPOINT_BYTES_IDLE: Final = 8 << 20  #: or of this, when nothing runs
CHECKPOINT_BYTES_WITHOUT_DAEMON: Final = 128 << 20  #: the API does so when nobody else has


class Store:
    """An open store.  It opens connections when they are needed, so none crosses a fork."""

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError:
            raise StoreError("database_url is no URL: write sqlite:////path/to/jobrunner.db") from None
        if self.url.get_backend_name() != "sqlite" or self.url.database in (None, "", ":memory:"):
            raise StoreError(
                f"{self.url!r}: this version keeps jobs in an SQLite file: sqlite:////path/to/jobrunner.db"
            )
        self.path = Path(str(self.url.database))
        self._engine = _engine(self.url.render_as_string(hide_password=False))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open one consistent view of the store."""
        with _translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, durable: bool) -> Iterator[Connection]:
        """Open a write transaction; it commits when the block ends, and rolls back if it raises.

        Args:
            durable: it is on disk before this returns, even if the power fails (0.3-0.6 ms dearer).  Without,
                it survives every crash of a process, and a power cut once a later durable write has committed.

        Raises:
            StoreUnavailableError: the disk is full, read-only or gone, or another writer held on for too long.
        """
        mode = {"begin": "IMMEDIATE", "synchronous": "FULL" if durable else "NORMAL"}
        with (
            _translated(),
            self._engine.connect().execution_options(**mode) as connection,
            connection.begin(),
        ):
            yield connection

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        try:  # by its name alone: to open it and close it again would drop SQLite's locks on it
            return Path(f"{self.path}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def checkpoint_if_large(self, bound: int = CHECKPOINT_BYTES) -> bool:
        """Copy the WAL into the database if it has grown past `bound` bytes; return whether it did.

        SQLite 3.7.0-3.51.2 can lose commits when a checkpoint races with commits of other connections.
        So nobody checkpoints on his own (`wal_autocheckpoint=0`), and here another connection holds the write
        lock meanwhile.
        """
        if self.wal_bytes() < bound:
            return False
        with self.write(durable=False), _translated(), self._engine.connect() as other:
            other.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
        return True

    def close(self) -> None:
        """Close all idle connections."""
        self._engine.dispose()

    @property
    def engine(self) -> Engine:
        """For the migrations alone."""
        return self._engine


def _engine(url: str) -> Engine:
    # Threads bound the connections, not the pool: who waits for a connection would wait without a clear error.
    connect = {"timeout": BUSY_SECONDS, "isolation_level": None}
    engine = create_engine(url, connect_args=connect, max_overflow=-1)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _: ConnectionPoolEntry) -> None:
    _when_free(connection, "PRAGMA journal_mode=WAL")  # another process may be creating the file just now
    cursor = connection.cursor()
    cursor.execute("PRAGMA wal_autocheckpoint=0")
    cursor.execute("PRAGMA journal_size_limit=4194304")  # bytes that a WAL keeps after it was checkpointed
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA cache_size=-16384")  # KiB
    cursor.close()


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    sqlite: Any = connection.connection.dbapi_connection
    if "synchronous" in options:
        # It belongs to the connection, and cannot change inside a transaction.
        sqlite.execute(f"PRAGMA synchronous={options['synchronous']}")
        _begin_immediate(sqlite)
    else:
        sqlite.execute("BEGIN")


def _begin_immediate(sqlite: sqlite3.Connection) -> None:
    """Wait for the write lock with short pauses.

    SQLite's own wait sleeps 1, 2, 5, 10 ... 100 ms while a busy writer takes the lock again and again: claims
    were seen to wait 230 ms beside a result writer that held it for 3 ms at a time.
    """
    sqlite.execute("PRAGMA busy_timeout=0")
    try:
        _when_free(sqlite, "BEGIN IMMEDIATE")
    finally:
        sqlite.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")


def _when_free(sqlite: sqlite3.Connection, statement: str) -> None:
    """Execute a statement for which SQLite does not wait as it should."""
    give_up_at = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            sqlite.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(BUSY_PAUSE_SECONDS)
        else:
            return


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DatabaseError, sqlite3.OperationalError) as error:
        cause = error.orig if isinstance(error, DatabaseError) else error
        # Exactly these two: a damaged file is a plain DatabaseError, whose other kinds are faults of ours.
        if type(cause) not in (sqlite3.OperationalError, sqlite3.DatabaseError):
            raise
        raise StoreUnavailableError(f"the store cannot be used at the moment: {cause}") from error

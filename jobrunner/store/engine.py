"""The engine: how a connection is set up, how a transaction begins, when the WAL is checkpointed.

Every write transaction is BEGIN IMMEDIATE: a plain BEGIN that reads and then writes fails at once
with "database is locked", whatever `busy_timeout` says.
"""

import os
import shutil
import sqlite3
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from jobrunner.errors import StoreError, StoreUnavailableError

BUSY_SECONDS: Final = 5.0  #: how long a writer waits for another one
BUSY_PAUSE_SECONDS: Final = 0.0003  #: between two attempts to get the write lock
CHECKPOINT_BYTES: Final = (
    64 << 20
)  #: a daemon checkpoints a WAL of this size, although it stops all writers for a while
CHECKPOINT_BYTES_IDLE: Final = 24 << 20  #: or of this, when nothing runs; it keeps less than that
CHECKPOINT_BYTES_WITHOUT_DAEMON: Final = 128 << 20  #: the API does so when nobody else has
WAL_ROOM_BYTES: Final = (
    16 << 20
)  #: that a WAL keeps: to write over what is there takes half as long as to append
SPARE_ROOMS: Final = (
    16  #: as many times its room must be free on the disk, else a WAL gets none before it needs it
)
IDLE_CONNECTIONS: Final = 16  #: kept for single queries: to open one costs more than a query
CHECKPOINT_SHARE: Final = 0.05  #: of the time, where a reader of an old view is in the way

_CACHE: Final = "PRAGMA cache_size=-16384"  # KiB
_IN_WORDS: Final = {"SQLITE_IOERR_SHMSIZE": "there is no room for the -shm file"}
_START_ANEW: Final = (
    "stop all of jobrunner, remove what is left of its -wal and -shm files, and start it again"
)


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
        self._wal = Path(f"{self.path}-wal")
        self._file = _identity(self.path)  # None: there is none yet
        self._wal_file: tuple[int, int] | None = None
        self._checkpoint_again_at = 0.0
        self._idle: deque[PoolProxiedConnection] = deque()  # for `ask`
        self._writers: dict[bool, deque[Connection]] = {
            True: deque(),
            False: deque(),
        }  # durable ones, and others
        self._engine = _engine(self.url.render_as_string(hide_password=False))
        event.listen(self._engine, "do_connect", lambda *_: self._require_same_file())

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open one consistent view of the store.

        Raises:
            StoreUnavailableError: the file cannot be read, or is not the one that was opened.
        """
        self._require_same_file()
        with translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    def ask(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Answer one query, which is a consistent view by itself, without a transaction around it.

        Raises:
            StoreUnavailableError: as `read` does.
        """
        self._require_same_file()
        lent = self._lent()
        connection: Any = lent.dbapi_connection
        try:
            found: list[tuple[Any, ...]] = connection.execute(sql, values).fetchall()
        except BaseException:
            lent.invalidate()
            with translated():
                raise
        if len(self._idle) < IDLE_CONNECTIONS:
            self._idle.append(lent)
        else:  # after a crowd
            lent.invalidate()
        return found

    def _lent(self) -> PoolProxiedConnection:
        try:
            return self._idle.pop()
        except IndexError:
            with translated():
                lent = self._engine.raw_connection()
                lent.cursor().execute(
                    "PRAGMA cache_size=-2048"
                )  # KiB: there may be many, and each reads little
                return lent

    @contextmanager
    def write(self, *, durable: bool) -> Iterator[Connection]:
        """Open a write transaction; it commits when the block ends, and rolls back if it raises.

        Args:
            durable: it is on disk before this returns, even if the power fails (0.3-0.6 ms dearer).  Without,
                it survives every crash of a process, and a power cut once a later durable write has committed.

        Raises:
            StoreUnavailableError: the disk is full, read-only or gone, or another writer held on for too long.
        """
        with translated():
            connection = self._writer(durable=durable)
            sqlite: Any = connection.connection.dbapi_connection
            try:
                _when_free(sqlite, "BEGIN IMMEDIATE")
                self._require_same_file()
                self._require_same_wal()
                yield connection
                connection.commit()  # if SQLAlchemy was asked for anything
                sqlite.commit()  # if not
            except BaseException:
                _let_go(connection)
                raise
            if self._writers[durable]:
                _let_go(connection)
            else:
                self._writers[durable].append(connection)

    def _writer(self, *, durable: bool) -> Connection:
        """Return a connection to write through.  One of each kind is kept: to set it up takes as long as to write."""
        try:
            return self._writers[durable].pop()
        except IndexError:
            connection = self._engine.connect()
            try:
                sqlite: Any = connection.connection.dbapi_connection
                sqlite.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                sqlite.execute("PRAGMA busy_timeout=0")  # `_when_free` waits
            except BaseException:
                connection.close()
                raise
            return connection

    def try_to_write(self) -> None:
        """Commit something that changes nothing, and takes room on the disk as any write does.

        Raises:
            StoreUnavailableError: as `write` does.
        """
        with self.write(durable=False) as connection:
            # An UPDATE to the same value would write nothing.
            connection.exec_driver_sql("PRAGMA user_version = 0")

    def copy_to(self, target: Path) -> None:
        """Copy the store as it is at one moment to `target`, an empty file, while others go on writing.

        Raises:
            StoreUnavailableError: the store cannot be read, or the copy not be written.
        """
        self._require_same_file()
        with translated("the store cannot be copied"), closing(self._engine.raw_connection()) as connection:
            connection.cursor().execute("VACUUM INTO ?", [str(target)])  # not within a transaction

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        try:  # by its name alone: to open it and close it again would drop SQLite's locks on it
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    def make_room(self) -> None:
        """Have the WAL be as large as it stays, for who appends to a file waits for the file system's own journal, too.

        It may hold the write lock for some 50 ms.  What is written is rolled back, and written over by what comes next.

        Raises:
            StoreUnavailableError: as `write` does.
        """
        if (missing_bytes := WAL_ROOM_BYTES - self.wal_bytes()) < WAL_ROOM_BYTES // 8:
            return
        try:
            free_bytes = shutil.disk_usage(self.path.parent).free
        except OSError as error:
            raise StoreUnavailableError(f"the disk does not say how much room it has: {error}") from error
        if free_bytes < WAL_ROOM_BYTES * SPARE_ROOMS:
            return
        with self.write(durable=False) as connection:
            sqlite: Any = connection.connection.dbapi_connection
            sqlite.execute("PRAGMA cache_size=100")  # what has no place there goes into the WAL at once
            try:
                sqlite.execute("CREATE TABLE room (bytes)")
                sqlite.execute("INSERT INTO room VALUES (zeroblob(?))", (missing_bytes,))
            finally:
                sqlite.rollback()
                sqlite.execute(_CACHE)

    def checkpoint_if_large(self, bound: int = CHECKPOINT_BYTES) -> bool:
        """Copy the WAL into the database if it has grown past `bound` bytes; return whether it did.

        SQLite 3.7.0-3.51.2 can lose commits when a checkpoint races with commits of other connections.
        So nobody checkpoints on his own (`wal_autocheckpoint=0`), and here another connection holds the write
        lock meanwhile.

        What was written after the view that the oldest reader has cannot be copied until it ends.  Each attempt
        costs the more the longer the WAL is, so such attempts are made in CHECKPOINT_SHARE of the time at most.
        """
        if self.wal_bytes() < bound or time.monotonic() < self._checkpoint_again_at:
            return False
        with self.write(durable=False), translated(), self._engine.connect() as other:
            began_at = time.monotonic()
            _, pages, copied = other.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").one()
            ended_at = time.monotonic()
        if copied < pages:
            self._checkpoint_again_at = ended_at + (ended_at - began_at) / CHECKPOINT_SHARE
        return True

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()
        for kept in self._writers.values():
            while kept:
                kept.pop().close()
        self._engine.dispose()
        self._wal_file = None  # whoever is the last to close a store removes its WAL

    @property
    def engine(self) -> Engine:
        """For the migrations and the lookout."""
        return self._engine

    def _require_same_file(self) -> None:
        """Refuse to go on in a file that has no name any more: what is written there is lost with the last process.

        Nor is a file used that has come into its place: SQLite would mix it with the WAL of the old one.
        """
        present = _identity(self.path)
        if self._file is None:
            self._file = present
        if present != self._file:
            what = "is not there" if present is None else "is another file than the one that was opened"
            raise StoreUnavailableError(f"{self.path} {what}: put it back, or {_START_ANEW}")

    def _require_same_wal(self) -> None:
        """Refuse likewise to write to a WAL that was removed.  There is one from the first transaction on."""
        present = _identity(self._wal)
        if self._wal_file is None:
            self._wal_file = present
        if present != self._wal_file:
            raise StoreUnavailableError(f"{self._wal} was removed while it was in use: {_START_ANEW}")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from all others; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - not by Path, which takes longer; not opened, see `wal_bytes`
    except OSError:
        return None
    return found.st_dev, found.st_ino


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
    cursor.execute(f"PRAGMA journal_size_limit={WAL_ROOM_BYTES}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(_CACHE)
    cursor.execute("PRAGMA secure_delete=OFF")  # on in Debian: to delete 16 MB would write 16 MB
    cursor.close()


def _let_go(writer: Connection) -> None:
    """Put a writer's connection back, and be it to read through; what was not committed is rolled back."""
    sqlite: Any = writer.connection.dbapi_connection
    sqlite.rollback()  # SQLAlchemy would not, after a commit that failed
    sqlite.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")
    writer.close()


def _begin(connection: Connection) -> None:
    sqlite: Any = connection.connection.dbapi_connection
    if sqlite.in_transaction:  # begun by `write`
        return
    synchronous = connection.get_execution_options().get("synchronous")
    if synchronous is None:
        sqlite.execute("BEGIN")
    else:  # Alembic, which writes without `write`
        sqlite.execute(f"PRAGMA synchronous={synchronous}")
        _when_free(sqlite, "BEGIN IMMEDIATE")


def _when_free(sqlite: sqlite3.Connection, statement: str) -> None:
    """Execute a statement for which SQLite does not wait as it should; wait with short pauses.

    For the write lock it sleeps 1, 2, 5, 10 ... 100 ms while a busy writer takes it again and again: claims were seen
    to wait 230 ms beside a result writer that held it for 3 ms at a time.
    """
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
def translated(what: str = "the store cannot be used at the moment") -> Iterator[None]:
    """Raise StoreUnavailableError in the place of what SQLite and SQLAlchemy raise where the store cannot be used."""
    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError) as error:
        cause = error.orig if isinstance(error, DatabaseError) else error
        # Exactly these two: a damaged file is a plain DatabaseError, whose other kinds are faults of ours.
        if type(cause) not in (sqlite3.OperationalError, sqlite3.DatabaseError):
            raise
        name = getattr(cause, "sqlite_errorname", "")
        which = (
            f" ({_IN_WORDS.get(name, name)})" if "IOERR" in name else ""
        )  # "disk I/O error" says too little
        raise StoreUnavailableError(f"{what}: {cause}{which}") from error

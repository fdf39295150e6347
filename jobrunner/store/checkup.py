"""What `jobrunner doctor` asks of the store.  Nothing here changes it."""

import sqlite3
import time
from collections import Counter
from collections.abc import Collection
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError

from jobrunner.errors import StoreUnavailableError
from jobrunner.store.tables import job, task

_STEPS: Final = 10_000  # of SQLite's machine between two looks at the clock: about a millisecond


def journal_mode(path: Path) -> str:
    """Return how the file is kept, without opening it as a store: that would make it one.

    Raises:
        StoreUnavailableError: it cannot be read, or is no SQLite file.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    except sqlite3.DatabaseError as error:
        raise StoreUnavailableError(f"{path} cannot be read: {error}") from error


def pragma(connection: Connection, name: str) -> Any:
    """Return what a pragma of this connection is set to."""
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def damage(connection: Connection, *, seconds: float) -> str | None:
    """Return the first damage that a quick check of the file finds, empty if there is none.

    None if it was not through after `seconds`.
    """
    sqlite: Any = connection.connection.dbapi_connection
    end = time.monotonic() + seconds
    sqlite.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        said = str(pragma(connection, "quick_check(1)"))
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
            raise
        return None
    finally:
        sqlite.set_progress_handler(None, 0)
    return "" if said == "ok" else said


def queued(connection: Connection) -> Counter[str]:
    """Return how many jobs of each task are queued."""
    is_ready, is_map = job.c.ready_rank.is_not(None), job.c.item_count.is_not(None)
    found: Counter[str] = Counter()
    for waiting in (
        is_ready & ~is_map,
        is_ready & is_map,
        job.c.due_at.is_not(None),
    ):  # each has its own index
        # Counted here: to GROUP BY task, SQLite goes through the index of all tasks.
        found.update(connection.execute(select(job.c.task).where(waiting)).scalars())
    return found


def published(connection: Connection, dispatcher_ids: Collection[int]) -> set[str]:
    """Return the tasks that these dispatchers serve."""
    query = select(task.c.name).where(task.c.dispatcher_id.in_(dispatcher_ids))
    return set(connection.execute(query).scalars())


def latest_submission(connection: Connection) -> datetime | None:
    """Return the latest moment at which a job was submitted; None if there is none."""
    return connection.execute(select(func.max(job.c.created_at))).scalar()

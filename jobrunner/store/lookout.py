"""A lookout over a store: whether anything was committed, and how far jobs have got."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy.pool import PoolProxiedConnection

from jobrunner.lifecycle import State
from jobrunner.store import jobs
from jobrunner.store.engine import Store, translated


class Standing(NamedTuple):
    """How far a job has got."""

    version: int
    state: State


class Lookout:
    """Looks again and again, through a connection of its own; for one thread alone."""

    def __init__(self, store: Callable[[], Store]) -> None:
        """Open nothing yet."""
        self._store = store
        self._connection: PoolProxiedConnection | None = None
        self._seen = 0
        self._standings: dict[int, Standing | None] = {}  # since `is_changed` was last true

    def is_changed(self) -> bool:
        """Whether anybody has committed since this was asked before, or may have; to ask costs microseconds.

        Raises:
            StoreError: the store cannot be read; the next answer is yes.
        """
        is_changed = self._connection is None
        try:
            with translated():
                seen = self._data_version()
        except BaseException:
            self.close()
            raise
        if seen != self._seen:
            is_changed = True
        if is_changed:
            self._seen = seen
            self._standings.clear()
        return is_changed

    def _data_version(self) -> int:
        """Return a number that is another one after each commit of others; it means nothing to another connection."""
        if self._connection is None:
            self._connection = self._store().engine.raw_connection()
            self._connection.detach()  # from the pool, so that `close` closes it
        driver: Any = self._connection.dbapi_connection
        (found,) = driver.execute("PRAGMA data_version").fetchone()
        return int(found)

    def standings(self, ids: Iterable[int]) -> Mapping[int, Standing | None]:
        """Return how these jobs stand, None for one that is not there; read those that may have changed.

        Raises:
            StoreError: the store cannot be read.
        """
        wanted = list(ids)
        if unread := [job_id for job_id in wanted if job_id not in self._standings]:
            found = jobs.versions(self._store(), unread)
            self._standings |= {
                job_id: Standing(*found[job_id]) if job_id in found else None for job_id in unread
            }
        return {job_id: self._standings[job_id] for job_id in wanted}

    def close(self) -> None:
        """Close the connection; the next question opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

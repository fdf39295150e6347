"""What all checks are told.  The store is read once, and never created."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from jobrunner import kernel
from jobrunner.clock import utc_now
from jobrunner.dispatcher.loop import this_process
from jobrunner.doctor.units import Unit
from jobrunner.errors import SettingError, StoreError
from jobrunner.settings import Settings
from jobrunner.store import checkup, dispatchers, migrations
from jobrunner.store.dispatchers import Dispatcher
from jobrunner.store.engine import Store


@dataclass(frozen=True)
class Situation:
    """One look at the machine and at its store.

    Attributes:
        has_store: whether there is a file that this user may see.
        fault: why the store cannot be read as it is, with the remedy; empty if it can.
        unit: the dispatcher's unit.
        unit_serves: whether it works on this store.
        boot_seconds: since the machine was booted, at `now`.
        dispatchers: that have not ended; none if the store cannot be read.
        here: of these, those whose process runs on this machine.
        gone: of these, the ids of those whose process certainly has ended.
        latest_submission: when the last job came; None if there is none.
    """

    settings: Settings
    store: Store
    has_store: bool
    fault: str
    unit: Unit
    unit_serves: bool
    now: datetime
    boot_seconds: float
    dispatchers: Sequence[Dispatcher]
    here: Sequence[Dispatcher]
    gone: frozenset[int]
    latest_submission: datetime | None

    @property
    def is_readable(self) -> bool:
        """Whether the store can be asked about its jobs."""
        return self.has_store and not self.fault

    @property
    def home(self) -> Path:
        """The store's directory, every link followed, whether it is there or not."""
        return self.store.path.resolve().parent

    @property
    def directory(self) -> Path:
        """The store's directory; if there is none yet, the one that it will be made in."""
        path = self.home
        # Not `Path.exists`: it raises where this user may not look.
        return next(one for one in (path, *path.parents) if os.access(one, os.F_OK))

    @property
    def living(self) -> list[Dispatcher]:
        """The dispatchers that have given a sign of life within their lease."""
        lease = timedelta(seconds=self.settings.lease_seconds)
        return [
            one
            for one in self.dispatchers
            if one.id not in self.gone and self.now - one.heartbeat_at <= lease
        ]


def look_around(settings: Settings, unit: Unit) -> Situation:
    """Return the situation.

    Args:
        settings: whose store is meant.
        unit: the dispatcher's.

    Raises:
        StoreError: `database_url` names no store that this version can use.
    """
    store = Store(settings.url)
    has_store = os.access(store.path, os.F_OK)
    fault = _fault(store) if has_store else ""
    found: list[Dispatcher] = []
    gone: list[int] = []
    latest: datetime | None = None
    process = this_process()
    if has_store and not fault:
        with store.read() as connection:
            found = dispatchers.alive(connection)
            gone = dispatchers.gone(connection, process, kernel.started_ticks)
            latest = checkup.latest_submission(connection)
    return Situation(
        settings=settings,
        store=store,
        has_store=has_store,
        fault=fault,
        unit=unit,
        unit_serves=_serves(unit, store),
        now=utc_now(),
        boot_seconds=time.clock_gettime(time.CLOCK_BOOTTIME),
        dispatchers=found,
        here=[one for one in found if _runs_here(one, process.host)],
        gone=frozenset(gone),
        latest_submission=latest,
    )


def _fault(store: Store) -> str:
    """Return why the store cannot be read, in one line; empty if it can."""
    try:
        if (mode := checkup.journal_mode(store.path)) != "wal":
            return f"{store.path} is kept in mode {mode}: no dispatcher has opened it yet; start one"
        migrations.check(store)
    except StoreError as error:
        return " ".join(str(error).split())
    return ""


def _runs_here(one: Dispatcher, host: str) -> bool:
    # Not by its place: the systemd of a container shows a boot id of its own to some processes.
    return one.host == host and kernel.started_ticks(one.pid) == one.started_ticks


def _serves(unit: Unit, store: Store) -> bool:
    try:
        return unit.serves(store.path)
    except SettingError:  # the check of the unit tells it
        return False

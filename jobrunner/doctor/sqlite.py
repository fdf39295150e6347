"""The SQLite that is used, and what state the store's file is in."""

import os
import sqlite3
from typing import Final

from jobrunner import sizes
from jobrunner.doctor.findings import Told, ok, serious, warning
from jobrunner.doctor.situation import Situation
from jobrunner.store import checkup
from jobrunner.store.engine import CHECKPOINT_BYTES_WITHOUT_DAEMON

QUICK_SECONDS: Final = 2.0  #: for a look at the file; a store of some hundred megabytes is through by then
_Version = tuple[int, ...]
_BUG_CAME: Final = (3, 7, 0)
_BUG_WENT: Final = (3, 51, 3)
_BACKPORTS: Final = ((3, 44, 6), (3, 50, 7))  # and all later ones of the same branch


def has_wal_reset_bug(version: _Version) -> bool:
    """Whether commits can be lost when a checkpoint of this SQLite races with them (sqlite.org/wal.html)."""
    if not _BUG_CAME <= version < _BUG_WENT:
        return False
    return not any(version[:2] == fixed[:2] and version >= fixed for fixed in _BACKPORTS)


def library(situation: Situation) -> Told:
    """Whether a checkpoint can lose commits."""
    pragmas: dict[str, object] | None = None
    if situation.is_readable:
        with situation.store.read() as connection:
            names = ("wal_autocheckpoint", "journal_mode")
            pragmas = {name: checkup.pragma(connection, name) for name in names}
    yield from judged(sqlite3.sqlite_version_info, pragmas)


def judged(version: _Version, pragmas: dict[str, object] | None) -> Told:
    """Judge a version, and what a connection of the store is set to; None if there is no store."""
    named = ".".join(map(str, version))
    if not has_wal_reset_bug(version):
        yield ok(f"{named} is free of the WAL-reset bug")
    elif pragmas is None:
        yield ok(
            f"{named} has the WAL-reset bug; once there is a store, its connections keep the checkpoint rule"
        )
    elif pragmas == {"wal_autocheckpoint": 0, "journal_mode": "wal"}:
        yield ok(f"{named} has the WAL-reset bug; the checkpoint rule is in force on every connection")
    else:
        yield serious(
            f"{named} has the WAL-reset bug, and the checkpoint rule is not in force ({pragmas}): "
            "commits can be lost; install SQLite 3.51.3 or newer"
        )


def wal(situation: Situation) -> Told:
    """Whether somebody looks after the write-ahead log."""
    if situation.has_store:
        yield from judged_wal(situation.store.wal_bytes(), bool(situation.living))


def judged_wal(found: int, has_dispatcher: bool) -> Told:
    """Judge the size of the WAL in bytes."""
    if found <= CHECKPOINT_BYTES_WITHOUT_DAEMON:
        yield ok(f"the write-ahead log has {sizes.in_words(found)}")
        return
    bound = sizes.in_words(CHECKPOINT_BYTES_WITHOUT_DAEMON)
    remedy = (
        "a program that reads the store has kept an old view open for long: `fuser -v` names it; end it"
        if has_dispatcher
        else "nobody empties it: start a dispatcher"
    )
    yield warning(f"the write-ahead log has {sizes.in_words(found)}, it should stay below {bound}: {remedy}")


def schema(situation: Situation) -> Told:
    """Whether the store can be read."""
    path = situation.store.path
    if situation.fault:
        yield serious(situation.fault)
    elif situation.has_store:
        yield ok(f"{path} is what this version needs")
    elif situation.directory == situation.home and not os.access(situation.home, os.X_OK):
        yield warning(f"{path} cannot be looked at by you; run this as its owner, or as root")
    else:
        yield ok(f"there is no store at {path}; the first start makes one")


def integrity(situation: Situation) -> Told:
    """Whether the file is damaged, as far as that can be seen in a moment."""
    if not situation.is_readable:
        return
    with situation.store.read() as connection:
        found = checkup.damage(connection, seconds=QUICK_SECONDS)
    if found:
        yield serious(
            f"the store is damaged ({' '.join(found.split())}): stop everything, copy the data directory, "
            "then see what `jobrunner db check` says, and go back to a backup"
        )
    elif found is None:
        yield ok(
            f"too large to be looked through in {QUICK_SECONDS:g} s: `jobrunner db check` takes its time"
        )
    else:
        yield ok("a quick look finds no damage; `jobrunner db check` looks at everything")

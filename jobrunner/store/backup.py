"""Backups: a copy of a store at work, and looking at such a copy without touching it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DatabaseError

from jobrunner.errors import SchemaVersionError, StoreError
from jobrunner.store.engine import Store


def write(store: Store, target: Path) -> None:
    """Copy the store as it is at one moment to `target`, while others go on writing.

    The copy appears under its name when all of it is on the disk.  It may be read by whom the store may be read by;
    made by root, it belongs to the store's owner.

    Raises:
        StoreError: there is no store, something is in the way, or the copy cannot be written.
    """
    if not store.path.exists():
        raise SchemaVersionError(f"there is no store at {store.path}")
    if os.path.lexists(target):
        raise StoreError(f"{target} is there already: a backup takes the place of nothing")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        store.copy_to(part)
        _give_to_owner_of(store.path, part)
        _sync(part)
        os.link(part, target)  # not renamed: that would replace what has come there meanwhile
        _sync(target.parent)
    except OSError as error:
        raise StoreError(f"the backup cannot be written to {target}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _give_to_owner_of(store: Path, copy: Path) -> None:
    its = store.stat()
    if os.geteuid() == 0:
        os.chown(copy, its.st_uid, its.st_gid)
    copy.chmod(its.st_mode & 0o777)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def opened(path: Path) -> Iterator[Connection]:
    """Read a backup; neither the file nor its directory is changed, and nobody is waited for.

    Raises:
        StoreError: it is not there, is damaged, is no store, or one that is in use or was not closed.
    """
    if not path.exists():
        raise StoreError(f"{path}: no such file")
    if Path(f"{path}-wal").exists():
        raise StoreError(
            f"{path} is a store and no backup, for {path}-wal is beside it: name its directory by --data"
        )
    address = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    engine = create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(address, uri=True), poolclass=NullPool
    )
    try:
        with engine.connect() as connection:
            yield connection
    except DatabaseError as error:
        raise StoreError(f"{path} is no backup that can be used: {error.orig}") from error

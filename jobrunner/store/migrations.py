"""The schema's version: upgrading it, checking it, refusing what is older or newer."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, inspect

from jobrunner.errors import SchemaVersionError, StoreUnavailableError
from jobrunner.settings import Settings
from jobrunner.store import revisions
from jobrunner.store.engine import Store, translated


def upgrade(store: Store, look: Callable[[], None] = lambda: None) -> None:
    """Bring the schema to what this program was written for; create the file if there is none.

    Args:
        store: which is upgraded.
        look: is called first, while nobody else upgrades it; it may raise.

    Raises:
        SchemaVersionError: the schema is newer than the program.
        StoreUnavailableError: the directory or the file cannot be written.
    """
    from jobrunner.store import upgrades  # noqa: PLC0415 - to load Alembic takes as long as all of SQLAlchemy

    with _alone(store), translated():
        look()
        try:
            upgrades.to_head(store)
        except SchemaVersionError as error:
            raise SchemaVersionError(_newer(str(error))) from None


def prepare(store: Store) -> None:
    """Create the schema of a store that is empty; leave any other to `jobrunner db upgrade`.

    Raises:
        SchemaVersionError: the schema is older or newer than the program; the message names the remedy.
        StoreUnavailableError: the directory cannot be written.
    """
    if not store.path.exists() or _is_empty(store):
        upgrade(store)
    check(store)


def is_behind(store: Store) -> bool:
    """Whether a store that is in use needs an upgrade."""
    if not store.path.exists() or _is_empty(store):
        return False
    try:
        check(store)
    except SchemaVersionError:
        return True
    return False


def check(store: Store) -> None:
    """Raise `SchemaVersionError` unless the schema is the one that this program was written for."""
    if not store.path.exists():
        raise SchemaVersionError(f"there is no store at {store.path}: {_remedy(store.path)}")
    with store.read() as connection:
        check_revision(connection, store.path)


def check_revision(connection: Connection, path: Path) -> None:
    """Raise `SchemaVersionError` unless the file at `path`, opened, has the schema that this program needs."""
    is_there = inspect(connection).has_table("alembic_version")
    present = (
        connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() if is_there else None
    )
    known = revisions.known()
    wanted = known[-1]
    if present == wanted:
        return
    if present is None or present in known:
        raise SchemaVersionError(
            f"the schema of {path} is {present or 'missing'}, this program needs {wanted}: {_remedy(path)}"
        )
    raise SchemaVersionError(_newer(f"the schema of {path} is {present}"))


def _remedy(path: Path) -> str:
    """Name the command that mends the schema of the store at `path`."""
    command, usual = "run `jobrunner db upgrade`", Path(Settings().url.removeprefix("sqlite:///"))
    if path.absolute() == usual:
        return command
    is_in_data = path.name == usual.name
    place = f"--data {path.parent}" if is_in_data else f"--database-url sqlite:///{path.absolute()}"
    return f"{command} with `{place}`"


def _newer(what: str) -> str:
    return f"{what}; it was made by a newer jobrunner: install that version, or a newer one"


def _is_empty(store: Store) -> bool:
    with store.read() as connection:
        return not inspect(connection).get_table_names()


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Keep API and dispatcher, which start together, from creating the schema together."""
    try:
        store.path.parent.mkdir(parents=True, exist_ok=True)
        with Path(f"{store.path}.upgrade").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise StoreUnavailableError(f"the store's directory cannot be written: {error}") from error

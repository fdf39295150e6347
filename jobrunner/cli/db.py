"""`jobrunner db`: the store's schema, its books, its backups."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
from sqlalchemy import Connection

from jobrunner import kernel, sizes
from jobrunner.cli.options import settings, settings_options
from jobrunner.cli.teaching import Group
from jobrunner.clock import utc_now
from jobrunner.store import audit, backup, dispatchers, jobs, migrations
from jobrunner.store.contradiction import Contradiction
from jobrunner.store.engine import Store

SHOWN: Final = 20  #: contradictions that are listed


@click.group(cls=Group)
def db() -> None:
    """Look after the store.

    A new store gets its schema by itself.  After an update of jobrunner, stop it, back the store up, and upgrade:

    $ jobrunner db backup before-the-update.db
    $ jobrunner db upgrade
    """


@db.command
@settings_options("data", "database_url")
def upgrade(config: Path | None, **flags: Any) -> None:
    """Bring the schema to what this version needs; create the store if there is none.

    $ jobrunner db upgrade --data /var/lib/jobrunner
    """
    chosen = settings(config, flags)
    store = Store(chosen.url)
    migrations.upgrade(store, lambda: _require_stopped(store, chosen.lease_seconds))
    click.echo(f"the schema of {store.path} is up to date")


def _require_stopped(store: Store, lease_seconds: float) -> None:
    """Refuse to change the schema under a dispatcher: an older one would go on as if nothing had happened."""
    for one in dispatchers.alive(store) if migrations.is_behind(store) else ():
        silent_seconds = (utc_now() - one.heartbeat_at).total_seconds()
        is_here = one.place == kernel.place()
        if kernel.started_ticks(one.pid) == one.started_ticks if is_here else silent_seconds < lease_seconds:
            raise click.ClickException(
                f"dispatcher {one.id} (process {one.pid}) is at work on {store.path}: stop it and the API first"
            )


@db.command(name="backup")
@click.argument("file", type=click.Path(path_type=Path))
@settings_options("data", "database_url")
def backup_(file: Path, config: Path | None, **flags: Any) -> None:
    """Copy the store as it is now to a new file, while all goes on; nothing has to be stopped.

    To restore it, stop jobrunner, put the file in the place of the store's, and remove the -wal and -shm beside it.

    $ jobrunner db backup before-the-update.db
    """
    store = Store(settings(config, flags).url)
    backup.write(store, file)
    with backup.opened(file) as connection:
        count = _count(connection)
    click.echo(f"{file}: {count} jobs, {sizes.in_words(file.stat().st_size)}, on disk")


@db.command
@click.argument("file", type=click.Path(path_type=Path), required=False)
@settings_options("data", "database_url")
def check(file: Path | None, config: Path | None, **flags: Any) -> None:
    """Check the store, or the backup FILE: its schema, the file itself, and whether the books agree.

    No job is changed, and the store may be at work.  If anything is wrong, the exit status is 1.

    $ jobrunner db check --data /var/lib/jobrunner
    $ jobrunner db check before-the-update.db
    """
    if file is not None:
        with backup.opened(file) as connection:
            migrations.check_revision(connection, file)
            _report(file, _count(connection), audit.contradictions(connection))
        return
    store = Store(settings(config, flags).url)
    migrations.check(store)
    with store.read() as connection:
        count = _count(connection)
    _report(store.path, count, audit.contradictions_in_turns(store))


def _count(connection: Connection) -> int:
    return sum(jobs.counts(connection).values())


def _report(path: Path, count: int, found: Iterator[Contradiction]) -> None:
    click.echo(f"the schema of {path} is what this version needs")
    shown = list(islice(found, SHOWN))
    for one in shown:
        click.echo(one)
    if shown:
        total = len(shown) + sum(1 for _ in found)
        raise click.ClickException(f"{total} contradictions in {path}, of which {len(shown)} are shown")
    click.echo(f"{count} jobs: the file is whole, and the books agree")

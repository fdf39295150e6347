"""`jobrunner db`: the store's schema."""

from pathlib import Path
from typing import Any

import click

from jobrunner.cli.options import settings, settings_options
from jobrunner.cli.teaching import Group
from jobrunner.store import migrations
from jobrunner.store.engine import Store


@click.group(cls=Group)
def db() -> None:
    """Look after the store's schema.

    A new store gets its schema by itself.  After an update of jobrunner, stop it, copy the data directory,
    and upgrade:

    $ jobrunner db check
    $ jobrunner db upgrade
    """


@db.command
@settings_options("data", "database_url")
def upgrade(config: Path | None, **flags: Any) -> None:
    """Bring the schema to what this version needs; create the store if there is none.

    $ jobrunner db upgrade --data /var/lib/jobrunner
    """
    store = Store(settings(config, flags).url)
    migrations.upgrade(store)
    click.echo(f"the schema of {store.path} is up to date")


@db.command
@settings_options("data", "database_url")
def check(config: Path | None, **flags: Any) -> None:
    """Say whether the schema is what this version needs; if it is not, the exit status is 1.

    $ jobrunner db check --data /var/lib/jobrunner
    """
    store = Store(settings(config, flags).url)
    migrations.check(store)
    click.echo(f"the schema of {store.path} is what this version needs")

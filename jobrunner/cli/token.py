"""`jobrunner token`: who may use the API."""

import re
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import click

from jobrunner.cli.options import settings, settings_options
from jobrunner.cli.teaching import Group
from jobrunner.clock import utc_now
from jobrunner.errors import TokenNameError
from jobrunner.store import migrations, tokens
from jobrunner.store.engine import Store
from jobrunner.store.tokens import Scope

_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,100}")
_SCOPES: Final = click.Choice([scope.value for scope in Scope])


@click.group(cls=Group)
def token() -> None:
    """Say who may use the API, and for what.

    Without tokens the API listens on this machine alone, and whoever can connect may do everything.  From the
    first token on every request needs one, and --host may be any address.  A scope includes those before it:

      read    see jobs, results and statistics
      submit  submit, cancel and retry jobs
      admin   delete jobs, pause queues

    $ jobrunner token create ci --scope submit
    $ jobrunner token list
    $ jobrunner token revoke ci
    """


@token.command
@click.argument("name")
@click.option("--scope", required=True, type=_SCOPES, help="What it is good for.")
@settings_options("data", "database_url")
def create(name: str, scope: str, config: Path | None, **flags: Any) -> None:
    """Make a token, and print it this once.

    Only its SHA-256 is kept.  Clients send it as `Authorization: Bearer TOKEN`; the command line takes it from
    JOBRUNNER_TOKEN.

    $ jobrunner token create ci --scope submit
    $ export JOBRUNNER_TOKEN=$(jobrunner token create me --scope admin)
    """
    if not _NAME.fullmatch(name):
        raise TokenNameError(
            f"a token's name is 1 to 100 of the characters A-Z a-z 0-9 . _ @ -, not {name!r}"
        )
    store = Store(settings(config, flags).url)
    migrations.prepare(store)  # a token may be needed before the first start
    with store.write(durable=True) as connection:
        is_first = not tokens.ever_made(connection)
        secret = tokens.create(connection, name, Scope(scope), now=utc_now())
    click.echo(secret)
    click.echo(f"token {name} is shown this once: keep it", err=True)
    if is_first:
        click.echo("it is the first: from now on every request to the API needs a token", err=True)


@token.command("list")
@settings_options("data", "database_url")
def list_(config: Path | None, **flags: Any) -> None:
    """List the tokens that are in force: name, scope, when it was made.

    $ jobrunner token list
    """
    store = Store(settings(config, flags).url)
    migrations.check(store)
    with store.read() as connection:
        found = list(tokens.in_force(connection).values())
    width = max((len(one.name) for one in found), default=0)
    for one in found:
        made = one.created_at.astimezone(UTC)
        click.echo(f"{one.name:{width}}  {one.scope:6}  {made:%Y-%m-%dT%H:%M:%SZ}")


@token.command
@click.argument("name")
@settings_options("data", "database_url")
def revoke(name: str, config: Path | None, **flags: Any) -> None:
    """Take a token out of force; an API that runs knows it within a second.

    Requests need a token also after the last one was revoked.  The name may be given again.

    $ jobrunner token revoke ci
    """
    store = Store(settings(config, flags).url)
    migrations.check(store)
    with store.write(durable=True) as connection:
        tokens.revoke(connection, name, now=utc_now())
        is_last = not tokens.in_force(connection)
    click.echo(f"token {name} is revoked")
    if is_last:
        click.echo("it was the last: nobody may use the API until there is another", err=True)

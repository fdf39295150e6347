"""`jobrunner serve`: API and dispatcher, kept alive together."""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from jobrunner.cli import ports
from jobrunner.cli.firstline import first_curl_line
from jobrunner.cli.options import settings, settings_options
from jobrunner.cli.supervisor import Part, Supervisor
from jobrunner.cli.teaching import Command
from jobrunner.client import Client, ClientError
from jobrunner.client.answers import Check
from jobrunner.clock import utc_now
from jobrunner.settings import Settings
from jobrunner.store import migrations
from jobrunner.store.engine import Store

_SPARE_SECONDS: Final = 15.0  #: beyond the longest drain, before what still runs is killed
_TASKS: Final = "tasks"  #: the readiness check that need not pass


@click.command(cls=Command)
@settings_options()
def serve(config: Path | None, **flags: Any) -> None:
    """Run API and dispatcher together, in the foreground.

    Ctrl-C or SIGTERM stops both: what runs may finish within --drain-seconds, while the API still answers;
    the rest goes back to the queue and runs again next time.  A second Ctrl-C does not wait.  SIGHUP loads
    the task modules again.

    Each setting is a flag, or JOBRUNNER_<NAME> in the environment, or a line of jobrunner.toml.

    $ jobrunner serve
    $ jobrunner serve --tasks mytasks --data /var/lib/jobrunner --workers 4
    $ jobrunner serve --port 0 --config other.toml
    """
    chosen = settings(config, flags)
    chosen = replace(chosen, data=chosen.data.absolute(), port=ports.free_port(chosen.host, chosen.port))
    store = Store(chosen.url)
    migrations.prepare(store)
    store.close()
    client = Client(ports.url(chosen.host, chosen.port), timeout_seconds=1.0, patience_seconds=0.0)
    began = utc_now()
    supervisor = Supervisor(
        _parts(chosen),
        missing=lambda: _missing(client, began),
        announce=lambda: _announce(client, store, chosen),
        say=_say,
        stop_seconds=chosen.drain_seconds + chosen.grace_seconds + _SPARE_SECONDS,
    )
    sys.exit(supervisor.run())


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # a terminal that was closed: nobody is there to be told
        click.echo(f"jobrunner: {line}", err=True)


def _parts(chosen: Settings) -> list[Part]:
    environ = environment(chosen)
    return [
        Part(
            "api",
            (sys.executable, "-m", "jobrunner", "api"),
            environ,
            # gunicorn ends at once at a SIGQUIT, and ignores a second SIGTERM
            stop_signals=(signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL),
        ),
        Part("dispatcher", (sys.executable, "-m", "jobrunner", "dispatcher"), environ, takes_hangup=True),
    ]


def environment(chosen: Settings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment in which a child has exactly these settings.

    Not flags: everybody may read another's command line, and `database_url` may hold a password.
    """
    values = {field.name: getattr(chosen, field.name) for field in fields(chosen)}
    texts = {name: ",".join(one) if isinstance(one, tuple) else str(one) for name, one in values.items()}
    ours = {f"JOBRUNNER_{name.upper()}": text for name, text in texts.items() if text}
    return {**environ, **ours, "JOBRUNNER_CONFIG": os.devnull}  # read here, once


def _missing(client: Client, began: datetime) -> str:
    """Return what is not ready yet; a dispatcher that was killed before counts as alive for a while."""
    try:
        failed = [f"{one['name']}: {one['detail']}" for one in _failed(client) if one["name"] != _TASKS]
        starts = [datetime.fromisoformat(one["started_at"]) for one in client.stats()["dispatchers"]]
    except ClientError as error:
        return str(error)
    return "; ".join(failed) or ("" if any(at >= began for at in starts) else "dispatcher: it is starting")


def _failed(client: Client) -> list[Check]:
    return [check for check in client.checks() if not check["ok"]]


def _announce(client: Client, store: Store, chosen: Settings) -> None:
    lines = [
        f"jobrunner serves at {client.url}",
        f"  store    {store.path}",
        f"  workers  {chosen.workers}",
        f"  tasks    {', '.join(chosen.tasks)}",
    ]
    try:
        # A module that cannot be imported keeps no other from being served.
        lines += [f"  NOT SERVED: {check['detail']}" for check in _failed(client)]
        lines.append(f"try:  {_first_line(client)}")
    except ClientError as error:
        lines.append(f"  but now: {error}")
    client.close()  # a connection that is kept open would hold up the API's stop
    click.echo("\n".join(lines))


def _first_line(client: Client) -> str:
    callable_as_it_is = [
        task["name"] for task in client.tasks()["items"] if not task["params"].get("required")
    ]
    return first_curl_line(client.url, callable_as_it_is)

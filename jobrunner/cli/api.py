"""`jobrunner api`: the API alone, as a service manager wants it."""

from pathlib import Path
from typing import Any

import click

from jobrunner import logs
from jobrunner.api import server
from jobrunner.cli.options import settings, settings_options
from jobrunner.cli.teaching import Command


@click.command(cls=Command)
@settings_options()
def api(config: Path | None, **flags: Any) -> None:
    """Run the API alone, in the foreground, until SIGTERM.

    It stores jobs and shows them; `jobrunner dispatcher` on the same data directory runs them.  Each
    setting is a flag, or JOBRUNNER_<NAME> in the environment, or a line of jobrunner.toml.

    $ jobrunner api --data /var/lib/jobrunner --port 8000
    $ JOBRUNNER_PORT=8000 jobrunner api
    """
    chosen = settings(config, flags)
    logs.to_stderr("api", chosen.log_level)
    server.run(chosen)

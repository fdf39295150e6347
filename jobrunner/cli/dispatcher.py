"""`jobrunner dispatcher`: the dispatcher alone, as a service manager wants it."""

from pathlib import Path
from typing import Any

import click

from jobrunner import logs
from jobrunner.cli.options import settings, settings_options
from jobrunner.cli.teaching import Command
from jobrunner.dispatcher import daemon


@click.command(cls=Command)
@settings_options()
def dispatcher(config: Path | None, **flags: Any) -> None:
    """Run the dispatcher alone, in the foreground.

    It takes jobs from the store and runs them.  SIGTERM lets running jobs finish for --drain-seconds, a
    second one ends them at once; SIGHUP loads the task modules again.

    It ends with a status other than 0 when a process that it depends on dies: what starts it should start
    it again, as `jobrunner serve` does.

    $ jobrunner dispatcher --data /var/lib/jobrunner --tasks mypackage.tasks --workers 4
    """
    chosen = settings(config, flags)
    logs.to_stderr("dispatcher", chosen.log_level)
    daemon.run(chosen)

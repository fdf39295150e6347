"""`jobrunner doctor`."""

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from jobrunner.cli.options import json_option, settings, settings_options
from jobrunner.cli.teaching import Command
from jobrunner.doctor.examination import examine
from jobrunner.doctor.findings import Finding, Grade
from jobrunner.doctor.units import DEFAULT

_COLOURS: Final = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.SERIOUS: "red"}


@click.command(cls=Command)
@click.option(
    "--unit", default=DEFAULT, show_default=True, metavar="NAME", help="The dispatcher's systemd unit."
)
@json_option
@settings_options()
def doctor(config: Path | None, as_json: bool, unit: str, **flags: Any) -> None:
    """Look for what would lose jobs or keep them from running; one line each, with the remedy.

    It needs no running server, and changes nothing.  Give it what `serve` or `dispatcher` is given, as the same user
    or as root.  If anything is serious, the exit status is 1.

    $ jobrunner doctor --tasks mytasks
    $ jobrunner doctor --config /etc/jobrunner/jobrunner.toml
    $ jobrunner doctor --json | jq -r '.[] | select(.grade != "ok") | .text'
    """
    found = examine(settings(config, flags), unit)
    if as_json:
        click.echo(json.dumps([one._asdict() for one in found], indent=2))
    else:
        for one in found:
            click.echo(_line(one))
    sys.exit(int(any(one.grade is Grade.SERIOUS for one in found)))


def _line(one: Finding) -> str:
    grade = click.style(f"{one.grade:8}", fg=_COLOURS[one.grade])  # taken out again where it is no terminal
    return f"{grade} {one.name:12} {one.text}"

"""Following a job to its end: `submit --follow`, `show --follow`."""

import sys
from typing import Final

import click

from jobrunner.cli.display import Display, JsonLines, PlainLines
from jobrunner.client import Client
from jobrunner.client.errors import UnreachableError
from jobrunner.client.following import Follower, follow

STATUS: Final = {"succeeded": 0, "failed": 1, "cancelled": 3}  #: exit status by the job's final state
LOST_SIGHT: Final = 4  #: exit status when the API went away for good
INTERRUPTED: Final = 130  #: exit status after Ctrl-C, as shells have it: 128 + SIGINT

#: for the help of each command that follows
STATUSES_HELP: Final = """
Exit status with --follow:

  0    the job succeeded
  1    it failed, or could not be submitted
  2    the command was not called as it should be
  3    it was cancelled
  4    the API went away; the job is not lost
  130  Ctrl-C; the job goes on
"""


def watch(client: Client, job_id: int, *, as_json: bool) -> int:
    """Show what the job does until it is final; return the exit status that tells its fate."""
    try:
        with _display(as_json=as_json) as display:
            for news in follow(Follower(client, job_id)):
                display.show(news)
                if news.is_last:
                    return STATUS[news.job["state"]]
    except KeyboardInterrupt:
        click.echo(f"\njob {job_id} goes on. {_how_to_go_on(job_id)}", err=True)
        return INTERRUPTED
    except UnreachableError as error:
        click.echo(f"lost sight of job {job_id}: {error}. {_how_to_go_on(job_id)}", err=True)
    return LOST_SIGHT


def url_flag() -> str:
    """Return the `--url` that this command was called with, to be repeated in a command that is proposed."""
    context = click.get_current_context()
    given = context.get_parameter_source("url") is click.core.ParameterSource.COMMANDLINE
    return f" --url {context.params['url']}" if given else ""


def _how_to_go_on(job_id: int) -> str:
    flag = url_flag()
    return f"Watch it: jobrunner show {job_id} --follow{flag}   Stop it: jobrunner cancel {job_id}{flag}"


def _display(*, as_json: bool) -> Display:
    if as_json:
        return JsonLines()
    if not sys.stdout.isatty():
        return PlainLines()
    from jobrunner.cli.bar import Bar  # noqa: PLC0415 - rich takes a tenth of a second to load

    return Bar()

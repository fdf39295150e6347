"""Following a job to its end: `submit --follow`, `show --follow`; and how a command that follows may end."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

#: for the help of what follows, but does not tell a job's fate
READING_HELP: Final = """
Exit status with --follow: 0 at the end, 1 if it cannot be read, 4 if the API went away, 130 after Ctrl-C.
"""


def watch(client: Client, job_id: int, *, as_json: bool) -> int:
    """Show what the job does until it is final; return the exit status that tells its fate."""
    with in_sight([job_id]), _display(as_json=as_json) as display:
        for news in follow(Follower(client, job_id)):
            display.show(news)
            if news.is_last:
                return STATUS[news.job["state"]]
    raise AssertionError("follow() ends with the last news")


@contextmanager
def interruptible(ids: Sequence[int]) -> Iterator[None]:
    """End the command with a word on how to go on, if it is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\n{_named(ids)} {'goes' if len(ids) == 1 else 'go'} on. {_how_to_go_on(ids)}", err=True)
        sys.exit(INTERRUPTED)


@contextmanager
def in_sight(ids: Sequence[int]) -> Iterator[None]:
    """End the command as `interruptible` does, and also if the API, which has answered before, stays away."""
    with interruptible(ids):
        try:
            yield
        except UnreachableError as error:
            click.echo(f"lost sight of {_named(ids)}: {error}. {_how_to_go_on(ids)}", err=True)
            sys.exit(LOST_SIGHT)


def _named(ids: Sequence[int]) -> str:
    return f"job {ids[0]}" if len(ids) == 1 else f"{len(ids)} jobs"


def url_flag() -> str:
    """Return the `--url` that this command was called with, to be repeated in a command that is proposed."""
    context = click.get_current_context()
    given = context.get_parameter_source("url") is click.core.ParameterSource.COMMANDLINE
    return f" --url {context.params['url']}" if given else ""


def _how_to_go_on(ids: Sequence[int]) -> str:
    flag = url_flag()
    if len(ids) > 1:
        return f"Wait for them: jobrunner wait {' '.join(map(str, ids))}{flag}"
    return f"Watch it: jobrunner show {ids[0]} --follow{flag}   Stop it: jobrunner cancel {ids[0]}{flag}"


def _display(*, as_json: bool) -> Display:
    if as_json:
        return JsonLines()
    if not sys.stdout.isatty():
        return PlainLines()
    from jobrunner.cli.bar import Bar  # noqa: PLC0415 - rich takes a tenth of a second to load

    return Bar()

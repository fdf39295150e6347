"""`jobrunner wait`."""

import json
import math
import sys
import time
from collections.abc import Iterator
from typing import Final

import click

from jobrunner.cli import words
from jobrunner.cli.options import id_argument, url_option
from jobrunner.cli.teaching import Command
from jobrunner.cli.watching import STATUS, in_sight, interruptible, url_flag
from jobrunner.client import Client
from jobrunner.client.job import Job
from jobrunner.lifecycle import State

TIME_IS_UP: Final = 124  #: exit status, as timeout(1) has it
_LOOK_SECONDS: Final = 1.0  #: between two looks at jobs of which another is waited for, ...
_LOOK_SECONDS_EACH: Final = 0.01  #: ... or more if there are many

STATUSES_HELP: Final = """
Exit status:

  0    all succeeded
  1    one failed, or could not be asked for
  2    the command was not called as it should be
  3    none failed, but one was cancelled
  4    the API went away; the jobs are not lost
  124  time is up; the jobs go on
  130  Ctrl-C; the jobs go on
"""


@click.command(cls=Command, epilog=STATUSES_HELP)
@id_argument(State.QUEUED, State.RUNNING, several=True)
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer.")
@click.option("--json", "as_json", is_flag=True, help="Print each job whole, as JSON on a line of its own.")
@url_option
def wait(*, job_ids: tuple[int, ...], timeout: float | None, as_json: bool, url: str) -> None:
    """Wait until jobs are final, and print a line for each as it ends.

    A map job has failed if one of its items has; its line says how many have.

    $ jobrunner wait 42
    $ jobrunner wait 42 43 44 --timeout 600 && echo all succeeded
    """
    ids = tuple(dict.fromkeys(job_ids))
    give_up_at = math.inf if timeout is None else time.monotonic() + timeout
    with Client(url) as client, interruptible(ids):
        jobs = [
            client.job(job_id).refresh() for job_id in ids
        ]  # all of them: one that is not there is told at once
        states = set()
        with in_sight(ids):
            for job in _as_they_end(jobs, give_up_at):
                states.add(job.state)
                click.echo(json.dumps(job.data) if as_json else words.ending(job.data))
    late = [job.id for job in jobs if not job.is_final]
    if late:
        click.echo(f"time is up, still waiting for: {' '.join(map(str, late))}{url_flag()}", err=True)
        sys.exit(TIME_IS_UP)
    sys.exit(next((STATUS[state] for state in (State.FAILED, State.CANCELLED) if state in states), 0))


def _as_they_end(jobs: list[Job], give_up_at: float) -> Iterator[Job]:
    """Yield each job as soon as it is final; end when all are, or when it is time to give up."""
    waiting = list(jobs)
    while True:
        for job in [job for job in waiting if job.is_final]:
            waiting.remove(job)
            yield job
        left = give_up_at - time.monotonic()
        if not waiting or left <= 0:
            return
        # One request waits, for the first; the others are looked at in between.
        rest = max(_LOOK_SECONDS, _LOOK_SECONDS_EACH * len(waiting)) if len(waiting) > 1 else math.inf
        most = min(left, rest)
        waiting[0].wait(None if most == math.inf else most)
        for job in waiting[1:]:
            job.refresh()

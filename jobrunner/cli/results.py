"""What came of a job: `result`, and `items` for each item of a map job."""

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click

from jobrunner.cli import words
from jobrunner.cli.options import id_argument, url_option
from jobrunner.cli.teaching import Command
from jobrunner.cli.wait import STATUSES_HELP, TIME_IS_UP
from jobrunner.cli.watching import STATUS, in_sight, url_flag
from jobrunner.client import Client, ItemData
from jobrunner.client.job import Job
from jobrunner.client.streams import is_swept
from jobrunner.lifecycle import State

_AT_ONCE: Final = 1000  # lines that are written together
_FEW: Final = 20  # items in a table
_LONGEST_CELL: Final = 50  # characters


@click.command(cls=Command, epilog=STATUSES_HELP)
@id_argument()
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer for it.")
@url_option
def result(*, job_id: int, timeout: float | None, url: str) -> None:
    """Print what a job returned, as soon as it has: JSON on a line.

    Of a map job it is the value of each item, one a line, in order; or what its reduce task made of them.  If one item
    has failed there is none: the values of the others are told by `jobrunner items ID --state succeeded --json`.

    $ jobrunner result 42 | jq .count
    $ jobrunner result 42 | gzip > values.ndjson.gz
    """
    with Client(url) as client, in_sight([job_id]):
        job = client.job(job_id).refresh().wait(timeout)  # what is not there is told at once
        if not job.is_final:
            click.echo(f"time is up: {words.state(job.data)}{url_flag()}", err=True)
            sys.exit(TIME_IS_UP)
        if job.state is not State.SUCCEEDED:
            click.echo(words.ending(job.data), err=True)
            sys.exit(STATUS[job.state])
        _print(_results(job))


def _results(job: Job) -> Iterable[Any]:
    return job.values() if is_swept(job.data) else [job.result()]


@click.command(cls=Command)
@id_argument()
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([State.SUCCEEDED.value, State.FAILED.value]),
    help="Only these; repeatable.",
)
@click.option("--after", type=click.IntRange(min=0), metavar="INDEX", help="Only those after this one.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="At most so many; default: 20, all with --json."
)
@click.option("--json", "as_json", is_flag=True, help="Print them whole, each as JSON on a line of its own.")
@url_option
def items(
    *, job_id: int, states: tuple[str, ...], after: int | None, limit: int | None, as_json: bool, url: str
) -> None:
    """List the items of a map job that have succeeded or failed so far, in order.

    Those that wait, run or are tried again are not among them.  INDEX counts from 0; PARAMS are an item's own, beside
    those that all have in common.  Long values are cut, but with --json.

    $ jobrunner items 42 --state failed
    $ jobrunner items 42 --json | jq -c '[.params.n, .value]'
    $ jobrunner items 42 --state failed --json | jq -c .params > again.ndjson
    $ jobrunner submit mytasks.score --map @again.ndjson
    """
    with Client(url) as client:
        found = client.job(job_id).items(*states, after=after)
        if as_json:
            _print(itertools.islice(found, limit))
        else:
            _print_table(found, limit or _FEW)


def _print_table(found: Iterator[ItemData], limit: int) -> None:
    shown = list(itertools.islice(found, limit))
    for line in words.table(("INDEX", "STATE", "PARAMS", "VALUE OR ERROR"), map(_row, shown)):
        click.echo(line)
    if next(found, None) is not None:
        click.echo(f"there are more: --after {shown[-1]['index']}, or --limit, or --json for all", err=True)


def _row(one: ItemData) -> tuple[str, ...]:
    params, value = (words.short(words.value(cell), _LONGEST_CELL) for cell in (one["params"], one["value"]))
    # An error may name its remedy at the end.
    came_of_it = value if one["error"] is None else words.failure(one["error"])
    return str(one["index"]), one["state"], params, came_of_it


def _print(values: Iterable[Any]) -> None:
    lines = map(json.dumps, values)
    while some := list(itertools.islice(lines, _AT_ONCE)):
        click.echo("\n".join(some))

"""`jobrunner submit`."""

import json
import sys
from typing import Any

import click

from jobrunner import sizes
from jobrunner.cli import completers, mapping, parameters, words
from jobrunner.cli.options import json_option, url_option
from jobrunner.cli.teaching import Command
from jobrunner.cli.watching import STATUSES_HELP, url_flag, watch
from jobrunner.client import Client


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return sizes.in_bytes(value)
        except ValueError:
            self.fail(f"{value!r} is not a size such as 512M or 2G", param, ctx)


@click.command(cls=Command, epilog=STATUSES_HELP)
@click.argument("task", shell_complete=completers.task_names)
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=completers.task_arguments)
@click.option("--follow", is_flag=True, help="Watch it: progress, partial results, the result.")
@click.option(
    "--map",
    "axes",
    multiple=True,
    metavar="NAME=VALUES",
    shell_complete=completers.map_arguments,
    help="Call the task for each of these values; repeatable.",
)
@click.option(
    "--reduce",
    metavar="TASK",
    shell_complete=completers.task_names,
    help="Make the result of a map job's values with this task, whose first parameter gets them.",
)
@click.option(
    "--max-failed", type=click.IntRange(min=0), metavar="N", help="End a map job when more items have failed."
)
@click.option(
    "--max-parallel",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run so many chunks of a map job at a time.",
)
@click.option(
    "--chunk-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Items that a worker is handed at a time, and runs to the last; default: as many as take a moment.",
)
@click.option("--priority", type=int, metavar="N", help="Higher runs first.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Stop an attempt that runs for longer.")
@click.option("--retries", type=int, metavar="N", help="Try again so often after an exception or a timeout.")
@click.option(
    "--crash-retries", type=int, metavar="N", help="Try again so often after a crash; 0: run it once."
)
@click.option(
    "--memory-limit", type=_Size(), metavar="SIZE", help="Stop an attempt that takes more: 512M, 2G."
)
@click.option(
    "--delay", "delay_seconds", type=float, metavar="SECONDS", help="Start no sooner than that from now."
)
@click.option("--run-at", metavar="TIME", help="Start no sooner: 2030-01-31T06:00:00Z.")
@click.option(
    "--queue", metavar="NAME", shell_complete=completers.queue_names, help="Put it into this queue."
)
@click.option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Find it again by this; repeatable."
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Submit it once, however often this is called with the same KEY; that gives back the same job.",
)
@json_option
@url_option
def submit(
    *,
    task: str,
    arguments: tuple[str, ...],
    follow: bool,
    axes: tuple[str, ...],
    labels: tuple[str, ...],
    as_json: bool,
    url: str,
    **given: Any,
) -> None:
    """Submit a job.  `jobrunner tasks` lists what TASK may be.

    A VALUE is JSON if it parses as JSON, else text: n=5 is a number, who=me is "me", 'who="5"' is "5",
    'sizes=[1,2]' is a list.  KEY=@FILE takes it from a file, KEY=@- from standard input.

    With --map one job calls the task once for each item.  VALUES is a range as in Python (n=0..1000 ends with 999,
    n=0..1000..10 goes in tens), a JSON list, or @FILE with a list or with a value a line; of several --map every
    combination is an item.  --map @FILE takes whole items: a JSON list of objects, or an object a line.  `jobrunner
    result` prints the values, `jobrunner items` what became of each.

    Options that are left out are as the task has them; timeout, memory limit and retries hold for each item.

    $ jobrunner submit examples.primes n=1000000 --follow
    $ jobrunner submit examples.mandelbrot palette=ice zoom=40 --priority 5 --label who=me
    $ jobrunner submit mytasks.score --idempotency-key score-2030-01-31
    $ jobrunner submit mytasks.score data=@rows.json --timeout 600 --retries 2 --memory-limit 2G
    $ jobrunner submit examples.is_prime --map n=0..1000000 --reduce examples.how_many --follow
    $ jobrunner submit mytasks.score --map 'seed=[1,2,3]' --map path=@paths.txt epochs=20 --max-failed 10
    $ id=$(jobrunner submit examples.pi --json | jq .id)
    """
    options = {name: value for name, value in given.items() if value is not None}
    if labels:
        options["labels"] = parameters.labels(labels)
    params = parameters.parsed(arguments)
    with Client(url) as client:
        asking = client.with_options(**options)
        made = asking.map(task, mapping.parsed(axes), **params) if axes else asking.submit(task, **params)
        job = made.data
        if follow:
            sys.exit(watch(client, job["id"], as_json=as_json))
        if as_json:
            click.echo(json.dumps(job))
        else:
            click.echo(words.state(job))
            click.echo(f"watch it: jobrunner show {job['id']} --follow{url_flag()}", err=True)

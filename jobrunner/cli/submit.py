"""`jobrunner submit`."""

import json
import sys
from typing import Any

import click

from jobrunner import sizes
from jobrunner.cli import completers, parameters, words
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
    labels: tuple[str, ...],
    as_json: bool,
    url: str,
    **given: Any,
) -> None:
    """Submit a job.  `jobrunner tasks` lists what TASK may be.

    A VALUE is JSON if it parses as JSON, else text: n=5 is a number, who=me is "me", 'who="5"' is "5",
    'sizes=[1,2]' is a list.  KEY=@FILE takes it from a file, KEY=@- from standard input.

    Options that are left out are as the task has them.

    $ jobrunner submit examples.primes n=1000000 --follow
    $ jobrunner submit examples.mandelbrot palette=ice zoom=40 --priority 5 --label who=me
    $ jobrunner submit mytasks.score --idempotency-key score-2030-01-31
    $ jobrunner submit mytasks.score data=@rows.json --timeout 600 --retries 2 --memory-limit 2G
    $ id=$(jobrunner submit examples.pi --json | jq .id)
    """
    options = {name: value for name, value in given.items() if value is not None}
    if labels:
        options["labels"] = parameters.labels(labels)
    with Client(url) as client:
        job = client.with_options(**options).submit(task, **parameters.parsed(arguments)).data
        if follow:
            sys.exit(watch(client, job["id"], as_json=as_json))
        if as_json:
            click.echo(json.dumps(job))
        else:
            click.echo(words.state(job))
            click.echo(f"watch it: jobrunner show {job['id']} --follow{url_flag()}", err=True)

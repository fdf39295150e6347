"""`jobrunner queues`."""

import json

import click

from jobrunner.cli import completers, words
from jobrunner.cli.options import json_option, url_option
from jobrunner.cli.teaching import Command
from jobrunner.client import Client, Queue
from jobrunner.lifecycle import State


@click.command(cls=Command)
@click.argument("action", required=False, type=click.Choice(["pause", "resume"]), metavar="[pause|resume]")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completers.queue_names)
@json_option
@url_option
def queues(*, action: str | None, names: tuple[str, ...], as_json: bool, url: str) -> None:
    """List the queues, how many jobs each holds, and which are paused; or pause some, or resume them.

    While a queue is paused, none of its jobs is started; those that run go on.  Where tokens are in force, pausing
    takes one of the scope admin.

    $ jobrunner queues
    $ jobrunner queues pause night
    $ jobrunner queues resume night
    """
    if action is not None and not names:
        raise click.UsageError(f"name the queues to {action}")
    with Client(url) as client:
        match action:
            case "pause":
                found = [client.pause(name) for name in names]
            case "resume":
                found = [client.resume(name) for name in names]
            case _:
                found = client.queues()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for line in words.table(
        ("QUEUE", *(state.upper() for state in State), "PAUSED SINCE (UTC)"), map(_row, found)
    ):
        click.echo(line)


def _row(queue: Queue) -> tuple[str, ...]:
    counts = (words.number(queue["jobs"].get(state, 0)) for state in State)
    since = queue["paused_since"]
    return queue["name"], *counts, "" if since is None else words.moment(since)

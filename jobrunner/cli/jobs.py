"""Looking at jobs, and steering them: `show`, `list`, `cancel`, `retry`, `delete`."""

import json
import sys
from typing import Final

import click

from jobrunner.cli import completers, parameters, words
from jobrunner.cli.options import id_argument, json_option, url_option
from jobrunner.cli.teaching import Command
from jobrunner.cli.watching import STATUSES_HELP, watch
from jobrunner.client import Client, JobData
from jobrunner.lifecycle import FINAL, State

_LONGEST_CELL: Final = 50  #: characters of a result in a list


def _print(job: JobData, *, as_json: bool) -> None:
    click.echo(json.dumps(job, indent=2) if as_json else words.state(job))


@click.command(cls=Command, epilog=STATUSES_HELP)
@id_argument()
@click.option("--follow", is_flag=True, help="Watch it to its end, from its first partial result on.")
@json_option
@url_option
def show(*, job_id: int, follow: bool, as_json: bool, url: str) -> None:
    """Show a job: how it stands, what it was given, what came of it.

    $ jobrunner show 42
    $ jobrunner show 42 --follow
    $ jobrunner show 42 --json | jq .result
    """
    with Client(url) as client:
        job = client.job(job_id).data
        if follow:
            sys.exit(watch(client, job_id, as_json=as_json))
    _print(job, as_json=as_json)
    if not as_json:
        for line in words.description(job):
            click.echo(line)


@click.command("list", cls=Command)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in State]),
    help="Only these; repeatable.",
)
@click.option("--task", metavar="NAME", shell_complete=completers.task_names, help="Only jobs of this task.")
@click.option(
    "--queue", metavar="NAME", shell_complete=completers.queue_names, help="Only jobs of this queue."
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only jobs with it; repeatable.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@json_option
@url_option
def list_(
    *,
    states: tuple[State, ...],
    task: str | None,
    queue: str | None,
    labels: tuple[str, ...],
    limit: int,
    as_json: bool,
    url: str,
) -> None:
    """List jobs, newest first; times are UTC.

    $ jobrunner list
    $ jobrunner list --state queued --state running --task examples.primes
    $ jobrunner list --label who=me --limit 1000 --json | jq '.[].result'
    """
    with Client(url) as client:
        wanted = parameters.labels(labels)
        found = client.jobs(state=states, task=task, queue=queue, labels=wanted, limit=limit)
        jobs = [job.data for job in found]
    if as_json:
        click.echo(json.dumps(jobs, indent=2))
        return
    rows = [_row(job) for job in jobs]
    for line in words.table(("ID", "STATE", "TASK", "SUBMITTED (UTC)", "RAN", "RESULT OR PROGRESS"), rows):
        click.echo(line)


def _row(job: JobData) -> tuple[str, ...]:
    ran = "" if job["ran_seconds"] is None else f"{job['ran_seconds']:.3g} s"
    so_far = words.progress(job)  # of a job that runs again; what its last attempt failed with is older news
    came_of_it = so_far if job["state"] == "running" else next(words.outcome(job, _LONGEST_CELL), so_far)
    submitted = words.moment(job["created_at"])
    return str(job["id"]), job["state"], job["task"], submitted, ran, words.short(came_of_it, _LONGEST_CELL)


@click.command(cls=Command)
@id_argument(State.QUEUED, State.RUNNING)
@click.option("--grace", type=click.FloatRange(min=0), metavar="SECONDS", help="From SIGTERM to SIGKILL.")
@json_option
@url_option
def cancel(*, job_id: int, grace: float | None, as_json: bool, url: str) -> None:
    """Cancel a job.  A running one is sent SIGTERM, and SIGKILL some seconds later.

    $ jobrunner cancel 42
    $ jobrunner cancel 42 --grace 0
    """
    with Client(url) as client:
        _print(client.job(job_id).cancel(grace_seconds=grace).data, as_json=as_json)


@click.command(cls=Command)
@id_argument(State.FAILED, State.CANCELLED)
@click.option("--only-failed", is_flag=True, help="Of a map job: keep what has succeeded, run only the rest.")
@json_option
@url_option
def retry(*, job_id: int, only_failed: bool, as_json: bool, url: str) -> None:
    """Queue a failed or cancelled job again: same id, next attempt, with all its retries.

    Of a map job all items run again, and what they gave before is no result any more; --only-failed keeps the values
    that are there, and runs what has failed or did not run.

    $ jobrunner retry 42
    $ jobrunner retry 42 --only-failed
    """
    with Client(url) as client:
        _print(client.job(job_id).retry(only_failed=only_failed).data, as_json=as_json)


@click.command(cls=Command)
@id_argument(*FINAL)
@url_option
def delete(*, job_id: int, url: str) -> None:
    """Delete a final job, with its result, its partial results, its log and its idempotency key.

    Where tokens are in force, this takes one of the scope admin.

    $ jobrunner delete 42
    """
    with Client(url) as client:
        client.job(job_id).delete()
    click.echo(f"job {job_id} is deleted")

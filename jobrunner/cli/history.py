"""What a job has left so far: `log`, `partials`, `attempts`; the first two also as it goes on."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import click

from jobrunner import sizes
from jobrunner.cli import words
from jobrunner.cli.options import id_argument, json_option, url_option
from jobrunner.cli.teaching import Command
from jobrunner.cli.watching import READING_HELP, in_sight
from jobrunner.client import AttemptData, Client, PartialData
from jobrunner.client.job import Job

# -- log -------------------------------------------------------------------------------------------


@click.command(cls=Command, epilog=READING_HELP)
@id_argument()
@click.option("--follow", is_flag=True, help="Go on until the job is final, through later attempts.")
@click.option(
    "--tail", type=click.IntRange(min=1), metavar="N", help="Of what is there, only the last N lines."
)
@click.option(
    "--attempt", type=click.IntRange(min=1), metavar="N", help="Of this attempt; default: of the last."
)
@url_option
def log(*, job_id: int, follow: bool, tail: int | None, attempt: int | None, url: str) -> None:
    """Print what a job printed.

    With --follow, where another attempt begins stands on standard error.

    $ jobrunner log 42 --tail 20
    $ jobrunner log 42 --follow
    """
    with Client(url) as client:
        job = client.job(job_id)
        if not follow:
            click.echo(job.log(tail=tail, attempt=attempt), nl=False)
            return
        job.refresh()  # what is not there is told at once
        with in_sight([job_id]):
            _follow_log(job, tail, attempt)


def _follow_log(job: Job, tail: int | None, only: int | None) -> None:
    attempt = only or job.attempt
    pieces = _pieces(job, attempt, only)
    if tail is not None:
        click.echo(_last_lines("".join(_so_far(pieces, job.data["version"])), tail), nl=False)
    for piece in pieces:
        if piece.attempt > attempt:
            attempt = piece.attempt
            click.echo(f"attempt {attempt}", err=True)
        click.echo(piece.text, nl=False)


class _Piece(NamedTuple):
    """One entry of a job's history; `text` is what it adds to the log."""

    seq: int
    attempt: int
    text: str


def _pieces(job: Job, first: int, only: int | None) -> Iterator[_Piece]:
    for event in job.events():
        if only is not None and event["attempt"] > only:
            return
        if event["attempt"] >= first:
            yield _Piece(event["seq"], event["attempt"], event["text"] if event["event"] == "log" else "")


def _so_far(pieces: Iterator[_Piece], version: int) -> Iterator[str]:
    for piece in pieces:
        yield piece.text
        if piece.seq >= version:
            return


def _last_lines(text: str, count: int) -> str:
    lines = text.removesuffix("\n").split("\n")[-count:]
    return "\n".join(lines) + "\n" * text.endswith("\n")


# -- partials --------------------------------------------------------------------------------------


@click.command(cls=Command, epilog=READING_HELP)
@id_argument()
@click.option("--follow", is_flag=True, help="Go on until the job is final.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Only of this attempt.")
@click.option(
    "--after", type=click.IntRange(min=0), metavar="SEQ", default=0, help="Only those after this seq."
)
@click.option("--json", "as_json", is_flag=True, help="Print them whole: seq, attempt, at, value.")
@url_option
def partials(*, job_id: int, follow: bool, attempt: int | None, after: int, as_json: bool, url: str) -> None:
    """Print what a job has yielded: JSON, one value a line.

    With --follow each is printed once and in order, also when the API is started again meanwhile.

    $ jobrunner partials 42
    $ jobrunner partials 42 --follow | jq .loss
    $ jobrunner partials 42 --attempt 2 --after 17 --json
    """

    def show(found: Iterator[PartialData]) -> None:
        for one in found:
            if attempt is None or one["attempt"] == attempt:
                click.echo(json.dumps(one if as_json else one["value"]))

    with Client(url) as client:
        job = client.job(job_id)
        if not follow:
            show(_there_are(job, after))
            return
        job.refresh()  # what is not there is told at once
        with in_sight([job_id]):
            show(_as_they_come(job, after))


def _there_are(job: Job, after: int) -> Iterator[PartialData]:
    while found := job.partials_so_far(after)["items"]:
        yield from found
        after = found[-1]["seq"]


def _as_they_come(job: Job, after: int) -> Iterator[PartialData]:
    for one in job.partials(after):
        at = one.at.isoformat().replace("+00:00", "Z")
        told: PartialData = {"seq": one.seq, "attempt": one.attempt, "at": at, "value": one.value}
        yield told if one.index is None else {**told, "index": one.index}


# -- attempts --------------------------------------------------------------------------------------


@click.command(cls=Command)
@id_argument()
@json_option
@url_option
def attempts(*, job_id: int, as_json: bool, url: str) -> None:
    """List the runs of a job: where, for how long, how they ended, what they took; times are UTC.

    $ jobrunner attempts 42
    $ jobrunner attempts 42 --json | jq '.[].error'
    """
    with Client(url) as client:
        found = client.job(job_id).attempts()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    heads = ("ATTEMPT", "STARTED (UTC)", "RAN", "CPU", "MEMORY", "DISPATCHER", "WORKER", "OUTCOME")
    for line in words.table(heads, map(_row, found)):
        click.echo(line)


def _row(one: AttemptData) -> tuple[str, ...]:
    cpu, memory, worker = one["cpu_seconds"], one["peak_memory_bytes"], one["worker"]
    return (
        str(one["attempt"]),
        words.moment(one["started_at"]),
        words.lasted(one["started_at"], one["finished_at"]),
        "" if cpu is None else f"{cpu:.3g} s",
        "" if memory is None else sizes.in_words(memory),
        str(one["dispatcher"]),
        "" if worker is None else str(worker),
        words.failure(one["error"]) if one["error"] else one["outcome"] or "runs",
    )

"""`jobrunner demo`: the whole of it in a few seconds, with results that are checked."""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from jobrunner.cli import children, ports, words
from jobrunner.cli.display import Display, ManyLines
from jobrunner.cli.firstline import first_curl_line
from jobrunner.cli.teaching import Command
from jobrunner.cli.verdicts import Example, Verdict, can_train, examples
from jobrunner.client import Client, ClientError, JobData
from jobrunner.client.client import DEFAULT_URL
from jobrunner.client.following import Follower, follow
from jobrunner.errors import JobrunnerError
from jobrunner.figures import Slot

_START_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.05
_HOST: Final = "127.0.0.1"


class DemoError(JobrunnerError):
    """The demo could not be shown."""


@click.command(cls=Command)
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Keep the jobs here."
)
def demo(data: Path | None) -> None:
    """Run the examples on all cores, check their results, and stop.

    It starts `jobrunner serve` on a free port, submits a job for each example, shows how they come on, and
    compares every result with a value from elsewhere.  The exit status is 0 only if all are right.

    $ jobrunner demo
    $ jobrunner demo --data demo-data
    """
    folder = (data or Path(tempfile.mkdtemp(prefix="jobrunner-demo-"))).absolute()
    try:
        with _served(folder) as client:
            click.echo(f"jobrunner serves at {client.url}")
            right = _run(client)
    except KeyboardInterrupt:
        click.echo("\nstopped before the end", err=True)
        sys.exit(128 + signal.SIGINT)
    _say_how_to_go_on(folder, is_temporary=data is None)
    sys.exit(0 if right else 1)


@contextmanager
def _served(folder: Path) -> Iterator[Client]:
    """Run `jobrunner serve` for the length of a block."""
    folder.mkdir(parents=True, exist_ok=True)
    port = ports.free_port(_HOST, 0)
    flags = {"data": folder, "host": _HOST, "port": port, "tasks": "jobrunner.examples", "drain-seconds": 0}
    command = [sys.executable, "-m", "jobrunner", "serve"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("JOBRUNNER_")}
    log = folder / "serve.log"
    with log.open("ab") as output:
        server = children.start(command, {**environ, "JOBRUNNER_CONFIG": os.devnull}, output)
    try:
        with Client(ports.url(_HOST, port)) as client:
            _wait_until_ready(server, client, log)
            yield client
    finally:
        server.terminate()
        server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], client: Client, log: Path) -> None:
    give_up_at = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < give_up_at:
        try:
            if all(check["ok"] for check in client.checks()):
                return
        except ClientError:
            pass  # it does not listen yet
        time.sleep(_LOOK_SECONDS)
    raise DemoError(f"jobrunner serve did not start; {log} says why")


def _run(client: Client) -> bool:
    """Run the examples and print what came of them; return whether all is right."""
    if not can_train():
        click.echo("examples.train_digits needs scikit-learn: pip install 'jobrunner[examples]'")
    submitted = {client.submit(one.task, **one.params).id: one for one in examples()}
    jobs: dict[int, JobData] = {}
    with _display() as display:
        for news in follow(*(Follower(client, job_id) for job_id in submitted)):
            display.show(news)
            jobs[news.job["id"]] = news.job
    verdicts = [(one, _judged(one, jobs[job_id])) for job_id, one in submitted.items()]
    rows = [(one.task, "right" if said.right else "WRONG", said.how) for one, said in verdicts]
    _print_table(("TASK", "RESULT", "HOW WE KNOW"), rows)
    _print_throughput(client, len(jobs))
    return all(said.right for _, said in verdicts)


def _judged(example: Example, job: JobData) -> Verdict:
    if job["state"] != "succeeded":
        return Verdict(right=False, how=" ".join([words.state(job), *words.outcome(job)]))
    return example.judge(job["result"])


def _print_throughput(client: Client, jobs: int) -> None:
    """Print what each worker did, once the dispatcher's heartbeat has told of all the jobs."""
    give_up_at = time.monotonic() + 5.0
    slots = _slots(client)
    while sum(slot["done"] + slot["failed"] for slot in slots) < jobs and time.monotonic() < give_up_at:
        time.sleep(_LOOK_SECONDS)
        slots = _slots(client)
    heads = ("WORKER", "JOBS", "PARTIAL RESULTS", "BUSY", "PARTIAL RESULTS A SECOND")
    _print_table(heads, [_throughput(slot) for slot in slots])


def _throughput(slot: Slot) -> tuple[str, ...]:
    busy_seconds, partials = slot["busy_seconds"], slot["partials"]
    rate = partials / busy_seconds if busy_seconds else 0.0
    jobs = slot["done"] + slot["failed"]
    return str(slot["worker"]), str(jobs), str(partials), f"{busy_seconds:.1f} s", f"{rate:.0f}"


def _slots(client: Client) -> list[Slot]:
    return [slot for dispatcher in client.stats()["dispatchers"] for slot in dispatcher["slots"]]


def _print_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    click.echo()
    for line in words.table(heads, rows):
        click.echo(line)


def _display() -> Display:
    if not sys.stdout.isatty():
        return ManyLines()
    from jobrunner.cli.bar import Bars  # noqa: PLC0415 - not needed, and slow to load, without a terminal

    return Bars()


def _say_how_to_go_on(folder: Path, *, is_temporary: bool) -> None:
    place = shlex.quote(str(folder))
    click.echo(f"\nThe jobs, and the log of what ran them, are in {folder}.  To go on:")
    click.echo(f"  jobrunner serve --data {place}")
    click.echo(f"  {first_curl_line(DEFAULT_URL, ['examples.primes'])}")
    click.echo("  jobrunner list")
    if is_temporary:
        click.echo(f"  rm -r {place}")

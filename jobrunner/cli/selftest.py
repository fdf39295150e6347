"""`jobrunner selftest`: kill everything at random, then audit what is left."""

import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import click

from jobrunner.cli.teaching import Command
from jobrunner.errors import JobrunnerError
from jobrunner.selftest.audit import Finding, Line
from jobrunner.selftest.run import Outcome, Plan, run

_MOST_NAMED: Final = 20  #: of the jobs or faults of one line
_INTERRUPTED: Final = 128 + signal.SIGINT


class FolderInUseError(JobrunnerError):
    """The directory is not empty."""


@click.command(cls=Command)
@click.option("--kill", is_flag=True, help="Kill, stop and restart its processes all the while.")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 7 * 86_400),
    default=60.0,
    show_default=True,
    metavar="N",
    help="How long jobs are submitted; starting, settling and the audit come on top.",
)
@click.option(
    "--seed", type=int, metavar="S", help="Decide the same things as another run.  [default: a new one]"
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep store, journal and logs here; must be empty.  [default: a temporary directory]",
)
def selftest(kill: bool, seconds: float, seed: int | None, data: Path | None) -> None:
    """Check on this machine that no job is lost, whatever is killed.

    It starts two `jobrunner serve` on a store of its own and submits jobs of many kinds to both, cancels some and
    runs some again.  With --kill it meanwhile kills (SIGKILL) job processes, workers, result writers, dispatchers,
    API processes and whole serves, has some stand still for longer than their lease, and stops and restarts others.
    Without, the jobs alone are the test.

    At the end it compares the store with a journal that it has kept outside: each line but the first must say 0.
    Any other number ends it with status 1 and the ids of the jobs, and the directory is kept.

    The seed decides what is done when; which process that hits also depends on who is there.  Ctrl-C ends the run
    early and audits what there is; a second one ends everything at once.

    $ jobrunner selftest --kill
    $ jobrunner selftest --kill --seconds 600 --seed 7 --data /tmp/evidence
    """
    folder = _folder(data)
    chosen = random.SystemRandom().randrange(10**6) if seed is None else seed
    plan = Plan(folder, seconds, chosen, kill)
    try:
        with _stop_at_first_interrupt() as is_stopped:
            outcome = run(plan, click.echo, is_stopped)
    except KeyboardInterrupt:
        click.echo(f"stopped before the audit; what there is lies in {folder}", err=True)
        sys.exit(_INTERRUPTED)
    except JobrunnerError:
        click.echo(f"no audit: what there is lies in {folder}", err=True)
        raise
    sys.exit(_finish(outcome, folder, is_temporary=data is None))


def _finish(outcome: Outcome, folder: Path, *, is_temporary: bool) -> int:
    """Show what came of it, remove what nobody needs, and return the exit status."""
    is_clean = outcome.acknowledged > 0 and not outcome.findings
    if is_temporary and is_clean:
        shutil.rmtree(folder)
    else:
        click.echo(f"store, journal and logs are in {folder}")
    for line in report(outcome):
        click.echo(line)
    if outcome.acknowledged == 0:
        click.echo("nothing was acknowledged, so nothing was tested", err=True)
    return 0 if is_clean else 1


def _folder(data: Path | None) -> Path:
    if data is None:
        return Path(tempfile.mkdtemp(prefix="jobrunner-selftest-"))
    folder = data.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FolderInUseError(
            f"{folder} is not empty: the selftest kills what it starts, so it shares with nobody"
        )
    return folder


@contextmanager
def _stop_at_first_interrupt() -> Iterator[Callable[[], bool]]:
    """Hand out whether Ctrl-C or SIGTERM has come; the second one raises KeyboardInterrupt."""
    heard: list[int] = []

    def hear(signum: int, _: FrameType | None) -> None:
        heard.append(signum)
        if len(heard) > 1:
            raise KeyboardInterrupt
        click.echo("stopping early; again to end at once, without the audit", err=True)

    before = {signum: signal.signal(signum, hear) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(heard)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def report(outcome: Outcome) -> Iterator[str]:
    """Show what is wrong, then a line for each thing that must not have happened."""
    found = {line: [one for one in outcome.findings if one.line is line] for line in Line}
    for line, those in found.items():
        for one in those[:_MOST_NAMED]:
            whose = "" if one.job_id is None else f"job {one.job_id}: "
            yield f"{line}: {whose}{one.detail}"
    width = max(map(len, Line)) + 2
    yield f"{'acknowledged':{width}}{outcome.acknowledged:>7}"
    for line, those in found.items():
        yield f"{line:{width}}{_verdict(line, those)}".rstrip()


def _verdict(line: Line, those: Sequence[Finding]) -> str:
    ids = sorted({one.job_id for one in those if one.job_id is not None})
    count = len(ids) + sum(one.job_id is None for one in those)
    said = "ok" if line is Line.FILE and not those else str(count)
    named = ", ".join(map(str, ids[:_MOST_NAMED])) + (", ..." if len(ids) > _MOST_NAMED else "")
    return f"{said:>7}  {f'jobs {named}' if ids else ''}"

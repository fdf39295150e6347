"""`jobrunner top`."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import click
from rich.console import Console, RenderableType
from rich.live import Live

from jobrunner.cli.board import frame
from jobrunner.cli.flow import Flow
from jobrunner.cli.options import url_option
from jobrunner.cli.teaching import Command
from jobrunner.client import Client, ClientError, JobData, ProblemError
from jobrunner.figures import Stats
from jobrunner.lifecycle import State

_ANSWER_SECONDS: Final = 5.0  #: until an API that does not answer is said to be away
_MOST_RUNNING: Final = 1000  #: jobs whose tasks are asked for at a time


@click.command(cls=Command)
@click.option(
    "--once", is_flag=True, help="Print one frame and end; so it is also where there is no terminal."
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1, max=3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Look so often.",
)
@url_option
def top(*, once: bool, interval: float, url: str) -> None:
    """Watch what waits, what gets done, and what every worker does; Ctrl-C ends it.

    A worker's share of BUSY is of the time between two heartbeats; in the first frame, of the time since its dispatcher
    started.

    $ jobrunner top
    $ jobrunner top --interval 5
    $ jobrunner top --once
    """
    console = Console(highlight=False)
    with Client(url, timeout_seconds=_ANSWER_SECONDS, patience_seconds=0.0) as client:
        view = _View(client)
        first = view.look()  # what never was there is told like any command tells it
        if once or not sys.stdout.isatty():
            console.print(first)
            return
        # Without this a SIGTERM would leave the terminal as it is drawn.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with (
            suppress(KeyboardInterrupt),
            Live(first, console=console, screen=True, auto_refresh=False) as live,
        ):
            while True:
                time.sleep(interval)
                live.update(view.look_or_tell(), refresh=True)


class _View:
    """What the looks so far have found."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._flow = Flow()
        self._tasks: dict[int, str] = {}
        self._maps: list[JobData] = []
        self._last: Stats | None = None

    def look(self) -> RenderableType:
        """Return a frame of how things stand now."""
        stats = self._client.stats()
        self._flow.note(stats)
        self._learn_jobs(set(_jobs_in_hand(stats)), stats["jobs"][State.RUNNING])
        self._last = stats
        return self._frame(stats)

    def look_or_tell(self) -> RenderableType:
        """Return a frame as `look` does; if the API is away, the last one that there was, which says so."""
        try:
            return self.look()
        except ClientError as error:
            is_final = isinstance(error, ProblemError) and error.status < _SERVER_ERROR
            if is_final or self._last is None:
                raise
            return self._frame(self._last, f"the API is away, trying again: {error}")

    def _frame(self, stats: Stats, trouble: str = "") -> RenderableType:
        return frame(stats, self._flow, self._tasks, self._client.url, trouble=trouble, maps=self._maps)

    def _learn_jobs(self, ids: set[int], running_count: int) -> None:
        """Ask which task each of these jobs is of, unless all are known, and how far map jobs have come.

        One that is paused runs too, and is in no worker's hands.
        """
        known = {job_id: task for job_id, task in self._tasks.items() if job_id in ids}
        if ids - known.keys() or self._maps or running_count > len(ids):
            running = list(self._client.jobs(state=State.RUNNING, limit=_MOST_RUNNING))
            known |= {job.id: job.task for job in running}
            self._maps = [job.data for job in running if job.map is not None]
        self._tasks = known


_SERVER_ERROR: Final = 500


def _jobs_in_hand(stats: Stats) -> Iterator[int]:
    for dispatcher in stats["dispatchers"]:
        for slot in dispatcher["slots"]:
            if slot["job_id"] is not None:
                yield slot["job_id"]

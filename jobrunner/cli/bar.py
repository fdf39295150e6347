"""Following jobs in a terminal: a bar for each at the bottom, partial results rolling above it."""

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from jobrunner.cli import words
from jobrunner.cli.display import Display, Story
from jobrunner.client import JobData
from jobrunner.client.following import News
from jobrunner.lifecycle import State

_LONGEST_RESULT: Final = 2000  #: characters; `jobrunner show --json` has the rest


class Bars(Display):
    """A line for each job, redrawn in place."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[done]}", markup=False),
            TextColumn("{task.fields[state]}", markup=False),
            console=console or Console(highlight=False),
        )
        self._bars: dict[int, TaskID] = {}

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they stand."""
        self._progress.stop()

    def show(self, news: News) -> None:
        """Draw the job's bar."""
        job = news.job
        if job["id"] not in self._bars:
            self._bars[job["id"]] = self._progress.add_task(self._title(job), total=None, done="", state="")
        said = job["progress"] or {"done": job["partials"], "total": None}
        done, total = said["done"], said["total"]
        if job["state"] == "succeeded":  # a full bar, whatever it has said
            done = total = total or done or 1
        self._progress.update(
            self._bars[job["id"]],
            completed=done,
            total=total,
            done=self._done(job),
            state=words.standing(job),
        )

    def _title(self, job: JobData) -> str:
        return f"job {job['id']} {job['task']}"

    def _done(self, job: JobData) -> str:
        return words.percent(job)


class Bar(Bars):
    """One job: its bar, and all that it says."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._story = Story()

    def show(self, news: News) -> None:
        """Print partial results above the bar, and redraw it; at the end print the result."""
        width = self._progress.console.width - len("partial: ")
        for line in self._told(news, width):
            self._print(line)
        super().show(news)
        if news.is_last:
            for line in words.outcome(news.job, _LONGEST_RESULT):
                self._print(line)

    def _told(self, news: News, width: int) -> Iterator[str]:
        yield from self._story.past(news, width)
        if news.job["state"] == State.RUNNING:
            yield from self._story.announced(news.job["attempt"])
        yield from self._story.present(news, width)

    def _title(self, job: JobData) -> str:
        return super()._title(job) if job["map"] is None else f"job {job['id']}"  # the figures need the room

    def _done(self, job: JobData) -> str:
        return words.progress(job) if job["map"] is None else words.share(job["map"])

    def _print(self, line: str) -> None:
        self._progress.console.print(Text(line))  # as it is: no markup, no colours of its own

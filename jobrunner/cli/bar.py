"""Following a job in a terminal: a bar at the bottom, partial results rolling above it."""

from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from jobrunner.cli import words
from jobrunner.cli.display import Display
from jobrunner.client.following import News

_LONGEST_RESULT: Final = 2000  #: characters; `jobrunner show --json` has the rest


class Bar(Display):
    """One line for the job, redrawn in place."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            TimeElapsedColumn(),
            console=console or Console(highlight=False),
        )
        self._line = self._progress.add_task("", total=None, said="")

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()

    def show(self, news: News) -> None:
        """Print partial results above the bar, and redraw it; at the end print the result."""
        job = news.job
        width = self._progress.console.width
        for partial in news.partials:
            self._print(words.partial(partial, width - len("partial: ")))
        said = job["progress"] or {"done": job["partials"], "total": None, "message": None}
        finished = news.is_last and job["state"] == "succeeded"
        self._progress.update(
            self._line,
            description=f"{job['task']}: {words.state(job)}",
            completed=said["done"],
            total=(said["total"] or said["done"] or 1) if finished else said["total"],
            said=words.progress(job),
        )
        if news.is_last:
            for line in words.outcome(job, _LONGEST_RESULT):
                self._print(line)

    def _print(self, line: str) -> None:
        self._progress.console.print(Text(line))  # as it is: no markup, no colours of its own

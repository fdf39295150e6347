"""What somebody sees who follows a job: plain lines, or JSON; `bar` has the one for terminals."""

import json
import time
from contextlib import AbstractContextManager
from typing import Final

import click

from jobrunner.cli import words
from jobrunner.client.following import News

PROGRESS_SECONDS: Final = 1.0  #: between two lines that tell of nothing but progress


class Display(AbstractContextManager["Display"]):
    """Shows the news of one job, from `with` to the end of its block."""

    def show(self, news: News) -> None:
        """Show what a look found."""
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""


class JsonLines(Display):
    """Each partial result, then the final job, as JSON on a line of its own."""

    def show(self, news: News) -> None:
        """Print the partial results, and the job if this is all."""
        for partial in news.partials:
            click.echo(json.dumps(partial))
        if news.is_last:
            click.echo(json.dumps(news.job))


class PlainLines(Display):
    """Changes of state, partial results, the result; progress now and then."""

    def __init__(self) -> None:
        self._state = ""
        self._progress_at = -PROGRESS_SECONDS

    def show(self, news: News) -> None:
        """Print what changed."""
        for line in self._lines(news):
            click.echo(line)

    def _lines(self, news: News) -> list[str]:
        lines = [words.partial(one) for one in news.partials]
        said = words.state(news.job)
        if said != self._state:
            # Results came before the end, and after any other state.
            self._state = said
            lines.insert(len(lines) if news.is_last else 0, said)
        now = time.monotonic()
        progress = words.progress(news.job)
        if (
            not news.partials
            and not news.is_last
            and progress
            and now - self._progress_at >= PROGRESS_SECONDS
        ):
            self._progress_at = now
            lines.append(f"progress: {progress}")
        return [*lines, *(words.outcome(news.job) if news.is_last else ())]

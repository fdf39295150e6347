"""What somebody sees who follows a job: plain lines, or JSON; `bar` has the one for terminals."""

import json
import math
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final

import click

from jobrunner.cli import words
from jobrunner.client import PartialData
from jobrunner.client.following import News
from jobrunner.lifecycle import FINAL, State

PROGRESS_SECONDS: Final = 1.0  #: between two lines that tell of nothing but progress


class Display(AbstractContextManager["Display"]):
    """Shows the news of one job, from `with` to the end of its block."""

    @abstractmethod
    def show(self, news: News) -> None:
        """Show what a look found."""

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""


class JsonLines(Display):
    """Each partial result (not the values of a map job), then the final job, as JSON on a line of its own."""

    def show(self, news: News) -> None:
        """Print the partial results, and the job if this is all."""
        for partial in news.partials:
            click.echo(json.dumps(partial))
        if news.is_last:
            click.echo(json.dumps(news.job))


class ManyLines(Display):
    """Of many jobs: changes of state, and progress now and then."""

    def __init__(self) -> None:
        self._states: dict[int, str] = {}
        self._progress_at: dict[int, float] = {}

    def show(self, news: News) -> None:
        """Print what changed."""
        task = news.job["task"]
        for line in (self._new_state(news), self._new_progress(news)):
            if line:
                click.echo(f"{task}: {line}")

    def _new_state(self, news: News) -> str:
        job_id, said = news.job["id"], words.state(news.job)
        if said == self._states.get(job_id) or (news.job["state"] in FINAL and not news.is_last):
            return ""
        self._states[job_id] = said
        return said

    def _new_progress(self, news: News) -> str:
        job_id, said, now = news.job["id"], words.progress(news.job), time.monotonic()
        if not said or news.is_last or now - self._progress_at.get(job_id, -math.inf) < PROGRESS_SECONDS:
            return ""
        self._progress_at[job_id] = now
        return said


class Story:
    """What the attempts of one job have yielded and why they ended; each but the first is announced."""

    def __init__(self) -> None:
        self._attempt = 1

    def past(self, news: News, most: int | None = None) -> Iterator[str]:
        """Tell of the attempts that are over; of a partial result only the first `most` characters."""
        ended = {one["attempt"]: one for one in news.ended}
        found = [one for one in news.partials if not self._is_present(one, news)]
        for number in sorted({one["attempt"] for one in found} | ended.keys()):
            yield from self.announced(number)
            yield from (words.partial(one, most) for one in found if one["attempt"] == number)
            if number in ended:
                yield words.ended(ended[number])

    def present(self, news: News, most: int | None = None) -> Iterator[str]:
        """Tell what the attempt that runs has yielded."""
        yield from (words.partial(one, most) for one in news.partials if self._is_present(one, news))

    def announced(self, number: int) -> Iterator[str]:
        """Say that an attempt begins, once, and not of the first."""
        if number > self._attempt:
            self._attempt = number
            yield f"attempt {number}"

    @staticmethod
    def _is_present(one: PartialData, news: News) -> bool:
        return news.job["state"] == State.RUNNING and one["attempt"] == news.job["attempt"]


class PlainLines(ManyLines):
    """Of one job: changes of state, partial results, the result; progress if nothing else comes."""

    def __init__(self) -> None:
        super().__init__()
        self._story = Story()

    def show(self, news: News) -> None:
        """Print what changed."""
        lines = [*self._story.past(news), self._new_state(news)]
        if news.job["state"] == State.RUNNING:
            list(self._story.announced(news.job["attempt"]))  # the new state has said so
        partials = [*self._story.present(news)]
        progress = (
            [] if news.partials else [f"progress: {said}" for said in [self._new_progress(news)] if said]
        )
        outcome = words.outcome(news.job) if news.is_last else ()
        for line in filter(None, [*lines, *partials, *progress, *outcome]):
            click.echo(line)

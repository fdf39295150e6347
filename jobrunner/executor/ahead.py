"""What `map` does: it takes results in order, and submits calls ahead of them."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, Generic, TypeVar

from jobrunner.client import ClientError, Job
from jobrunner.executor.failures import exception

T = TypeVar("T")


class Ahead(Generic[T]):
    """The map jobs of one `map`: those whose results were not all taken yet.

    Results wait in the store until it is their turn: here, no more than a page of them is held.
    """

    def __init__(
        self,
        take: Callable[[int], Sequence[Any]],
        submit: Callable[[Sequence[Any]], list[Job]],
        forget: Callable[[int], bool],
        window: int,
        most: float,
    ) -> None:
        """Submit nothing yet.

        Args:
            take: returns the next items, at most so many; none if there are no more.
            submit: stores them, as one map job or several.
            forget: is called with the id of each job whose results are not wanted any more; returns whether it is
                still this process's, and no parent's.
            window: items that are taken at a time, at most.
            most: items that are submitted and whose result was not taken.
        """
        self._take = take
        self._submit = submit
        self._forget = forget
        self._window = window
        self._most = most
        self._ahead = 0
        self._jobs: deque[Job] = deque()

    def fill(self) -> None:
        """Submit as many as there is room for; if that goes wrong, none of them is wanted."""
        try:
            while self._ahead + self._window <= self._most and (items := self._take(self._window)):
                self._jobs.extend(self._submit(items))
                self._ahead += len(items)
        except BaseException:
            self._leave_all()
            raise

    def results(self, end: float) -> Iterator[T]:
        """Yield results until the monotonic time `end`; whoever leaves early wants none of the rest."""
        try:
            while self._jobs:
                yield from self._of(self._jobs[0], end)
                self._forget(self._jobs.popleft().id)
        finally:
            self._leave_all()

    def _of(self, job: Job, end: float) -> Iterator[T]:
        missing = job.map["items"] if job.map else 0
        for item in job.settled(end - time.monotonic()):
            if item.error is not None:
                failure = exception(job.id, item.error)
                failure.add_note(f"(item {item.index} of job {job.id})")
                raise failure
            missing -= 1
            self._ahead -= 1
            self.fill()
            yield item.value
        if missing:  # the job has ended before
            error = job.refresh().error
            raise CancelledError if error is None else exception(job.id, error)

    def _leave_all(self) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            if self._forget(job.id):
                with contextlib.suppress(
                    ClientError
                ):  # it has ended, or does its work for nothing and no harm
                    job.cancel()

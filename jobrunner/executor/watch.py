"""The one thread that watches all jobs of an executor.

It asks the API which of them have finished, and the API answers when one has.  The executor's label keeps the
question short: it names ranges of ids, whatever other jobs lie between.
"""

import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from jobrunner.answers import Finished
from jobrunner.client import Client, ClientError, ProblemError
from jobrunner.client.job import WAIT_SECONDS
from jobrunner.executor.failures import exception
from jobrunner.executor.future import JobFuture
from jobrunner.lifecycle import State

MOST_RANGES: Final = 90  #: in one question, for a URL may have 4000 characters
MOST_CANCELLED: Final = 10_000  #: in one request
_REST_SECONDS_PER_JOB: Final = 1e-5  # the more jobs are pending, the more may be told in one answer
_LONGEST_REST_SECONDS: Final = 1.0
_TURN_SECONDS: Final = 0.05  # between two questions, if it takes several to name all ranges
_NOT_FOUND: Final = 404


class _Question(NamedTuple):
    """Ranges of ids; `is_whole` if they hold every pending job."""

    ranges: list[tuple[int, int | None]]
    is_whole: bool


class Watch:
    """The pending futures by job id."""

    def __init__(self, client: Client, labels: dict[str, str]) -> None:
        """Start nothing yet.

        Args:
            client: asks.
            labels: the one label that all these jobs have, and no others.
        """
        self._client = client
        self._labels = labels
        self._lock = threading.Condition()
        self._pending: dict[int, tuple[int, JobFuture[Any]]] = {}  # with its number among all, ids ascending
        self._numbers = 0
        self._newest_id = 0
        self._changed = threading.Event()
        self._turn = 0
        self._thread: threading.Thread | None = None

    def add(self, futures: Iterable[JobFuture[Any]]) -> None:
        """Watch these too; their ids are above those of all that came before."""
        with self._lock:
            for future in futures:
                self._numbers += 1
                self._newest_id = future.job.id
                self._pending[future.job.id] = (self._numbers, future)
            if self._pending and self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="jobrunner-executor", daemon=True)
                self._thread.start()
        self._changed.set()

    def forget(self, job_id: int) -> bool:
        """Stop watching a job; return whether it was watched."""
        with self._lock:
            was_watched = self._pending.pop(job_id, None) is not None
        self._changed.set()
        return was_watched

    def join(self) -> None:
        """Return when nothing is pending."""
        with self._lock:
            self._lock.wait_for(lambda: self._thread is None)

    def pending(self) -> list[JobFuture[Any]]:
        """Return the futures that are not done."""
        with self._lock:
            return [future for _, future in self._pending.values()]

    def cancel_queued(self, futures: Sequence[JobFuture[Any]]) -> None:
        """Cancel those of these that have not begun."""
        by_id = {future.job.id: future for future in futures if not future.done()}
        ids = list(by_id)
        for first in range(0, len(ids), MOST_CANCELLED):
            for job_id in self._client.cancel_queued(ids[first : first + MOST_CANCELLED]):
                by_id[job_id].become_cancelled()

    # -- the thread --------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._is_over():
            self._changed.clear()
            question = self._question()
            try:
                self._ask(question)
            except ClientError as error:
                self._give_up(error)
            rest_seconds = min(len(self._pending) * _REST_SECONDS_PER_JOB, _LONGEST_REST_SECONDS)
            time.sleep(rest_seconds if question.is_whole else max(rest_seconds, _TURN_SECONDS))

    def _is_over(self) -> bool:
        with self._lock:
            if self._pending:
                return False
            self._thread = None
            self._lock.notify_all()
            return True

    def _question(self) -> _Question:
        with self._lock:
            numbered = [(number, job_id) for job_id, (number, _) in self._pending.items()]
        ranges: list[tuple[int, int | None]] = []
        # Between two whose numbers follow each other, no job of ours has ended: others do not count.
        for _, run in itertools.groupby(enumerate(numbered), lambda one: one[1][0] - one[0]):
            ids = [job_id for _, (_, job_id) in run]
            ranges.append((ids[0], ids[-1]))
        # What is submitted from now on is asked for too.
        if ranges and ranges[-1][1] == self._newest_id:
            ranges[-1] = (ranges[-1][0], None)
        else:
            ranges.append((self._newest_id + 1, None))
        if len(ranges) <= MOST_RANGES:
            return _Question(ranges, is_whole=True)
        self._turn = self._turn + MOST_RANGES if self._turn + MOST_RANGES < len(ranges) else 0
        return _Question(ranges[self._turn : self._turn + MOST_RANGES], is_whole=False)

    def _ask(self, question: _Question) -> None:
        wait_seconds = WAIT_SECONDS if question.is_whole else 0
        start = time.monotonic()
        found = self._client.finished(self._labels, question.ranges, wait_seconds=wait_seconds)
        resolved = [self._resolve(one) for one in found]
        if any(resolved) or not question.is_whole:
            return
        if not found:
            self._look_at_the_oldest()
        if time.monotonic() - start < _LONGEST_REST_SECONDS:
            # It answered early without news: as many wait as may, or what it told is added,
            # or forgotten, at this moment.
            self._changed.wait(_LONGEST_REST_SECONDS)

    def _resolve(self, told: Finished) -> bool:
        with self._lock:
            _, future = self._pending.get(told["id"], (0, None))
        if future is None:
            return False
        result: Any = None
        failure: Exception | None = None
        if told["state"] == State.CANCELLED:
            future.become_cancelled()
            return True
        if told["error"] is not None:
            failure = exception(told["id"], told["error"])
        elif "result" in told:
            result = told["result"]
        else:
            result = self._client.job(told["id"]).result()
        if self.forget(told["id"]):
            future.become(result, failure)
        return True

    def _look_at_the_oldest(self) -> None:
        """See whether it is there at all: a job that was deleted will never finish."""
        for future in self.pending()[:1]:
            try:
                future.job.refresh()
            except ProblemError as problem:
                if problem.status != _NOT_FOUND:
                    raise
                if self.forget(future.job.id):
                    future.become(None, problem)

    def _give_up(self, error: ClientError) -> None:
        for future in self.pending():
            if self.forget(future.job.id):
                future.become(None, error)

"""The one thread that watches all jobs of an executor.

It asks the API which of them have finished, and the API answers when one has.  The executor's label keeps the
question short: it names ranges of ids, whatever other jobs lie between.
"""

import itertools
import logging
import threading
import time
from bisect import bisect
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from jobrunner.answers import Finished
from jobrunner.client import Client, ClientError, JobCancelledError, ProblemError
from jobrunner.client.streams import WAIT_SECONDS
from jobrunner.executor.failures import exception
from jobrunner.executor.future import JobFuture
from jobrunner.lifecycle import State

MOST_RANGES: Final = 90  #: in one question, for a URL may have 4000 characters
MOST_CANCELLED: Final = 10_000  #: in one request
_REST_SECONDS_PER_JOB: Final = 1e-5  # the more jobs are pending, the more may be told in one answer
_LONGEST_REST_SECONDS: Final = 1.0
_TURN_SECONDS: Final = 0.05  # between two questions, if it takes several to name all ranges
_NOT_FOUND: Final = 404
_log: Final = logging.getLogger(__name__)


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
        self._told: dict[int, Finished] = {}  # of jobs that nobody here knows, or not yet
        self._changed = threading.Event()
        self._turn = 0
        self._thread: threading.Thread | None = None

    def add(self, futures: Iterable[JobFuture[Any]]) -> None:
        """Watch these too; their ids are above those of all that came before."""
        told = []
        with self._lock:
            for future in futures:
                self._numbers += 1
                self._newest_id = future.job.id
                self._pending[future.job.id] = (self._numbers, future)
                if future.job.id in self._told:
                    told.append(self._told.pop(future.job.id))
            if self._pending and self._thread is None:
                thread = threading.Thread(target=self._watch, name="jobrunner-executor", daemon=True)
                thread.start()
                self._thread = thread
        self._changed.set()
        for one in told:  # before it was added; it is not told again
            self._resolve(one)

    def forget(self, job_id: int) -> bool:
        """Stop watching a job; return whether it was watched."""
        with self._lock:
            was_watched = self._pending.pop(job_id, None) is not None
        self._changed.set()
        return was_watched

    def join(self) -> None:
        """Return when nothing is pending.

        Raises:
            RuntimeError: the watching thread asks, in a callback; it would wait for itself.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("cannot join current thread")
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
            try:
                self._take_a_turn()
            except ClientError as error:
                self._give_up(error)
            except BaseException as error:  # noqa: BLE001 - nobody looks at this thread: the futures must tell
                failure = RuntimeError(f"the executor does not watch its jobs any more: {error!r}")
                failure.__cause__ = error
                self._give_up(failure)

    def _take_a_turn(self) -> None:
        self._changed.clear()
        question = self._question()
        self._ask(question)
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
            oldest = numbered[0][1] if numbered else self._newest_id
            self._told = {job_id: one for job_id, one in self._told.items() if job_id > oldest}
            told = sorted(self._told)
        ranges: list[tuple[int, int | None]] = []
        # Between two whose numbers follow each other, no job of ours has ended: others do not count,
        # unless one was told that has our label.
        for _, run in itertools.groupby(
            enumerate(numbered), lambda one: (one[1][0] - one[0], bisect(told, one[1][1]))
        ):
            ids = [job_id for _, (_, job_id) in run]
            ranges.append((ids[0], ids[-1]))
        # What is submitted from now on is asked for too.
        first = ranges.pop()[0] if ranges and ranges[-1][1] == self._newest_id else self._newest_id + 1
        for job_id in told[bisect(told, self._newest_id) :]:
            if first < job_id:
                ranges.append((first, job_id - 1))
            first = job_id + 1
        ranges.append((first, None))
        if len(ranges) <= MOST_RANGES:
            return _Question(ranges, is_whole=True)
        self._turn = self._turn + MOST_RANGES if self._turn + MOST_RANGES < len(ranges) else 0
        return _Question(ranges[self._turn : self._turn + MOST_RANGES], is_whole=False)

    def _ask(self, question: _Question) -> None:
        wait_seconds = WAIT_SECONDS if question.is_whole else 0
        start = time.monotonic()
        found = self._client.finished(self._labels, question.ranges, wait_seconds=wait_seconds)
        are_news = [self._resolve(one) for one in found]
        if any(are_news) or not question.is_whole:
            return
        if not found:
            self._look_at_the_oldest()
        if time.monotonic() - start < _LONGEST_REST_SECONDS:
            # It answered early without news: as many wait as may.
            self._changed.wait(_LONGEST_REST_SECONDS)

    def _resolve(self, told: Finished) -> bool:
        """Tell the job's future what came of it; return whether that is news."""
        job_id = told["id"]
        with self._lock:
            _, future = self._pending.get(job_id, (0, None))
            if future is None:
                # It is submitted at this moment, or was forgotten, or its submission was given up although it
                # was stored: it is not asked for again.
                is_news = job_id not in self._told
                self._told[job_id] = told
                return is_news
        self._finish(future, *self._outcome(told))
        return True

    def _outcome(self, told: Finished) -> tuple[Any, Exception | None]:
        """Return the job's result, or what its future raises."""
        job_id = told["id"]
        if told["state"] == State.CANCELLED:
            return None, JobCancelledError(job_id)
        if told["error"] is not None:
            return None, exception(job_id, told["error"])
        if "result" in told:
            return told["result"], None
        try:
            return self._client.job(job_id).result(), None
        except ClientError as error:  # it was deleted meanwhile, for example: no other job's trouble
            return None, error

    def _finish(self, future: JobFuture[Any], result: Any, failure: Exception | None) -> None:
        """Tell a future, and so its callbacks, what came of it, unless it was told before."""
        try:
            if isinstance(failure, JobCancelledError):
                future.become_cancelled()
            elif self.forget(future.job.id):
                future.become(result, failure)
        except BaseException:  # noqa: BLE001 - a callback that calls sys.exit() must not end the watching
            _log.critical("a callback of the future of job %d failed", future.job.id, exc_info=True)

    def _look_at_the_oldest(self) -> None:
        """See whether it is there at all: a job that was deleted will never finish."""
        for future in self.pending()[:1]:
            try:
                future.job.refresh()
            except ProblemError as problem:  # of any other trouble the next question will tell
                if problem.status == _NOT_FOUND:
                    self._finish(future, None, problem)

    def _give_up(self, error: Exception) -> None:
        for future in self.pending():
            self._finish(future, None, error)

"""One job: how it stood at the last look, and what can be done with it."""

import math
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, Self, overload

from jobrunner.answers import Attempt as AttemptData
from jobrunner.answers import AttemptList, Event, Failure, Progress
from jobrunner.answers import Item as ItemData
from jobrunner.answers import Job as JobData
from jobrunner.answers import Map as MapData
from jobrunner.answers import Partials as PartialsData
from jobrunner.client import streams
from jobrunner.client.calls import Calls, given
from jobrunner.client.errors import JobCancelledError, JobFailedError, UnreachableError
from jobrunner.client.streams import WAIT_SECONDS, Settled
from jobrunner.lifecycle import FINAL, State

_EARLY_SECONDS: Final = 0.5  #: an answer before that, which tells nothing: as many wait already as may


class Partial(NamedTuple):
    """A value that the task yielded.

    Attributes:
        seq: its place in the job's history; they grow, with gaps.
        attempt: the attempt that yielded it.  After a retry the values of earlier attempts stay.
        index: of a map job, the item whose value it is; else None.
    """

    seq: int
    attempt: int
    at: datetime
    value: Any
    index: int | None = None  # type: ignore[assignment]  # a tuple has a method of this name


class Job:
    """A handle on a job.

    Its attributes tell how the job stood at the last look: it looks when it must, and when it is told to by
    `refresh` or `wait`.  Every look raises `ProblemError` (status 404) if there is no such job.
    """

    def __init__(
        self, calls: Calls, job_id: int, data: JobData | None = None, *, is_whole: bool = True
    ) -> None:
        """Ask nothing yet.

        Args:
            calls: of the client.
            job_id: which.
            data: what is known of it.
            is_whole: `data` has the result; a list leaves it out if it is long.
        """
        self._calls = calls
        self._data = data
        self._is_whole = is_whole
        self.id = job_id

    def __repr__(self) -> str:
        known = "" if self._data is None else f" {self._data['task']} {self._data['state']}"
        return f"<Job {self.id}{known}>"

    # -- as of the last look ---------------------------------------------------------------------------

    @property
    def data(self) -> JobData:
        """All that the API shows of the job."""
        if self._data is None:
            self.refresh()
        assert self._data is not None  # noqa: S101 - the look has just set it
        return self._data

    @property
    def task(self) -> str:
        """The name of its task."""
        return self.data["task"]

    @property
    def params(self) -> dict[str, Any]:
        """What the task is given."""
        return self.data["params"]

    @property
    def state(self) -> State:
        """Where it stands."""
        return State(self.data["state"])

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more, unless somebody asks for a retry."""
        return self.state in FINAL

    @property
    def reason(self) -> str | None:
        """Why it stands where it stands; None if it is final."""
        return self.data["reason"]

    @property
    def progress(self) -> Progress | None:
        """How far it has come; None if it has not said."""
        return self.data["progress"]

    @property
    def map(self) -> MapData | None:
        """How many of its items are done, how fast, and when all may be; None if it is no map job."""
        return self.data["map"]

    @property
    def error(self) -> Failure | None:
        """Why it failed; None if it did not."""
        return self.data["error"]

    @property
    def attempt(self) -> int:
        """The number of its last attempt; 0 if it has had none."""
        return self.data["attempt"]

    @property
    def labels(self) -> Mapping[str, str]:
        """What it can be found by."""
        return self.data["labels"]

    @property
    def created_at(self) -> datetime:
        """When it was submitted."""
        return datetime.fromisoformat(self.data["created_at"])

    @property
    def started_at(self) -> datetime | None:
        """When its last attempt began; None if it waits for one."""
        return _moment(self.data["started_at"])

    @property
    def finished_at(self) -> datetime | None:
        """When it became final; None if it is not."""
        return _moment(self.data["finished_at"])

    # -- looking ---------------------------------------------------------------------------------------

    def refresh(self) -> Self:
        """Look at the job as it stands."""
        return self._take(self._calls.get(self._path(), JobData))

    def wait(self, timeout: float | None = None) -> Self:
        """Look until the job is final, or `timeout` seconds are over, which is no error.

        The API may be started again meanwhile.

        Raises:
            UnreachableError: the API was away for longer than the client's patience.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout
        while self._data is None or not self.is_final:
            if not self._wait_once(end):
                break
        return self

    def _wait_once(self, end: float) -> bool:
        """Have one request wait; return whether there is time for more."""
        start = time.monotonic()
        left = max(0.0, end - start)
        # One that asks for too much is given up when time is up: the API takes whole seconds.
        asked = min(WAIT_SECONDS, math.ceil(left)) if left < WAIT_SECONDS else WAIT_SECONDS
        try:
            self._take(
                self._calls.get(self._path(), JobData, wait_seconds=asked, within_seconds=left or math.inf)
            )
        except UnreachableError:
            if time.monotonic() < end:
                raise
            return False
        now = time.monotonic()
        if not self.is_final and now - start < min(_EARLY_SECONDS, left):
            time.sleep(max(0.0, min(_EARLY_SECONDS, end - now)))
        return time.monotonic() < end

    def result(self, timeout: float | None = None) -> Any:
        """Return what the task returned, as soon as it has; of a map job the list of all values, if nothing reduces it.

        Raises:
            JobFailedError: the job failed.
            JobCancelledError: it was cancelled.
            TimeoutError: it is not final after `timeout` seconds.
            UnreachableError: the API was away for longer than the client's patience.
        """
        self._require_success(timeout)
        return list(self.values()) if streams.is_swept(self.data) else self.data["result"]

    def values(self, timeout: float | None = None) -> Iterator[Any]:
        """Return an iterator over the values of a map job, in the order of its items, once all have succeeded.

        Each is read when it is taken: there may be more than memory holds.

        Raises:
            JobFailedError, JobCancelledError, TimeoutError, UnreachableError: as `result`.
        """
        self._require_success(timeout)
        if streams.is_swept(self.data):
            return streams.values(self._calls, self.id)
        return (one["value"] for one in self.items(State.SUCCEEDED))

    def _require_success(self, timeout: float | None) -> None:
        self.wait(timeout)
        if not self.is_final:
            raise TimeoutError(f"job {self.id} is not final after {timeout:g} s")
        if not self._is_whole and self.state is State.SUCCEEDED and self.data["result"] is None:
            self.refresh()
        if self.error is not None:
            raise JobFailedError(self.id, self.error)
        if self.state is State.CANCELLED:
            raise JobCancelledError(self.id)

    def items(self, *states: str, after: int | None = None) -> Iterator[ItemData]:
        """Yield those items of a map job that have succeeded or failed by now, in order.

        Args:
            states: only these, `succeeded` or `failed`.
            after: only those with a higher index.
        """
        return streams.items(self._calls, self.id, states, after)

    def settled(self, timeout: float | None = None) -> Iterator[Settled]:
        """Return an iterator over what becomes of a map job's items, in order, as soon as it is known of all before.

        If the job ends early, so does this.

        Raises:
            TimeoutError: the next one is not there, `timeout` seconds after this call.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout
        return streams.settled(self._calls, self.data, self.map["items"] if self.map else 0, end)

    def partials(self, after: int = 0) -> Iterator[Partial]:
        """Yield what the task yields, from the first on or after the seq `after`, until the job is final.

        Each comes once and in order, also when the connection is lost or the API is started again.
        """
        for one in streams.partials(self._calls, self.id, after):
            at = datetime.fromisoformat(one["at"])
            yield Partial(one["seq"], one["attempt"], at, one["value"], one.get("index"))

    def partials_so_far(self, after: int = 0, limit: int = 1000) -> PartialsData:
        """Return at most `limit` of the partial results after the seq `after`, without waiting for more."""
        return self._calls.get(self._path("partials"), PartialsData, given(after=after, limit=limit))

    def events(self, after: int = 0) -> Iterator[Event]:
        """Yield all that happens to the job, as `partials` does what it yields."""
        return streams.events(self._calls, self.id, after)

    @overload
    def log(
        self, *, tail: int | None = None, attempt: int | None = None, follow: Literal[False] = False
    ) -> str: ...
    @overload
    def log(self, *, follow: Literal[True]) -> Iterator[str]: ...
    def log(
        self, *, tail: int | None = None, attempt: int | None = None, follow: bool = False
    ) -> str | Iterator[str]:
        """Return what the job has printed.

        Args:
            tail: only so many lines at the end.
            attempt: of this attempt; None: of the last.
            follow: return an iterator instead, over what all its attempts have printed and will print, in
                pieces that may end in the middle of a line.
        """
        if follow:
            return (one["text"] for one in self.events() if one["event"] == "log")
        return self._calls.text(self._path("log"), given(tail=tail, attempt=attempt))

    def attempts(self) -> list[AttemptData]:
        """Return every run of the job, first to last."""
        return self._calls.get(self._path("attempts"), AttemptList)["items"]

    # -- changing --------------------------------------------------------------------------------------

    def cancel(self, *, grace_seconds: float | None = None) -> Self:
        """Ask for the job's end.  A queued one is cancelled at once, a running one as soon as it has stopped.

        Args:
            grace_seconds: from SIGTERM to SIGKILL; None leaves that to the server.

        Raises:
            ProblemError: it has already finished (status 409).
        """
        body = dict(given(grace_seconds=grace_seconds))
        return self._take(self._calls.change(self._path("cancel"), body, JobData, is_repeatable=True))

    def retry(self, *, only_failed: bool = False) -> Self:
        """Queue the job again, if it failed or was cancelled.

        Args:
            only_failed: of a map job, keep what has succeeded and run only the other items.

        Raises:
            ProblemError: it is in another state (status 409), or no map job (422).
        """
        body = {"only": "failed"} if only_failed else {}
        return self._take(self._calls.change(self._path("retry"), body, JobData))

    def delete(self) -> None:
        """Remove the job with its history, log and idempotency key, if it is final.

        Raises:
            ProblemError: it is not final (status 409).
        """
        self._calls.delete(self._path())

    def _take(self, data: JobData) -> Self:
        self._data, self._is_whole = data, True
        return self

    def _path(self, below: str = "") -> str:
        return f"/jobs/{self.id}/{below}".rstrip("/")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

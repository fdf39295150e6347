"""The API's resources as methods."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPMethod
from types import TracebackType
from typing import Any, Final, Self, Unpack
from urllib.parse import quote

from jobrunner.answers import (
    Check,
    Finished,
    FinishedList,
    Ids,
    JobPage,
    MapOptions,
    Queue,
    QueueList,
    Readiness,
    Task,
    TaskList,
)
from jobrunner.answers import (
    Job as JobData,
)
from jobrunner.client.calls import Calls, checked, given, pairs
from jobrunner.client.errors import ProblemError
from jobrunner.client.job import Job
from jobrunner.client.messages import Query
from jobrunner.client.transport import Transport
from jobrunner.errors import SettingError
from jobrunner.figures import Stats

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_MOST_PER_PAGE: Final = 1000  # the API's own limit
_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")


class Client:
    """Talks to one API.  Many threads may share it; it keeps connections open between requests.

    Every method raises `ProblemError` for what the API refuses, `UnreachableError` if it does not answer,
    and `BadAnswerError` if what answers is not jobrunner.  What is safe to repeat is repeated: asking, submitting
    (with an idempotency key of its own) and cancelling.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_seconds: float = 30.0,
        patience_seconds: float = 30.0,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: the API's address, such as `http://127.0.0.1:8000` or `unix:/run/jobrunner.sock`.  None takes
                JOBRUNNER_URL, else the address that `jobrunner serve` has by default.
            token: sent with every request.  None takes JOBRUNNER_TOKEN, if there is one.
            timeout_seconds: for connecting, and for each answer.
            patience_seconds: how long to ask again when the API says "try again later", or when it is away
                after it has answered before.

        Raises:
            SettingError: `url` is not an address, or `token` is none.
        """
        found = os.environ.get("JOBRUNNER_URL", DEFAULT_URL) if url is None else url
        token = os.environ.get("JOBRUNNER_TOKEN") if token is None else token
        self._calls = Calls(Transport(found, token or None, timeout_seconds, patience_seconds))
        self._options: MapOptions = {}
        self._key: str | None = None

    @property
    def url(self) -> str:
        """The API's address, without a slash at its end."""
        return self._calls.transport.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that nobody uses; a later request opens another."""
        self._calls.transport.close()

    # -- submitting ------------------------------------------------------------------------------------

    def with_options(self, *, idempotency_key: str | None = None, **options: Unpack[MapOptions]) -> "Client":
        """Return a client whose submissions say this too; it shares this one's connections.

        Options stand apart from parameters, for a task may have a parameter of any name.  What is given here
        goes before what was given to the client that this is called on; labels add up.

        Args:
            idempotency_key: of one submission: whoever asks for the same again with this key, in another program
                too, gets what was made the first time.  None: every submission has one of its own.
            options: what the submissions say; `reduce`, `max_failed`, `max_parallel` and `chunk_size` are for `map`
                alone.

        Raises:
            SettingError: `idempotency_key` is none.
        """
        if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
            allowed = "1 to 255 visible ASCII characters"
            raise SettingError(
                "idempotency_key", "with_options or --idempotency-key", idempotency_key, allowed
            )
        made = object.__new__(type(self))
        made._calls = self._calls
        made._options = {**self._options, **options}
        if "labels" in self._options and "labels" in options:
            made._options["labels"] = self._options["labels"] | options["labels"]
        made._key = self._key if idempotency_key is None else idempotency_key
        return made

    def submit(self, task: str, /, **params: Any) -> Job:
        """Submit a job: once this returns, it is stored."""
        data = self._calls.submit("/jobs", self._submission(task, params), JobData, self._key)
        return Job(self._calls, data["id"], data)

    def submit_many(self, task: str, many: Iterable[Mapping[str, Any]], /) -> list[Job]:
        """Submit a job for each of these parameters, all or none, in one request."""
        body = [self._submission(task, params) for params in many]
        if not body:
            return []
        made = self._calls.submit("/jobs/batch", body, Ids, self._key)["ids"]
        return [Job(self._calls, one) for one in made]

    def map(
        self, task: str, items: Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Any]], /, **params: Any
    ) -> Job:
        """Submit one job that calls the task for each of many items, which are numbered from 0.

        Its values are `job.values()`, or `job.result()` as a list; what `with_options(reduce=...)` names makes another
        result of them.  Timeouts, memory limits and retries hold for each item.

        Args:
            task: its name.
            items: parameters of each; or by name what parameters run through, a `range` or other values, where of
                several the last runs fastest.  A range takes no room, however long it is.
            params: common to all items.
        """
        asked = {**self._submission(task, params), "map": _as_asked(items)}
        data = self._calls.submit("/jobs", asked, JobData, self._key)
        return Job(self._calls, data["id"], data)

    def _submission(self, task: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"task": task, "params": dict(params), **self._options}

    # -- jobs ------------------------------------------------------------------------------------------

    def job(self, job_id: int) -> Job:
        """Return a handle on a job; nothing is asked before it is used."""
        return Job(self._calls, job_id)

    def jobs(
        self,
        *,
        state: str | Sequence[str] = (),
        task: str | None = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Yield jobs, newest first, at most `limit`; asks for a page when it is needed."""
        states = [state] if isinstance(state, str) else state
        query = [*given(task=task, queue=queue), *(("state", one) for one in states), *pairs(labels)]
        after: Query = ()
        left = float("inf") if limit is None else limit
        while left > 0:
            size = int(min(left, _MOST_PER_PAGE))
            page = self._calls.get("/jobs", JobPage, [*query, ("limit", size), *after])
            yield from (Job(self._calls, one["id"], one, is_whole=False) for one in page["items"])
            if page["next"] is None:
                return
            left -= len(page["items"])
            after = [("after", page["next"])]

    def finished(
        self,
        labels: Mapping[str, str],
        ids: Iterable[tuple[int, int | None]],
        *,
        wait_seconds: int = 0,
    ) -> list[Finished]:
        """Return final jobs with this one label, in short; wait until there is one.

        Args:
            labels: of one label.
            ids: ranges to look at, both ends included; None stands for no end.
            wait_seconds: at most.
        """
        ranges = ",".join(str(first) if first == last else f"{first}-{last or ''}" for first, last in ids)
        query = [*pairs(labels), ("ids", ranges)]
        return self._calls.get("/jobs/finished", FinishedList, query, wait_seconds=wait_seconds)["items"]

    def cancel_queued(self, ids: Sequence[int]) -> list[int]:
        """Cancel those of these jobs that are queued, and return their ids; what runs is left alone."""
        return self._calls.change("/jobs/cancel", {"ids": ids}, Ids, is_repeatable=True)["ids"]

    # -- the rest --------------------------------------------------------------------------------------

    def tasks(self) -> list[Task]:
        """Return every task that can be submitted."""
        return self.catalogue()["items"]

    def catalogue(self) -> TaskList:
        """Return every task that can be submitted, and which task modules cannot be imported."""
        return self._calls.get("/tasks", TaskList)

    def task(self, name: str) -> Task:
        """Return one task."""
        return self._calls.get(f"/tasks/{quote(name, safe='')}", Task)

    def queues(self) -> list[Queue]:
        """Return every queue that jobs are in, or that is paused."""
        return self._calls.get("/queues", QueueList)["items"]

    def pause(self, queue: str) -> Queue:
        """Start no more jobs of this queue; those that run go on."""
        return self._pause(queue, paused=True)

    def resume(self, queue: str) -> Queue:
        """Start jobs of this queue again."""
        return self._pause(queue, paused=False)

    def _pause(self, queue: str, *, paused: bool) -> Queue:
        path, body = f"/queues/{quote(queue, safe='')}", {"paused": paused}
        return self._calls.change(path, body, Queue, method=HTTPMethod.PATCH, is_repeatable=True)

    def stats(self) -> Stats:
        """Return counts, rates, and what each worker does."""
        return self._calls.get("/stats", Stats)

    def checks(self) -> list[Check]:
        """Return what the service needs, each with whether it has it."""
        try:
            return self._calls.get("/readyz", Readiness)["checks"]
        except ProblemError as problem:
            if "checks" not in problem.members:
                raise
            return checked({"ready": False, **problem.members}, Readiness)["checks"]


def _as_asked(items: Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Any]]) -> Any:
    """Return the `map` of a submission."""
    if isinstance(items, Mapping):
        return {name: _axis(values) for name, values in items.items()}
    return [dict(one) if isinstance(one, Mapping) else one for one in items]  # the API says what is wrong


def _axis(values: Any) -> Any:
    if isinstance(values, range):
        return {"range": [values.start, values.stop, values.step]}
    # A text is no list of letters: the API will say so.
    return values if isinstance(values, Mapping | str) else list(values)

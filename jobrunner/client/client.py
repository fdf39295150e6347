"""The API's resources as methods."""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPMethod
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack
from urllib.parse import quote

from jobrunner.client.answers import (
    Check,
    Job,
    JobPage,
    Partials,
    Readiness,
    Stats,
    SubmitOptions,
    Task,
    TaskList,
)
from jobrunner.client.errors import BadAnswerError, ProblemError
from jobrunner.client.transport import Query, Transport

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_MOST_PER_PAGE: Final = 1000  # the API's own limit

_Shape = TypeVar("_Shape")


class Client:
    """Talks to one API over one connection.  Not to be shared by threads or processes.

    Every method raises `ProblemError` for what the API refuses, `UnreachableError` if it does not answer,
    and `BadAnswerError` if what answers is not jobrunner.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, timeout_seconds: float = 30.0, patience_seconds: float = 30.0
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: the API's address.
            timeout_seconds: for connecting, and for each answer.
            patience_seconds: how long to ask again when the API says "try again later".

        Raises:
            SettingError: `url` is not an address.
        """
        self._transport = Transport(url, timeout_seconds, patience_seconds)

    @property
    def url(self) -> str:
        """The API's address, without a slash at its end."""
        return self._transport.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a later request opens it again."""
        self._transport.close()

    def submit(
        self, task: str, params: Mapping[str, Any] | None = None, **options: Unpack[SubmitOptions]
    ) -> Job:
        """Submit a job; return it as it was stored."""
        return self._post("/jobs", {"task": task, "params": dict(params or {}), **options})

    def job(self, job_id: int) -> Job:
        """Return the job as it stands."""
        return self._get(f"/jobs/{job_id}", Job)

    def jobs(
        self,
        *,
        states: Sequence[str] = (),
        task: str | None = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
    ) -> Iterator[Job]:
        """Yield at most `limit` jobs, newest first; asks for a page when it is needed."""
        query = [*_given(task=task, queue=queue), *(("state", state) for state in states)]
        query += [("label", f"{key}:{value}") for key, value in (labels or {}).items()]
        after: Query = ()
        while limit > 0:
            page = self._get("/jobs", JobPage, [*query, ("limit", min(limit, _MOST_PER_PAGE)), *after])
            yield from page["items"]
            if page["next"] is None:
                return
            limit -= len(page["items"])
            after = [("after", page["next"])]

    def partials(self, job_id: int, after: int = 0, limit: int = 1000) -> Partials:
        """Return at most `limit` partial results with a `seq` greater than `after`."""
        return self._get(f"/jobs/{job_id}/partials", Partials, _given(after=after, limit=limit))

    def log(self, job_id: int, *, tail: int | None = None, attempt: int | None = None) -> str:
        """Return what the job printed in its last attempt, or in `attempt`; of that the last `tail` lines."""
        query = _given(tail=tail, attempt=attempt)
        answer = self._transport.call(HTTPMethod.GET, f"/jobs/{job_id}/log", query)
        return answer.body.decode(errors="replace")

    def cancel(self, job_id: int, *, grace_seconds: float | None = None) -> Job:
        """Ask for the job's end; return it as it stands: cancelled, or running and about to be stopped.

        From SIGTERM to SIGKILL it gets `grace_seconds`; None leaves that to the server.
        """
        return self._post(f"/jobs/{job_id}/cancel", dict(_given(grace_seconds=grace_seconds)))

    def retry(self, job_id: int) -> Job:
        """Queue a failed or cancelled job again."""
        return self._post(f"/jobs/{job_id}/retry", {})

    def tasks(self) -> TaskList:
        """Return every task that can be submitted, and which task modules cannot be imported."""
        return self._get("/tasks", TaskList)

    def task(self, name: str) -> Task:
        """Return one task."""
        return self._get(f"/tasks/{quote(name, safe='')}", Task)

    def stats(self) -> Stats:
        """Return counts, rates, and what each worker does."""
        return self._get("/stats", Stats)

    def checks(self) -> list[Check]:
        """Return what the service needs, each with whether it has it."""
        try:
            return self._get("/readyz", Readiness)["checks"]
        except ProblemError as problem:
            if "checks" not in problem.members:
                raise
            return _checked(problem.members, Readiness)["checks"]

    def _get(self, path: str, shape: type[_Shape], query: Query = ()) -> _Shape:
        return _checked(self._transport.call(HTTPMethod.GET, path, query).json(), shape)

    def _post(self, path: str, body: Mapping[str, Any]) -> Job:
        return _checked(self._transport.call(HTTPMethod.POST, path, body=body).json(), Job)


def _given(**named: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in named.items() if value is not None]


def _checked(value: Any, shape: type[_Shape]) -> _Shape:
    """Return `value` as the TypedDict that it is said to be; only its keys are looked at."""
    required: frozenset[str] = shape.__required_keys__  # type: ignore[attr-defined]
    missing = required - value.keys() if isinstance(value, dict) else required
    if missing:
        raise BadAnswerError(f"the answer lacks {', '.join(sorted(missing))}: is it jobrunner's?")
    return value  # type: ignore[no-any-return]

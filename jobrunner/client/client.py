"""The API's resources as methods."""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPMethod, HTTPStatus
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack
from urllib.parse import quote

from jobrunner.client.answers import Job, Partials, SubmitOptions, Task
from jobrunner.client.errors import BadAnswerError, ProblemError
from jobrunner.client.transport import Query, Transport

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_MOST_PER_PAGE: Final = 1000  # the API's own limit

_Shape = TypeVar("_Shape", dict[str, Any], list[Any])


class Client:
    """Talks to one API over one connection.  Not to be shared by threads or processes.

    Every method raises `ProblemError` for what the API refuses, `UnreachableError` if it does not answer,
    and `BadAnswerError` if what answers is not jobrunner.
    """

    def __init__(self, url: str = DEFAULT_URL, *, timeout_seconds: float = 30.0) -> None:
        """Connect to nothing yet.

        Args:
            url: the API's address.
            timeout_seconds: for connecting, for each answer, and for all answers of "try again later".

        Raises:
            SettingError: `url` is not an address.
        """
        self._transport = Transport(url, timeout_seconds)

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
        body = {"task": task, "params": dict(params or {}), **options}
        return Job(**self._post("/jobs", body))  # type: ignore[typeddict-item]

    def job(self, job_id: int) -> Job:
        """Return the job as it stands."""
        return Job(**self._get(f"/jobs/{job_id}", dict))  # type: ignore[typeddict-item]

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
        query: list[tuple[str, str | int]] = [("state", state) for state in states]
        query += [(name, value) for name, value in (("task", task), ("queue", queue)) if value is not None]
        query += [("label", f"{key}:{value}") for key, value in (labels or {}).items()]
        after: list[tuple[str, str]] = []
        while limit > 0:
            page = self._get("/jobs", dict, [*query, ("limit", min(limit, _MOST_PER_PAGE)), *after])
            yield from (Job(**item) for item in page["items"])
            if page["next"] is None:
                return
            limit -= len(page["items"])
            after = [("after", page["next"])]

    def partials(self, job_id: int, after: int = 0, limit: int = 1000) -> Partials:
        """Return at most `limit` partial results with a `seq` greater than `after`."""
        query = [("after", after), ("limit", limit)]
        return Partials(**self._get(f"/jobs/{job_id}/partials", dict, query))  # type: ignore[typeddict-item]

    def log(self, job_id: int, *, tail: int | None = None, attempt: int | None = None) -> str:
        """Return what the job printed.

        Args:
            tail: only that many of its last lines.
            attempt: of this attempt; None means the last one.
        """
        query = [(name, value) for name, value in (("tail", tail), ("attempt", attempt)) if value is not None]
        return self._transport.call(HTTPMethod.GET, f"/jobs/{job_id}/log", query).body.decode(errors="replace")

    def cancel(self, job_id: int, *, grace_seconds: float | None = None) -> Job:
        """Ask for the job's end; return it as it stands: cancelled, or running and about to be stopped.

        Args:
            grace_seconds: between SIGTERM and SIGKILL; None leaves it to the server.
        """
        body = {} if grace_seconds is None else {"grace_seconds": grace_seconds}
        return Job(**self._post(f"/jobs/{job_id}/cancel", body))  # type: ignore[typeddict-item]

    def retry(self, job_id: int) -> Job:
        """Queue a failed or cancelled job again."""
        return Job(**self._post(f"/jobs/{job_id}/retry", {}))  # type: ignore[typeddict-item]

    def tasks(self) -> list[Task]:
        """Return every task that can be submitted."""
        return [Task(**item) for item in self._get("/tasks", dict)["items"]]

    def task(self, name: str) -> Task:
        """Return one task."""
        return Task(**self._get(f"/tasks/{quote(name, safe='')}", dict))  # type: ignore[typeddict-item]

    def stats(self) -> dict[str, Any]:
        """Return counts, rates, and what each worker does."""
        return self._get("/stats", dict)

    def readiness(self) -> dict[str, Any]:
        """Return the API's checks of itself and of what it needs, also if some of them fail."""
        try:
            return self._get("/readyz", dict)
        except ProblemError as problem:
            if problem.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            raise

    def _get(self, path: str, shape: type[_Shape], query: Query = ()) -> _Shape:
        return _shaped(self._transport.call(HTTPMethod.GET, path, query).json(), shape)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return _shaped(self._transport.call(HTTPMethod.POST, path, body=body).json(), dict)


def _shaped(value: Any, shape: type[_Shape]) -> _Shape:
    if not isinstance(value, shape):
        raise BadAnswerError(f"the answer is not what jobrunner would say: {str(value)[:60]}")
    return value

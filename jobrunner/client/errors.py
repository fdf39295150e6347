"""What can go wrong between a client and the API, and what a job can come to."""

from typing import Any

from jobrunner.answers import Failure
from jobrunner.errors import JobrunnerError


class ClientError(JobrunnerError):
    """A request came to nothing."""


class UnreachableError(ClientError):
    """The API did not answer."""


class BadAnswerError(ClientError):
    """Something answered, but not as jobrunner's API does."""


class ProblemError(ClientError):
    """The API answered with a problem (RFC 9457).

    Attributes:
        status: the HTTP status.
        type: what kind of problem it is, as a URI reference; `about:blank` if it has no page of its own.
        title: the same for every problem of this type.
        detail: what happened this time; may be empty.
        errors: one `{"pointer": "#/params/epochs", "detail": "..."}` for each field that is not valid.
        members: all that the problem said, these and others.
        retry_after_seconds: when it is worth to ask again; None if it did not say.
    """

    def __init__(
        self, status: int, problem: dict[str, Any], retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(status, problem, retry_after_seconds)  # all of them: else it could not be pickled
        self.status = status
        self.members = problem
        self.retry_after_seconds = retry_after_seconds
        self.type = str(problem.get("type", "about:blank"))
        self.title = str(problem.get("title", f"HTTP status {status}"))
        self.detail = str(problem.get("detail", ""))
        self.errors: list[dict[str, str]] = problem.get("errors", [])

    def __str__(self) -> str:
        return self.detail or self.title


def cause(error: Failure) -> str:
    """Say of which kind a failure is, an exception by its type, and its message, unless that says the kind itself."""
    kind = (error.get("type") if error["kind"] == "exception" else None) or error["kind"]
    message = error["message"]
    return message if f": {kind}: " in message else ": ".join(filter(None, (kind, message)))


class JobFailedError(ClientError):
    """The job failed.

    Its cause (`__cause__`) shows the traceback from the job's process, if there was one.

    Attributes:
        job_id: which job.
        error: all that is known of the failure.
        kind: `exception`, `timeout`, `memory_limit`, `crashed`, `lost` or `unserializable`.
        type: of the exception, such as `ValueError` or `mytasks.WrongError`; None if there was none.
        message: what happened.
    """

    def __init__(self, job_id: int, error: Failure) -> None:
        super().__init__(job_id, error)
        self.job_id = job_id
        self.error = error
        self.kind = error["kind"]
        self.type = error.get("type")
        self.message = error["message"]
        traceback = error.get("traceback")
        if traceback:
            self.__cause__ = RemoteTraceback(traceback)

    def __str__(self) -> str:
        return f"job {self.job_id} failed: {cause(self.error)}"


class JobCancelledError(ClientError):
    """The job was cancelled."""

    def __init__(self, job_id: int) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"job {self.job_id} was cancelled"


class RemoteTraceback(Exception):  # noqa: N818 - it is no error, it shows where one came from
    """Shows the traceback from the job's process above the one of the caller."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'

"""What can go wrong between a client and the API."""

from typing import Any

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
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.members = problem
        self.type = str(problem.get("type", "about:blank"))
        self.title = str(problem.get("title", f"HTTP status {status}"))
        self.detail = str(problem.get("detail", ""))
        self.errors: list[dict[str, str]] = problem.get("errors", [])
        super().__init__(self.detail or self.title)

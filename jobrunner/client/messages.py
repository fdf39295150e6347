"""What goes out and what comes back: requests, answers, and the problems that some answers are."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPMethod
from http.client import HTTPMessage
from typing import Any, Final, NamedTuple

from jobrunner.client.errors import BadAnswerError, ProblemError

Query = Sequence[tuple[str, str | int]]

_ACCEPT: Final = "application/json, application/problem+json, text/plain"


class Request(NamedTuple):
    """What goes out, but for the address.

    Attributes:
        key: an idempotency key.
        is_repeatable: it may be sent again although it is no GET and has no key.
        wait_seconds: for which the API was asked to wait with its answer.
        known: the version of a job that needs no answer but 304.
        within_seconds: after which nobody wants the answer any more.
    """

    method: HTTPMethod
    path: str
    query: Query = ()
    body: Any = None
    key: str | None = None
    accept: str = _ACCEPT
    is_repeatable: bool = False
    known: int | None = None
    wait_seconds: float = 0.0
    within_seconds: float = float("inf")

    @property
    def may_be_repeated(self) -> bool:
        """Whether sending it twice does no harm."""
        return self.method is HTTPMethod.GET or self.key is not None or self.is_repeatable

    def payload(self) -> bytes | None:
        """Return the body as it travels."""
        if self.body is None:
            return None
        return json.dumps(self.body, allow_nan=False, separators=(",", ":")).encode()

    def headers(self) -> dict[str, str]:
        """Return the headers that tell what it is."""
        told = {"Accept": self.accept}
        if self.body is not None:
            told["Content-Type"] = "application/json"
        if self.key is not None:
            told["Idempotency-Key"] = self.key
        if self.known is not None:
            told["If-None-Match"] = f'"{self.known}"'
        return told


class Answer(NamedTuple):
    """What the server said."""

    status: int
    headers: HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Return the body's value.

        Raises:
            BadAnswerError: it is not JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise BadAnswerError(f"the answer is not JSON: {self.body[:60]!r}; is it jobrunner's?") from None

    def problem(self) -> ProblemError:
        """Return the error that an answer of 400 or above is."""
        told = self.json() if self.headers.get_content_type() == "application/problem+json" else None
        if not isinstance(told, dict):
            said = self.body[:200].decode(errors="replace").strip()
            told = {"detail": f"HTTP status {self.status}: {said}"}
        return ProblemError(self.status, told, _seconds(self.headers.get("Retry-After")))


def _seconds(header: str | None) -> float | None:
    """Return for how long `Retry-After` asks to wait: it is a number of seconds, or a date."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())

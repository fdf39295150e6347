"""One HTTP connection, kept open: JSON goes out, JSON or a typed error comes back."""

import http.client
import json
import select
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPMethod, HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlencode, urlsplit

from jobrunner.client.errors import BadAnswerError, ProblemError, UnreachableError
from jobrunner.errors import SettingError

Query = Sequence[tuple[str, str | int]]


class Answer(NamedTuple):
    """What the server said."""

    status: int
    headers: http.client.HTTPMessage
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


class Transport:
    """Requests to one address.  Not to be shared by threads."""

    def __init__(self, url: str, timeout_seconds: float, patience_seconds: float) -> None:
        parts = _split(url)
        self.url = parts.geturl()
        self._base = parts.path
        self._timeout_seconds = timeout_seconds
        self._patience_seconds = patience_seconds
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=timeout_seconds)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def call(self, method: HTTPMethod, path: str, query: Query = (), body: Any = None) -> Answer:
        """Send a request and return its answer.

        A GET that meets a 503 with `Retry-After` is sent again, as long as patience lasts.

        Raises:
            ProblemError: the API answered with a problem.
            UnreachableError: there was no answer.
            BadAnswerError: the answer is not HTTP.
        """
        give_up_at = time.monotonic() + self._patience_seconds
        target = f"{self._base}{path}" + (f"?{urlencode(query)}" if query else "")
        while True:
            answer = self._exchange(method, target, body)
            if answer.status < HTTPStatus.BAD_REQUEST:
                return answer
            rest_seconds = _retry_after_seconds(answer) if method is HTTPMethod.GET else None
            if rest_seconds is None or time.monotonic() + rest_seconds >= give_up_at:
                raise _problem(answer)
            time.sleep(rest_seconds)

    def _exchange(self, method: HTTPMethod, target: str, body: Any) -> Answer:
        kept_open = self._still_open()
        try:
            try:
                return self._send(method, target, body)
            except ConnectionError:
                # The server may have closed a connection that was kept open in the very moment of sending.
                # To send anything but a GET again could do it twice.
                if method is not HTTPMethod.GET or not kept_open:
                    raise
                self._connection.close()
                return self._send(method, target, body)
        except OSError as error:
            self._connection.close()
            raise UnreachableError(self._described(error, method)) from error
        except http.client.HTTPException as error:
            self._connection.close()
            raise BadAnswerError(f"{self.url} does not speak HTTP: {error!r}") from error

    def _send(self, method: HTTPMethod, target: str, body: Any) -> Answer:
        headers = {"Accept": "application/json, application/problem+json, text/plain"}
        payload = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = json.dumps(body, allow_nan=False).encode()
        self._connection.request(method, target, payload, headers)
        response = self._connection.getresponse()
        return Answer(response.status, response.headers, response.read())

    def _still_open(self) -> bool:
        """Close a connection that the server has closed; return whether one is open."""
        if self._connection.sock is None:
            return False
        # Between two answers a server has nothing to say: what can be read is the end of the stream.
        readable, _, _ = select.select([self._connection.sock], [], [], 0)
        if readable:
            self._connection.close()
        return not readable

    def _described(self, error: OSError, method: HTTPMethod) -> str:
        if isinstance(error, ConnectionRefusedError):
            return (
                f"nothing answers at {self.url}: start it with `jobrunner serve`, "
                "or name another address with --url or JOBRUNNER_URL"
            )
        if isinstance(error, TimeoutError):
            return f"{self.url} did not answer within {self._timeout_seconds:g} s"
        if isinstance(error, ConnectionError) and method is not HTTPMethod.GET:
            return (
                f"{self.url} closed the connection before it answered: whether it did what was asked is open"
            )
        return f"{self.url} cannot be reached: {error}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        valid = False
    if not valid or parts.query or parts.fragment:
        allowed = "the API's address, such as http://127.0.0.1:8000"
        raise SettingError("url", "--url or JOBRUNNER_URL", url, allowed)
    return parts._replace(path=parts.path.rstrip("/"))


def _problem(answer: Answer) -> ProblemError:
    if answer.headers.get_content_type() == "application/problem+json":
        problem = answer.json()
        if isinstance(problem, dict):
            return ProblemError(answer.status, problem)
    said = answer.body[:200].decode(errors="replace").strip()
    return ProblemError(answer.status, {"detail": f"HTTP status {answer.status}: {said}"})


def _retry_after_seconds(answer: Answer) -> float | None:
    """Return for how long a 503 asks to wait: its header is a number of seconds, or a date."""
    header = answer.headers.get("Retry-After")
    if answer.status != HTTPStatus.SERVICE_UNAVAILABLE or header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())

"""Requests over HTTP: JSON goes out; JSON, lines or a typed error come back.

What is safe to send twice is sent again: when a kept connection turns out to be closed, when the API says
"try again later", and while an API that has answered before is away (or so says a proxy in between), for it may be
about to be started again.
"""

import contextlib
import functools
import http.client
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import urlencode

from jobrunner.client.address import parsed
from jobrunner.client.connections import Connections
from jobrunner.client.errors import BadAnswerError, ClientError, ProblemError, UnreachableError
from jobrunner.client.messages import Answer, Request
from jobrunner.errors import SettingError

#: of a proxy that does not reach the API, which itself says with 503 when to ask again
_AWAY: Final = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
_LATER: Final = (HTTPStatus.TOO_MANY_REQUESTS, *_AWAY)
_FIRST_REST_SECONDS: Final = 0.05
_LONGEST_REST_SECONDS: Final = 1.0
_CHUNK: Final = 1 << 16  # bytes

_Got = TypeVar("_Got")


class Transport:
    """Requests to one address, from any thread."""

    def __init__(self, url: str, token: str | None, timeout_seconds: float, patience_seconds: float) -> None:
        address = parsed(url)
        self.url = address.url
        self._base = address.base
        self._connections = Connections(address, timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._patience_seconds = patience_seconds
        self._authorization = {} if token is None else {"Authorization": f"Bearer {_checked(token)}"}
        self._has_answered = False

    def close(self) -> None:
        """Close the connections that nobody uses; the next request opens another."""
        self._connections.close()

    def call(self, request: Request) -> Answer:
        """Send a request and return its answer.

        Raises:
            ProblemError: the API answered with a problem.
            UnreachableError: there was no answer.
            BadAnswerError: the answer is not HTTP.
        """
        return self._patiently(request, self._exchange)

    def lines(self, request: Request) -> Iterator[bytes]:
        """Yield the lines of an answer as they come, without their ends.

        Raises:
            ProblemError: the API answered with a problem.
            UnreachableError: it did not answer, or it fell silent in the middle.
            BadAnswerError: the answer is not HTTP.
        """
        connection, response = self._patiently(request, self._opened)
        rest, came = b"", 0
        try:
            while chunk := self._translated(request, lambda: response.read1(_CHUNK)):
                came += len(chunk)
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
        finally:
            connection.close()
        if came < int(response.headers.get("Content-Length", 0)):  # `read1` does not look
            raise UnreachableError(self._cut())

    # -- again -------------------------------------------------------------------------------------

    def _patiently(self, request: Request, send: Callable[[Request, float], _Got]) -> _Got:
        start = time.monotonic()
        end = start + request.within_seconds
        give_up_at = min(start + self._patience_seconds, end)
        rest_seconds = 0.0
        while True:
            left = end - time.monotonic()
            try:
                return send(request, max(0.001, min(left, self._timeout_seconds + request.wait_seconds)))
            except (ProblemError, UnreachableError) as error:
                rest = self._rest_seconds(error, rest_seconds)
                if rest is None or not request.may_be_repeated or time.monotonic() + rest >= give_up_at:
                    raise
                rest_seconds = rest
            time.sleep(rest_seconds)

    def _rest_seconds(self, error: ClientError, before: float) -> float | None:
        """Return for how long to rest before the same is asked again; None: it would be in vain.

        Args:
            error: what came of asking.
            before: the last rest, 0 if there was none.
        """
        if isinstance(error, ProblemError):
            if error.status in _LATER and error.retry_after_seconds is not None:
                return error.retry_after_seconds
            if error.status not in _AWAY:
                return None
        if not self._has_answered:  # is it there at all?
            return None
        return min(max(_FIRST_REST_SECONDS, 2 * before), _LONGEST_REST_SECONDS)

    # -- once --------------------------------------------------------------------------------------

    def _exchange(self, request: Request, timeout_seconds: float) -> Answer:
        connection, response = self._opened(request, timeout_seconds)
        try:
            body = self._translated(request, response.read)
        except BaseException:
            connection.close()
            raise
        self._connections.put_back(connection)
        return Answer(response.status, response.headers, body)

    def _opened(
        self, request: Request, timeout_seconds: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send the request; return the connection, and an answer that is no problem and is not read yet."""
        connection = self._connections.take()
        try:
            response = self._translated(request, lambda: self._begun(connection, request, timeout_seconds))
            self._has_answered |= response.status not in _AWAY
            if response.status < HTTPStatus.BAD_REQUEST:
                return connection, response
            body = self._translated(request, response.read)
        except BaseException:
            connection.close()
            raise
        self._connections.put_back(connection)
        raise Answer(response.status, response.headers, body).problem()

    def _begun(
        self, connection: http.client.HTTPConnection, request: Request, timeout_seconds: float
    ) -> http.client.HTTPResponse:
        target = f"{self._base}{request.path}" + (f"?{urlencode(request.query)}" if request.query else "")
        connection.timeout = timeout_seconds
        was_open = connection.sock is not None
        if was_open:
            connection.sock.settimeout(timeout_seconds)
        payload, headers = request.payload(), self._authorization | request.headers()
        sending = functools.partial(connection.request, request.method, target, payload, headers)
        try:
            return _answer(connection, sending)
        except ConnectionError:
            # The server may have closed a connection that was kept open in the very moment of sending.
            if not was_open or not request.may_be_repeated:
                raise
            connection.close()
            return _answer(connection, sending)

    def _translated(self, request: Request, step: Callable[[], _Got]) -> _Got:
        try:
            return step()
        except OSError as error:
            raise UnreachableError(self._described(error, request)) from error
        except http.client.IncompleteRead as error:
            raise UnreachableError(self._cut()) from error
        except http.client.HTTPException as error:
            raise BadAnswerError(f"{self.url} does not speak HTTP: {error!r}") from error

    def _cut(self) -> str:
        return f"{self.url} closed the connection in the middle of an answer"

    def _described(self, error: OSError, request: Request) -> str:
        if isinstance(error, ConnectionRefusedError | FileNotFoundError):
            return (
                f"nothing answers at {self.url}: start it with `jobrunner serve`, "
                "or name another address with --url or JOBRUNNER_URL"
            )
        if isinstance(error, TimeoutError):
            seconds = min(request.within_seconds, self._timeout_seconds + request.wait_seconds)
            return f"{self.url} did not answer within {seconds:g} s"
        if isinstance(error, ConnectionError) and not request.may_be_repeated:
            return (
                f"{self.url} closed the connection before it answered: whether it did what was asked is open"
            )
        return f"{self.url} cannot be reached: {error}"


def _answer(connection: http.client.HTTPConnection, sending: Callable[[], None]) -> http.client.HTTPResponse:
    """Send a request and return its answer, also one that came before all was sent: "too large" is said so."""
    # The server closed the connection, and may have said why.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sending()
    return connection.getresponse()


def _checked(token: str) -> str:
    """Return a token that can stand in a header; the message of the error does not tell it."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        allowed = "a token as `jobrunner token create` has shown it"
        raise SettingError("token", "JOBRUNNER_TOKEN, or the caller", "...", allowed)
    return token

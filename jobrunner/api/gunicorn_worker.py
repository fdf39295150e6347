"""A gunicorn worker that answers as a problem also what is no HTTP, and hears every signal that is meant for it."""

import os
import signal
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import msgspec
from gunicorn.http import errors  # type: ignore[import-untyped]
from gunicorn.util import write_nonblock  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

# fmt: off
_STATUS: Final[Mapping[type[Exception], HTTPStatus]] = {
    errors.LimitRequestLine:          HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders:       HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed:         HTTPStatus.EXPECTATION_FAILED,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    errors.ParseException:            HTTPStatus.BAD_REQUEST,
}
# fmt: on
_OUR_OWN: Final = (
    errors.InvalidResponseHeader,
    errors.InvalidResponseHeaderName,
    errors.ConfigurationProblem,
)
# gunicorn's arbiter ends its workers with these.  A new worker has the arbiter's handlers until it sets its own, and
# they would forget a signal: after `graceful_timeout` the worker is killed, with the requests that it has in hand.
_STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_hear_stops = partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, _STOPS)
os.register_at_fork(after_in_parent=_hear_stops)


def pre_fork(_arbiter: Any, _worker: Any) -> None:
    """Have signals that end a worker wait until it can hear them; gunicorn's hook of this name."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)


class ProblemWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own worker with threads, but for the page of HTML that it has for errors."""

    def init_signals(self) -> None:
        """Set the handlers, then let in what has come meanwhile."""
        super().init_signals()
        _hear_stops()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer what `exc` says of the request; leave what is no fault of the request to gunicorn."""
        if not isinstance(exc, errors.ParseException) or isinstance(exc, _OUR_OWN):
            super().handle_error(req, client, addr, exc)
            return
        status = next(status for kind, status in _STATUS.items() if isinstance(exc, kind))
        self.log.warning("a request was answered %d before it could be read: %s", status, ascii(str(exc)))
        try:
            write_nonblock(client, _answer(status, str(exc)))
        except OSError as error:
            self.log.debug("that answer could not be sent: %s", error)


def _answer(status: HTTPStatus, detail: str) -> bytes:
    problem = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail[:300]}
    body = msgspec.json.encode(problem)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Connection: close",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*head, "", "")).encode("ascii") + body

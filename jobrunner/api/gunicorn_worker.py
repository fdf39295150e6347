"""A gunicorn worker that answers as a problem also what is no HTTP, and so reaches no view."""

from collections.abc import Mapping
from http import HTTPStatus
from types import FrameType
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


class ProblemWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own worker with threads, but for the page of HTML that it has for errors, and for who waits."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop: who waits for news is answered now, and streams end."""
        super().handle_exit(sig, frame)
        if self.wsgi is not None:  # else it has only begun to start
            self.wsgi.watcher.close()

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

"""A gunicorn worker that answers what is no HTTP as a problem, and on which no client can sit down.

A connection holds a thread only while there is something to do for it: it waits for its first byte, and for its
end, in the one loop that accepts all; in a thread its patience is limited (`patience`).  It hears every signal
that is meant for it.
"""

import errno
import itertools
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Mapping
from functools import cached_property, partial
from http import HTTPStatus
from types import FrameType
from typing import Any, Final, cast

import msgspec
from gunicorn.http import errors  # type: ignore[import-untyped]
from gunicorn.util import write_nonblock  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from jobrunner.api.context import Api
from jobrunner.api.lingering import Lingering
from jobrunner.api.patience import PatientSocket, TooSlowError

# fmt: off
_STATUS: Final[Mapping[type[Exception], HTTPStatus]] = {
    TooSlowError:                     HTTPStatus.REQUEST_TIMEOUT,
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
_LOOKED_AT: Final = 16  # connections, to find an idle one
_LAST_PLACE_SECONDS: Final = 1.0  # to begin a request, for who gets the last place when nobody else is idle
_NOBODY_CAME: Final = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED)
_NO_MORE_FILES: Final = (errno.EMFILE, errno.ENFILE)
_log: Final = logging.getLogger(__name__)

# gunicorn's arbiter ends its workers with these.  A new worker has the arbiter's handlers until it sets its own, and
# they would forget a signal: after `graceful_timeout` the worker is killed, with the requests that it has in hand.
_STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_hear_stops = partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, _STOPS)
os.register_at_fork(after_in_parent=_hear_stops)


def pre_fork(_arbiter: Any, _worker: Any) -> None:
    """Have signals that end a worker wait until it can hear them; gunicorn's hook of this name."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)


class _Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection whose end does not hold up the loop."""

    def __init__(self, worker: "ProblemWorker", client: PatientSocket, address: Any, server: Any) -> None:
        super().__init__(worker.cfg, client, address, server)
        self._lingering = worker.lingering

    def close(self, graceful: bool = False) -> None:
        """Close it; `graceful`: an answer is under way, and must not be lost because there is more to read."""
        if graceful:
            self._lingering.add(self.sock)
        else:
            super().close()


class ProblemWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own worker with threads, but for what its clients can do to it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wsgi: Api | None = None  # until it is loaded

    @cached_property
    def lingering(self) -> Lingering:
        """Connections that are about to be closed; there is no poller before the worker runs."""
        return Lingering(self.poller)

    @cached_property
    def _slow_places(self) -> threading.Semaphore:
        # Not of all threads: who waits for news may hold all but `api_threads` of them.
        return threading.Semaphore(cast(Api, self.wsgi).settings.api_threads // 2)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop: who waits for news is answered now, and streams end."""
        super().handle_exit(sig, frame)
        if self.wsgi is not None:
            self.wsgi.watcher.close()

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Do the same.  gunicorn's own would take a lock here that the loop it interrupts may hold."""
        self.handle_exit(sig, frame)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection; it gets a thread when its first byte is there."""
        try:
            plain, address = listener.accept()
        except OSError as error:
            if error.errno in _NO_MORE_FILES:
                self._close_longest_idle(None)
            elif error.errno not in _NOBODY_CAME:
                raise
            return
        self.nr_conns += 1
        client = PatientSocket(plain, self._slow_places)
        connection = _Connection(self, client, address, listener.getsockname())
        connection.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(connection)
        when_readable = partial(self.on_pending_socket_readable, connection)
        self.poller.register(client, selectors.EVENT_READ, when_readable)
        if self.nr_conns >= self.worker_connections:
            self._close_longest_idle(connection)

    def handle(self, conn: _Connection) -> Any:
        """Handle a request, with new patience."""
        conn.sock.begin()
        return super().handle(conn)

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
        # Not what it says: that may be a line of the request, with a token in it.
        self.log.warning("a request was answered %d before it could be read: %s", status, type(exc).__name__)
        try:
            write_nonblock(client, _answer(status, str(exc)))
        except OSError as error:
            _log.debug("that answer could not be sent: %s", error)

    def _cap_keepalive(self, deadline: float) -> None:
        """At a stop, close by `deadline` also connections on which nothing has come yet."""
        super()._cap_keepalive(deadline)
        for connection in self.pending_conns:
            connection.timeout = min(connection.timeout, deadline)

    def murder_pending(self) -> None:
        """Close connections on which nothing came, and those that have lingered for long enough."""
        super().murder_pending()
        self.lingering.close_those_due()

    def _close_longest_idle(self, newest: _Connection | None) -> None:
        for idle in (self.pending_conns, self.keepalived_conns):
            for connection in itertools.islice(idle, _LOOKED_AT):
                # If it has news, the loop may have it in its hands already.
                if connection is not newest and not connection.sock.has_news():
                    idle.remove(connection)
                    self.poller.unregister(connection.sock)
                    self.nr_conns -= 1
                    connection.close()
                    return
        if newest is not None:  # its request is on its way, or it must not keep others out for long
            self.pending_conns.remove(newest)
            newest.timeout = min(newest.timeout, time.monotonic() + _LAST_PLACE_SECONDS)
            self.pending_conns.appendleft(newest)  # they are in the order of their ends


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

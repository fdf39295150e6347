"""A connection that is slow may not keep a thread: what a client sends byte by byte, or does not take.

A request whose bytes do not come, or an answer that is not taken, is waited for a little.  Beyond that a few
connections may be slow at the same time, and those too must get on.
"""

import errno
import select
import socket
import threading
import time
from typing import Any, Final

from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]

FREE_SECONDS: Final = 0.25  #: that every request, and every piece of an answer, may keep its thread waiting
SLOW_SECONDS: Final = 10.0  #: that it may with a place among the slow ones, ...
BYTES_PER_SECOND: Final = 16 << 10  #: ... and one second more for so many bytes


class TooSlowError(ParseException):  # type: ignore[misc]  # gunicorn has no types
    """The request came too slowly."""

    def __str__(self) -> str:
        return "the request came too slowly"


class PatientSocket(socket.socket):
    """A client's connection; where it blocks, it does so only for a while."""

    def __init__(self, plain: socket.socket, places: threading.Semaphore) -> None:
        """Take over `plain`; it takes one of `places` while it is slow."""
        super().__init__(plain.family, plain.type, plain.proto, fileno=plain.detach())
        self._places = places
        self._waited_seconds = 0.0
        self._moved_bytes = 0

    def begin(self) -> None:
        """Begin to count anew, for another request or another piece of an answer."""
        self._waited_seconds = 0.0
        self._moved_bytes = 0

    def has_news(self) -> bool:
        """Whether something came, or it was closed at the other end."""
        look = select.poll()  # not select(): it takes no descriptor above 1023
        look.register(self, select.POLLIN)
        return bool(look.poll(0))

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive as ever, but raise TooSlowError once there was nothing for too long."""
        timeout = self.gettimeout()
        if timeout != 0 and not self._comes(select.POLLIN):
            raise TooSlowError if timeout is None else TimeoutError
        data = super().recv(size, flags)
        self._moved_bytes += len(data)
        return data

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send as ever, but break off once nothing was taken for too long."""
        if self.gettimeout() == 0:
            super().sendall(data, flags)
            return
        self.begin()
        rest = memoryview(data)
        while rest:
            try:
                sent = self.send(rest, flags | socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not self._comes(select.POLLOUT):
                    # As if it had gone: gunicorn makes no fuss of that.
                    raise BrokenPipeError(errno.EPIPE, "the client takes its answer too slowly") from None
            else:
                rest = rest[sent:]
                self._moved_bytes += sent

    def _comes(self, event: int) -> bool:
        """Wait for `event` as long as may be; return whether it came."""
        look = select.poll()
        look.register(self, event)
        if look.poll(0) or self._waited(look, FREE_SECONDS):
            return True
        if not self._places.acquire(blocking=False):
            return False
        try:
            return self._waited(look, SLOW_SECONDS + self._moved_bytes / BYTES_PER_SECOND)
        finally:
            self._places.release()

    def _waited(self, look: select.poll, most_seconds: float) -> bool:
        began = time.monotonic()
        left_seconds = max(0.0, most_seconds - self._waited_seconds)
        found = look.poll(left_seconds * 1000)
        self._waited_seconds += time.monotonic() - began
        return bool(found)

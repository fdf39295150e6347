"""Connections whose answer is sent, and whose client may not have sent all that it meant to.

To close such a one at once would have the kernel throw away the answer as well; to wait for its client would
hold up all others.
"""

import selectors
import socket
import time
from typing import Final, NamedTuple

LINGER_SECONDS: Final = 2.0  #: for a client to hear its answer and hang up
LINGER_BYTES: Final = 16 << 20  #: that it may still send; they are thrown away
MOST: Final = 256  #: at the same time; the one that has lingered longest makes room
_READ_BYTES: Final = 64 << 10


class _Rest(NamedTuple):
    """What a connection has left."""

    until: float
    bytes: int


class Lingering:
    """Closes connections when their clients do, or after a while; for one thread alone, that of `poller`."""

    def __init__(self, poller: selectors.BaseSelector) -> None:
        """Take a `poller` whose keys' data are called with what is readable."""
        self._poller = poller
        self._rests: dict[socket.socket, _Rest] = {}

    def add(self, client: socket.socket) -> None:
        """Send nothing more to `client`, and close it in good time."""
        if len(self._rests) >= MOST:
            self._close(next(iter(self._rests)))
        try:
            client.setblocking(False)
            client.shutdown(socket.SHUT_WR)
        except OSError:  # it has gone, or was closed here when its answer broke off
            client.close()
            return
        self._rests[client] = _Rest(time.monotonic() + LINGER_SECONDS, LINGER_BYTES)
        self._poller.register(client, selectors.EVENT_READ, self._throw_away)

    def close_those_due(self) -> None:
        """Close those that have lingered for long enough."""
        now = time.monotonic()
        for client in [client for client, rest in self._rests.items() if rest.until <= now]:
            self._close(client)

    def _throw_away(self, client: socket.socket) -> None:
        if client not in self._rests:  # closed since the poller found it readable
            return
        try:
            came = len(client.recv(_READ_BYTES))
        except BlockingIOError:
            return
        except OSError:
            came = 0
        rest = self._rests[client]
        if not came or came > rest.bytes:
            self._close(client)
        else:
            self._rests[client] = rest._replace(bytes=rest.bytes - came)

    def _close(self, client: socket.socket) -> None:
        del self._rests[client]
        self._poller.unregister(client)
        client.close()

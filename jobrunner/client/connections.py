"""Connections that are kept open between requests, so that many threads may share one client."""

import http.client
import select
import threading
from typing import Final

from jobrunner.client import forks
from jobrunner.client.address import Address

MOST_IDLE: Final = 16  #: kept open for a later request; above that they are closed


class Connections:
    """All connections to one address.  A process that was forked opens its own."""

    def __init__(self, address: Address, timeout_seconds: float) -> None:
        self._address = address
        self._timeout_seconds = timeout_seconds
        forks.begin_in_each(self, Connections._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def take(self) -> http.client.HTTPConnection:
        """Return one that is still open, or a new one; nobody else has it until it is put back."""
        while True:
            with self._lock:
                if not self._idle:
                    return self._address.connection(self._timeout_seconds)
                connection = self._idle.pop()
            if _is_open(connection):
                return connection
            connection.close()

    def put_back(self, connection: http.client.HTTPConnection) -> None:
        """Keep the connection for a later request; its answer was read to the end."""
        with self._lock:
            if connection.sock is not None and len(self._idle) < MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close those that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __del__(self) -> None:
        self.close()


def _is_open(connection: http.client.HTTPConnection) -> bool:
    # Between two answers a server has nothing to say: what can be read is the end of the stream.
    look = select.poll()  # not select(): it takes no descriptor above 1023
    look.register(connection.sock, select.POLLIN)
    return not look.poll(0)

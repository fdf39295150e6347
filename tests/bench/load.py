"""Load for an HTTP server: a few connections, on each the same request again as soon as it is answered."""

import selectors
import socket
import time
from typing import Final

CONNECTIONS: Final = 8


class _Connection:
    """A connection that is kept alive, and counts the answers that came whole."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.answered = 0
        self.statuses: set[bytes] = set()
        self._request = request
        self._came = b""
        self.socket.sendall(request)

    def read(self) -> None:
        """Take what came; when that ends an answer, send the next request."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionResetError("the server hung up")
        self._came += data
        head, end, body = self._came.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            self.statuses.add(head.split(b" ", 2)[1])
            self.answered += 1
            self._came = b""
            self.socket.sendall(self._request)


def _length(head: bytes) -> int:
    found = head.lower().partition(b"\r\ncontent-length:")[2]
    return int(found.partition(b"\r\n")[0] or 0)


def requests_per_second(port: int, request: bytes, status: int, seconds: float) -> float:
    """Return how many requests a second the server answers, each with `status`."""
    open_ones = [_Connection(port, request) for _ in range(CONNECTIONS)]
    with selectors.DefaultSelector() as selector:
        for one in open_ones:
            selector.register(one.socket, selectors.EVENT_READ, one)
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            for key, _ in selector.select():
                key.data.read()
        took = time.perf_counter() - start
    for one in open_ones:
        one.socket.close()
    told = {int(each) for one in open_ones for each in one.statuses}
    if told != {status}:
        raise AssertionError(f"answered with {told}, not with {status}")
    return sum(one.answered for one in open_ones) / took

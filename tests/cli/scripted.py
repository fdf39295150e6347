"""A real HTTP server that answers as a test says; a conftest imports the fixtures that it wants."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from jobrunner.client import Client


class Request(NamedTuple):
    """What came in; `connection` counts the connections, from 1."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    connection: int


class Reply(NamedTuple):
    """What goes out; `hang_up`: "before" it closes the connection instead, "after" once it has answered."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = {}
    hang_up: str = ""


class Server(ThreadingHTTPServer):
    """Gives the replies in order and keeps the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.hung_up = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer goes out in one piece
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1
        self._connection = self.server.connections

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        headers = dict(self.headers.items())
        self.server.requests.append(Request(self.command, self.path, headers, body, self._connection))
        reply = self.server.replies.pop(0)
        if reply.hang_up != "before":
            payload = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            kind = "application/problem+json" if reply.status >= 400 else "application/json"
            for name, value in {
                "Content-Type": kind,
                "Content-Length": str(len(payload)),
                **reply.headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)
            self.wfile.flush()
        if reply.hang_up:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            self.server.hung_up.set()

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - names that http.server asks for

    def log_message(self, *_: object) -> None:
        """Keep silent."""


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server for the length of a block."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as opened:
        yield opened


def job(**changes: Any) -> dict[str, Any]:
    """Return a job as the API shows it, with these members changed."""
    return {
        "id": 42,
        "task": "examples.primes",
        "params": {"n": 100},
        "state": "queued",
        "reason": "waiting for a worker",
        "progress": None,
        "map": None,
        "partials": 0,
        "result": None,
        "error": None,
        "attempt": 0,
        "priority": 0,
        "queue": "default",
        "labels": {},
        "timeout": None,
        "retries": 0,
        "crash_retries": 2,
        "memory_limit": None,
        "created_at": "2026-11-23T01:02:03.456789Z",
        "run_at": None,
        "started_at": None,
        "finished_at": None,
        "waited_seconds": 0.004,
        "ran_seconds": None,
        "version": 1,
        "links": {},
    } | changes


#: why a job failed
ERROR = {"kind": "exception", "type": "ValueError", "message": "no", "traceback": "Traceback:\n  here\n"}


def running(version: int, **more: Any) -> dict[str, Any]:
    return job(
        state="running", reason=None, attempt=1, version=version, started_at=job()["created_at"], **more
    )


def ended(state: str, version: int, **more: Any) -> dict[str, Any]:
    return running(version, **{"ran_seconds": 1.25, **more}) | {"state": state}


def swept(shown: dict[str, Any], **told: Any) -> dict[str, Any]:
    """Return a job that the API shows as a map job, of which it tells this."""
    sweep = {"items": 3, "done": 0, "failed": 0, "running": 0, "per_second": None, "eta_seconds": None}
    limits = {"max_failed": None, "max_parallel": None, "chunk_size": None}
    return shown | {"map": {**sweep, **limits, "reduce": None, **told}}


def items(*told: Any, start: int = 0, following: int | None = None) -> dict[str, Any]:
    """Return a page of items: values, or errors of those that failed; what is `...` is left out."""
    found = []
    for index, one in enumerate(told, start):
        error = one if isinstance(one, dict) and "kind" in one else None
        state, value = ("succeeded", one) if error is None else ("failed", None)
        shown = {"index": index, "state": state, "params": {"n": index}, "value": value, "error": error}
        found += [] if one is ... else [{**shown, "attempt": 1}]
    return {"items": found, "next": following}


def lines(*told: Any, cut: bool = False) -> Reply:
    """Return what streams a value a line, or an empty one for None; if it is `cut`, more was announced."""
    body = b"".join(b"\n" if one is None else json.dumps(one).encode() + b"\n" for one in told)
    headers = {"Content-Length": str(len(body) + 1)} if cut else {}
    return Reply(body, headers=headers, hang_up="after" if cut else "")


def partials(*values: Any) -> dict[str, Any]:
    items = [
        {"seq": 3 + i, "attempt": 1, "at": "2026-11-23T01:02:03Z", "value": v} for i, v in enumerate(values)
    ]
    return {"items": items, "next_after": 9, "complete": True}


def attempt(number: int, **more: Any) -> dict[str, Any]:
    return {
        "attempt": number,
        "dispatcher": 3,
        "worker": 0,
        "started_at": "2026-11-23T01:02:03Z",
        "finished_at": "2026-11-23T01:02:05.5Z",
        "outcome": "exception",
        "error": {"kind": "exception", "type": "ValueError", "message": "no\nnever"},
        "peak_memory_bytes": 3 << 20,
        "cpu_seconds": 1.25,
        **more,
    }

"""The API under gunicorn, in a process of its own."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stores import prepared
from tests.waiting import eventually

_PROGRAM = """
import os, sys
if sys.argv[1] != "-":  # what systemd does before it starts a program
    os.dup2(int(sys.argv[1]), 3)
    os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
from jobrunner import logs
from jobrunner.api.server import run
from jobrunner.settings import load
settings = load(dict(argument.split("=", 1) for argument in sys.argv[2:]), {})
logs.to_stderr("api", settings.log_level)
run(settings)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Server:
    """A server that runs; `said` is what it wrote so far."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return the status and the value of the answer."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        status, data = self._answer(method, path, None if body is None else json.dumps(body), headers)
        return status, json.loads(data) if data else None

    def text(self, path: str) -> str:
        """Return the text that is there."""
        status, data = self._answer("GET", path, None, {})
        assert status == 200, data
        return data.decode()

    def _answer(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, bytes]:
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def raw(self, request: bytes) -> bytes:
        """Send `request`, end the sending side, and return all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def answers(self) -> bool:
        assert self.process.poll() is None, self.said
        try:
            return self.ask("GET", "/livez")[0] == 200
        except OSError:
            return False

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit status."""
        self.process.send_signal(signum)
        return self.process.wait(20)


@contextmanager
def served(directory: Path, *, listener: socket.socket | None = None, **settings: Any) -> Iterator[Server]:
    """Serve a new store in `directory`; `listener` is passed as systemd does."""
    prepared(directory / "jobrunner.db").close()
    port = free_port() if listener is None else listener.getsockname()[1]
    given = {"data": directory, "port": port, **settings}
    fds = [] if listener is None else [listener.fileno()]
    passed = str(fds[0]) if fds else "-"
    command = [sys.executable, "-c", _PROGRAM, passed, *(f"{name}={value}" for name, value in given.items())]
    log = directory / "api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, pass_fds=fds, start_new_session=True, cwd=directory
        )
    server = Server(process, port, log)
    try:
        eventually(server.answers)
        yield server
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)

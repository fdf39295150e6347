"""Both sides of a comparison: what each starts, and how it is seen how much is done.

Nobody is asked about that but the store where the results are: a look takes microseconds, and the two cores are for
those who are measured.
"""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tests.bench.__main__ import WORKERS, Server
from tests.bench.peers.environment import Environment, free_port

LOOK_SECONDS: Final = 0.02
END_SECONDS: Final = 30.0
MOST_SECONDS: Final = 900.0
APPS: Final = Path(__file__).parent


class Progress:
    """How many jobs are done, as seen from outside."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._before = count()

    @property
    def done(self) -> int:
        return self._count() - self._before

    def until(self, number: int) -> float:
        """Return when so many are done, by `time.monotonic`."""
        give_up_at = time.monotonic() + MOST_SECONDS
        while self.done < number:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"{self.done} of {number} are done after {MOST_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)
        return time.monotonic()

    def drained(self, number: int) -> float:
        """Return how many a second were done, from when the first are seen to be."""
        begun_at = self.until(1)
        first = self.done
        return (number - first) / (self.until(number) - begun_at)


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jobrunner-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


# -- ours ------------------------------------------------------------------------------------------


class Ours:
    """A running `jobrunner serve` on an empty store."""

    def __init__(self, data: Path) -> None:
        self.server = Server(data)
        self._store = sqlite3.connect(f"file:{data / 'jobrunner.db'}?mode=ro", uri=True, isolation_level=None)

    def succeeded(self) -> int:
        """Return how many jobs have succeeded."""
        ((jobs,),) = self._store.execute(
            "SELECT coalesce(sum(jobs), 0) FROM tally WHERE state = 'succeeded'"
        ).fetchall()
        return int(jobs)

    def is_final(self, job_id: int) -> int:
        ((finished_at,),) = self._store.execute(
            "SELECT finished_at FROM job WHERE id = ?", [job_id]
        ).fetchall()
        return finished_at is not None

    def submit(self, jobs: list[dict[str, Any]]) -> None:
        """Submit the jobs, 10,000 in one POST."""
        for first in range(0, len(jobs), 10_000):
            self.server.ask("POST", "/jobs/batch", jobs[first : first + 10_000])

    def pause(self, *, paused: bool) -> None:
        self.server.ask("PATCH", "/queues/default", {"paused": paused})

    def close(self) -> None:
        self._store.close()
        self.server.close()


@contextlib.contextmanager
def ours() -> Iterator[Ours]:
    with directory() as data, contextlib.closing(Ours(data)) as side:
        yield side


# -- peers -----------------------------------------------------------------------------------------


class Driver:
    """The process that submits to a peer."""

    def __init__(self, python: Path, app: str, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, str(APPS / "driver.py"), app],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said()

    def order(self, name: str, number: int) -> tuple[float, Any]:
        """Have it done; return when it began, by `time.monotonic`, and what was found."""
        stdin: Any = self._process.stdin
        stdin.write(json.dumps([name, number]) + "\n")
        stdin.flush()
        began_at, found = json.loads(self._said())
        return began_at, found

    def _said(self) -> str:
        stdout: Any = self._process.stdout
        if line := stdout.readline():
            return str(line)
        raise RuntimeError(f"the driver ended with {self._process.wait(END_SECONDS)}")

    def close(self) -> None:
        self._process.communicate(timeout=END_SECONDS)


class Peer:
    """A peer's store and driver; its workers are started by themselves."""

    def __init__(
        self, driver: Driver, count: Callable[[], int], command: list[str | Path], environ: dict[str, str]
    ) -> None:
        self.driver = driver
        self.count = count
        self._command = command
        self._environ = environ

    @contextlib.contextmanager
    def workers(self) -> Iterator[None]:
        process = subprocess.Popen(
            self._command,
            env=self._environ,
            cwd=APPS,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            end(process)

    def warm_up(self) -> None:
        """Return when the workers are at work."""
        progress = Progress(self.count)
        self.driver.order("submit", WORKERS * 10)
        progress.until(WORKERS * 10)


@contextlib.contextmanager
def huey(peers: Environment) -> Iterator[Peer]:
    """SqliteHuey with fsync, two processes; it polls, and here more often than by default, which favours it."""
    with directory() as data:
        environ = os.environ | {"BENCH_HUEY_FILE": str(data / "huey.db"), "PYTHONPATH": str(APPS)}
        with contextlib.closing(Driver(peers.python, "huey_app", environ)) as driver:
            store = sqlite3.connect(data / "huey.db", isolation_level=None)

            def count() -> int:
                ((last,),) = store.execute("SELECT coalesce(max(rowid), 0) FROM kv").fetchall()
                return int(last)

            flags = [f"-w{WORKERS}", "-kprocess", "-d0.01", "-m0.05", "-q"]
            command = [peers.python.parent / "huey_consumer", "huey_app.huey", *flags]
            with contextlib.closing(store):
                yield Peer(driver, count, command, environ)


@contextlib.contextmanager
def celery(peers: Environment) -> Iterator[Peer]:
    """Celery's prefork pool on a redis that keeps all in memory: nothing of it is durable, which favours it."""
    with directory() as data, redis(peers, data) as port:
        environ = os.environ | {"BENCH_REDIS": f"redis://127.0.0.1:{port}", "PYTHONPATH": str(APPS)}
        with (
            contextlib.closing(Driver(peers.python, "celery_app", environ)) as driver,
            socket.create_connection(("127.0.0.1", port)) as asked,
        ):
            results = asked.makefile("rwb")

            def ask(words: bytes) -> bytes:
                results.write(words + b"\r\n")
                results.flush()
                return results.readline()

            ask(b"SELECT 1")  # where the results are, and nothing else
            flags = ["worker", f"-c{WORKERS}", "-Pprefork", "-lERROR", "--without-gossip", "--without-mingle"]
            command = [peers.python.parent / "celery", "-Acelery_app", *flags]
            yield Peer(driver, lambda: int(ask(b"DBSIZE")[1:]), command, environ)


@contextlib.contextmanager
def redis(peers: Environment, data: Path) -> Iterator[int]:
    port = free_port()
    flags = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(data),
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    process = subprocess.Popen([peers.redis, *flags], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        give_up_at = time.monotonic() + END_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if time.monotonic() > give_up_at or process.poll() is not None:
                raise RuntimeError("redis-server does not come up")
            time.sleep(LOOK_SECONDS)
        yield port
    finally:
        end(process)


def end(process: "subprocess.Popen[Any]") -> None:
    """End the leader of a session that was started here, and all that is left of its process group."""
    process.send_signal(signal.SIGTERM)
    give_up_at = time.monotonic() + END_SECONDS
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > give_up_at:
            break
        time.sleep(LOOK_SECONDS)
    os.killpg(process.pid, signal.SIGKILL)  # its id is not used again while the leader is not reaped
    process.wait()

"""The stage: a directory, and two `jobrunner serve` on one store in it, which are started again whenever they end."""

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from jobrunner.errors import JobrunnerError, StoreUnavailableError
from jobrunner.selftest import members
from jobrunner.selftest.members import Member
from jobrunner.selftest.roles import Role, assign
from jobrunner.selftest.tasks import RUNS
from jobrunner.store import dispatchers
from jobrunner.store.engine import Store

HOST: Final = "127.0.0.1"
SIDES: Final = 2  #: each with an API and a dispatcher
WORKERS: Final = 4  #: of each dispatcher: enough for most jobs to rest in while others compute
API_WORKERS: Final = 2
LEASE_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 2.0
START_SECONDS: Final = 120.0  #: for all sides to come up
AGAIN_SECONDS: Final = 0.3  #: between two starts of a side that ends
STOP_SECONDS: Final = 60.0  #: for all sides to stop; more than any of them allows itself
LEAVE_SECONDS: Final = 15.0  #: for what a side has left behind to notice that it is alone
LOOK_SECONDS: Final = 0.05


class StageError(JobrunnerError):
    """The selftest could not set up what it tests."""


@dataclass
class Serve:
    """One `jobrunner serve`; `process` is None until its first start."""

    port: int
    log: Path
    environ: dict[str, str] = field(repr=False)
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0

    def keep(self, now: float) -> None:
        """Start it if it does not run, its pause is over, and what was left of it has let go of its port."""
        if self.process is not None and self.process.poll() is not None:
            self.process = None
            self.start_at = now + AGAIN_SECONDS
        if self.process is None and now >= self.start_at and _is_free(self.port):
            with self.log.open("ab") as output:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "jobrunner", "serve"],
                    env=self.environ,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # a terminal's Ctrl-C is for the selftest alone
                )

    def is_ready(self) -> bool:
        """Whether its API finds everything that it needs."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Stage:
    """Two sides on one store.  What leaves the `with` block leaves nothing running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal.jsonl"
        self.runs = folder / "runs.txt"
        self.mark = secrets.token_hex(16)
        data = folder / "store"
        ports = _free_ports(SIDES)
        self.sides = [Serve(port, folder / f"serve-{port}.log", self._environ(data, port)) for port in ports]
        self.store = Store(f"sqlite:///{data / 'jobrunner.db'}")
        self._guardian: subprocess.Popen[bytes] | None = None

    def _environ(self, data: Path, port: int) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBRUNNER_")}
        chosen = {
            "config": os.devnull,
            "data": data,
            "host": HOST,
            "port": port,
            "tasks": "jobrunner.selftest.tasks",
            "workers": WORKERS,
            "api_workers": API_WORKERS,
            "lease_seconds": LEASE_SECONDS,
            "grace_seconds": GRACE_SECONDS,
            "drain_seconds": DRAIN_SECONDS,
            "max_jobs_per_process": 50,
        }
        settings = {f"JOBRUNNER_{name.upper()}": str(value) for name, value in chosen.items()}
        return {**kept, **settings, **members.environ(self.mark), RUNS: str(self.runs)}

    def __enter__(self) -> Self:
        self.runs.touch(mode=0o600)
        self._guardian = subprocess.Popen(
            [sys.executable, "-m", "jobrunner.selftest.guardian", self.mark],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        # Whatever the way out, it kills what is still there.
        if self._guardian is not None:
            self._guardian.communicate()
        for side in self.sides:
            if side.process is not None:
                side.process.wait()
        self.store.close()

    # -- keeping it up -----------------------------------------------------------------------------

    def keep(self) -> None:
        """Start each side that does not run."""
        for side in self.sides:
            side.keep(time.monotonic())

    def wait_until_ready(self) -> None:
        """Start what does not run, until all sides are ready.

        Raises:
            StageError: they are not, in START_SECONDS.
        """
        give_up_at = time.monotonic() + START_SECONDS
        while not all(side.is_ready() for side in self.sides):
            if time.monotonic() > give_up_at:
                logs = " and ".join(str(side.log) for side in self.sides)
                raise StageError(f"jobrunner serve is not ready after {START_SECONDS:g} s: {logs} say why")
            self.keep()
            time.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """Stop all sides as a deploy does, and wait until they have ended or STOP_SECONDS are over."""
        for side in self.sides:
            if side.process is not None and side.process.poll() is None:
                side.process.terminate()
        give_up_at = time.monotonic() + STOP_SECONDS
        for side in self.sides:
            if side.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):  # found as what is left
                    side.process.wait(max(0.0, give_up_at - time.monotonic()))

    def left(self) -> list[Member]:
        """Return what still runs LEAVE_SECONDS after all was stopped."""
        give_up_at = time.monotonic() + LEAVE_SECONDS
        while (found := members.find(self.mark)) and time.monotonic() < give_up_at:
            time.sleep(LOOK_SECONDS)
        return found

    # -- what is on it -----------------------------------------------------------------------------

    def cast(self) -> dict[Role, list[Member]]:
        """Return the processes of each role; workers and writers only of dispatchers whose heartbeat can be read."""
        return assign(members.find(self.mark), self._worker_pids())

    def _worker_pids(self) -> set[int]:
        try:
            with self.store.read() as connection:
                slots = [json.loads(one.slots) for one in dispatchers.alive(connection)]
        except StoreUnavailableError:
            return set()
        return {slot["pid"] for workers in slots for slot in workers}

    def family(self, member: Member) -> list[Member]:
        """Return this process and all that it has started."""
        return [member, *members.descendants(member, members.find(self.mark))]

    def send(self, victim: Member, signum: signal.Signals) -> bool:
        """Send a signal to a process of this stage; return whether it was there."""
        return members.send(victim, signum, self.mark)


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    """Return ports that are free, each another."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]

"""A whole system: API and dispatcher as people start them, known by what it answers and says."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobrunner import kernel
from tests.api.serving import free_port
from tests.dispatcher.running import MODULES, descendants
from tests.waiting import eventually

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    value: Any


class Part:
    """A daemon with its log; it may be started again."""

    def __init__(self, command: Sequence[str], environ: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, env=environ, stdout=output, stderr=output, start_new_session=True, cwd=log.parent
            )

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def family(self) -> list[int]:
        return [self.process.pid, *descendants(self.process.pid)]

    def cpu_seconds(self) -> float:
        """User and system time of it and of all its processes so far."""
        return sum(map(_cpu_seconds, self.family()))

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)

    def kill(self) -> None:
        # Parents first: one whose child dies would start another, and be killed before that is known.
        for pid in self.family() if self.is_alive else []:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(60)


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


@dataclass
class System:
    """One data directory, and what runs on it.

    Attributes:
        folder: for logs and for what jobs write.
        data: the data directory; it need not be visible from here.
        before: what stands before each command.
        environ: what is added to the environment.
    """

    folder: Path
    data: Path
    before: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = free_port()
        # An abstract address: it is the same in every mount namespace, and never too long.
        self._notes = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notes.bind(f"\0jobrunner-test-{os.getpid()}-{self.port}")
        self._notes.setblocking(False)

    # -- processes ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start API and dispatcher, and wait until a job would run."""
        self.api, self.dispatcher = self.start_part("api"), self.start_part("dispatcher")
        eventually(self.is_ready, 60)

    def is_ready(self) -> bool:
        assert self.dispatcher.is_alive, self.dispatcher.said
        return self.answers() and self.ask("GET", "/readyz").status == 200

    def start_part(self, *command: str) -> Part:
        log = self.folder / f"{command[0]}-{len(self.parts)}.log"
        part = Part(self.command(*command), self._environ(), log)
        self.parts.append(part)
        return part

    def command(self, *arguments: str) -> list[str]:
        return [*self.before, sys.executable, "-m", "jobrunner", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the store to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self._environ(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _environ(self) -> dict[str, str]:
        settings = {
            "DATA": self.data,
            "PORT": self.port,
            "TASKS": "faults,map_faults",
            "WORKERS": 2,
            "DRAIN_SECONDS": 5,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBRUNNER_")}
        kept["PYTHONPATH"] = os.pathsep.join(map(str, (MODULES, *sys.path)))
        kept["NOTIFY_SOCKET"] = "@" + self._notes.getsockname()[1:].decode()
        return (
            kept | {f"JOBRUNNER_{name}": str(value) for name, value in settings.items()} | dict(self.environ)
        )

    def close(self) -> None:
        for part in self.parts:
            part.kill()
        self._notes.close()

    # -- what it says ------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return Answer(answer.status, dict(answer.headers), json.loads(data) if data else None)

    def answers(self) -> bool:
        assert self.api.is_alive, self.api.said
        try:
            return self.ask("GET", "/livez").status == 200
        except OSError:
            return False

    def submit(self, task: str, **params: Any) -> Answer:
        return self.ask("POST", "/jobs", {"task": task, "params": params})

    def accepted(self, task: str, **params: Any) -> int:
        """Submit a job that must be accepted; return its id."""
        answer = self.submit(task, **params)
        assert answer.status == 202, answer
        return int(answer.value["id"])

    def state(self, job_id: int) -> str:
        answer = self.ask("GET", f"/jobs/{job_id}")
        assert answer.status == 200, answer
        return str(answer.value["state"])

    def has_succeeded(self, job_id: int) -> Callable[[], bool]:
        return lambda: self.state(job_id) == "succeeded"

    def checks(self) -> dict[str, str]:
        """What readyz finds wrong, by the name of the check."""
        found = self.ask("GET", "/readyz").value["checks"]
        return {check["name"]: check["detail"] for check in found if not check["ok"]}

    def watchdogs(self) -> int:
        """How many times the watchdog was fed since this was asked before."""
        count = 0
        while True:
            try:
                count += b"WATCHDOG=1" in self._notes.recv(4096)
            except BlockingIOError:
                return count

    def rest(self, times: int) -> float:
        """Wait until the watchdog was fed so many times; return the share of a core that the dispatcher took."""
        self.watchdogs()
        fed = 0

        def is_enough() -> bool:
            nonlocal fed
            fed += self.watchdogs()
            assert self.dispatcher.is_alive, self.dispatcher.said
            return fed >= times

        began_at, before = time.monotonic(), self.dispatcher.cpu_seconds()
        eventually(is_enough, 60)
        return (self.dispatcher.cpu_seconds() - before) / (time.monotonic() - began_at)

    def books_agree(self) -> None:
        done = self.run("db", "check")
        assert done.returncode == 0, done.stdout + done.stderr


Systems = Callable[..., System]


def is_frozen(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "TZ"
    except FileNotFoundError:
        return True


def freeze(system: System) -> list[int]:
    """Stop every process of the system in the middle of whatever it does; return their pids."""
    pids = [pid for part in system.parts if part.is_alive for pid in part.family()]
    for pid in pids:
        if kernel.started_ticks(pid) is not None:
            os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(map(is_frozen, pids)))
    return pids


def thaw(pids: list[int]) -> None:
    for pid in pids:
        if kernel.started_ticks(pid) is not None:
            os.kill(pid, signal.SIGCONT)

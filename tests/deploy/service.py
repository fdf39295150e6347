"""Jobrunner as deploy/README.md installs it, in a box."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, Final

from tests.deploy.box import Box
from tests.deploy.page import DEPLOY, UNITS, blocks
from tests.waiting import eventually

HOST: Final = "127.0.0.1"
PORT: Final = 8000
FILES: Final = "/var/lib/jobrunner/files"
DISPATCHER: Final = "jobrunner-dispatcher.service"
API: Final = "jobrunner-api.service"
_RELEASE: Final = "/root/release"  #: where root has unpacked things; nobody else may look into /root
_TASKS: Final = Path(__file__).with_name("boxtasks.py")
_DROP_IN: Final = "etc/systemd/system/jobrunner-dispatcher.service.d"

in_a_minute: Final = partial(eventually, seconds=60)  #: what takes a second or two where nothing else runs


def install(box: Box, wheel: Path) -> None:
    """Install it by the page's own commands."""
    unpacked = box.share / "release"
    shutil.copytree(DEPLOY, unpacked / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(wheel.parent, unpacked / "dist")
    shutil.copy(_TASKS, unpacked / "mytasks.py")
    box.run(f"cp -r /run/share/release {_RELEASE}")
    [commands] = blocks("Install")
    # What it depends on is there already, for want of a network.
    box.run(f"cd {_RELEASE}; export PYTHONPATH=/opt/box/shelf\n{commands}")
    box.run(
        "for lib in /opt/jobrunner/lib/python3.*; do echo /opt/box/shelf >$lib/site-packages/box.pth; done"
    )


class Service:
    """The units in the box, and what people do to them."""

    def __init__(self, box: Box) -> None:
        """Start it by the page's own command, in a box where it was installed."""
        self.box = box
        self.type(blocks("Start")[0])

    def type(self, commands: str) -> str:
        """Type these commands as the page says; return what they print."""
        return self.box.run(f"cd {_RELEASE}\n{commands}")

    def drop_in(self, *lines: str) -> None:
        """Have these lines, and no earlier ones, in a drop-in of the dispatcher's unit, for its next start."""
        folder = self.box.root / _DROP_IN
        folder.mkdir(exist_ok=True)
        (folder / "test.conf").write_text("\n".join(["[Service]", *lines, ""]), encoding="utf-8")
        self.box.run("systemctl daemon-reload")

    def status(self, unit: str = DISPATCHER) -> str:
        """Return what `systemctl status` shows of a unit."""
        return self.box.run(f"systemctl status --no-pager -n 0 {unit} || true")

    def main_pid(self, unit: str = DISPATCHER) -> int:
        """Return the pid, in the box, of a unit's main process; 0 if there is none."""
        return int(self.box.show(unit, "MainPID"))

    def children(self, pid: int) -> list[int]:
        """Return the pids of a process's children."""
        assert pid
        return [int(child) for child in self.box.run(f"ps -o pid= --ppid {pid} || true").split()]

    def kill(self, pid: int) -> None:
        """Kill a process as nobody should."""
        self.box.run(f"kill -9 {pid}")

    def states(self) -> set[str]:
        """Return the states that its units are in."""
        names = " ".join(unit.name for unit in UNITS)
        return set(self.box.run(f"systemctl is-active {names} || true").split())

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Send a request over the socket; return the status and what the JSON says."""
        connection = HTTPConnection(HOST, PORT)
        connection.sock = self.box.connect(PORT)
        with contextlib.closing(connection):
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.load(answer)

    @contextlib.contextmanager
    def stream(self, path: str, headers: dict[str, str] | None = None) -> Iterator[HTTPResponse]:
        """GET something that is read as it comes."""
        with contextlib.closing(HTTPConnection(HOST, PORT)) as connection:
            connection.sock = self.box.connect(PORT)
            connection.request("GET", path, headers=headers or {})
            yield connection.getresponse()

    def get(self, path: str) -> Any:
        """GET something from the API."""
        return self.ask("GET", path)[1]

    def submit(self, task: str, *, crash_retries: int = 2, **params: Any) -> int:
        """Submit a job; return its id."""
        status, job = self.ask(
            "POST", "/jobs", {"task": task, "params": params, "crash_retries": crash_retries}
        )
        assert status == 202, job
        return int(job["id"])

    def job(self, job_id: int) -> dict[str, Any]:
        """Return the job as the API shows it."""
        job: dict[str, Any] = self.get(f"/jobs/{job_id}")
        return job

    def outcomes(self, job_id: int) -> list[str | None]:
        """Return how each attempt of the job ended."""
        return [attempt["outcome"] for attempt in self.get(f"/jobs/{job_id}/attempts")["items"]]

    def result(self, job_id: int) -> Any:
        """Wait for the job to succeed; return its result."""
        job = in_a_minute(lambda: self._final(job_id))
        assert job["state"] == "succeeded", job
        return job["result"]

    def failure(self, job_id: int) -> dict[str, Any]:
        """Wait for the job to fail; return its error."""
        job = in_a_minute(lambda: self._final(job_id))
        assert job["state"] == "failed", job
        error: dict[str, Any] = job["error"]
        return error

    def submit_waiting(self, name: str) -> int:
        """Return a job that runs until there is a file of this name."""
        job_id = self.submit("mytasks.wait_for", name=name)
        in_a_minute(lambda: self.has(f"{name}.started"))
        return job_id

    def touch(self, name: str) -> None:
        """Make what a job waits for."""
        self._file(name).touch()

    def remove(self, name: str) -> None:
        """Remove what `touch` or a job has made."""
        self._file(name).unlink(missing_ok=True)

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name where jobs write."""
        return self._file(name).exists()

    def _file(self, name: str) -> Path:
        return self.box.root / FILES.lstrip("/") / name

    def wait_for_attempt(self, job_id: int, number: int) -> None:
        """Wait until this attempt of the job runs."""
        in_a_minute(lambda: (job := self.job(job_id))["state"] == "running" and job["attempt"] == number)

    def _final(self, job_id: int) -> dict[str, Any]:
        job = self.job(job_id)
        return job if job["state"] in {"succeeded", "failed", "cancelled"} else {}

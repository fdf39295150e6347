"""Jobrunner as deploy/README.md installs it, in a box."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any, Final

from tests.deploy.box import Box
from tests.deploy.page import DEPLOY, UNITS, blocks
from tests.waiting import eventually

URL: Final = "http://127.0.0.1:8000"
FILES: Final = "/var/lib/jobrunner/files"
_RELEASE: Final = "/root/release"  #: where root has unpacked things; nobody else may look into /root
_TASKS: Final = Path(__file__).with_name("boxtasks.py")


class Service:
    """The units in the box, and what people do to them."""

    def __init__(self, box: Box, wheel: Path) -> None:
        """Install and start it by the page's own commands."""
        self.box = box
        unpacked = box.share / "release"
        shutil.copytree(DEPLOY, unpacked / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(wheel.parent, unpacked / "dist")
        shutil.copy(_TASKS, unpacked / "mytasks.py")
        box.run(f"cp -r /run/share/release {_RELEASE}")
        [install] = blocks("Install")
        # What it depends on is there already, for want of a network.
        self.type(f"export PYTHONPATH=/opt/box/shelf\n{install}")
        box.run(
            "for lib in /opt/jobrunner/lib/python3.*; do echo /opt/box/shelf >$lib/site-packages/box.pth; done"
        )
        self.type(blocks("Start")[0])

    def type(self, commands: str) -> str:
        """Type these commands as the page says; return what they print."""
        return self.box.run(f"cd {_RELEASE}\n{commands}")

    def states(self) -> set[str]:
        """Return the states that its units are in."""
        names = " ".join(unit.name for unit in UNITS)
        return set(self.box.run(f"systemctl is-active {names} || true").split())

    def get(self, path: str) -> Any:
        """GET something from the API."""
        return json.loads(self.box.run(f"curl -sS {shlex.quote(URL + path)}"))

    def submit(self, task: str, **params: Any) -> int:
        """Submit a job over the socket; return its id."""
        body = shlex.quote(json.dumps({"task": task, "params": params}))
        answer = self.box.run(f"curl -sS {URL}/jobs -H 'Content-Type: application/json' -d {body}")
        return int(json.loads(answer)["id"])

    def job(self, job_id: int) -> dict[str, Any]:
        """Return the job as the API shows it."""
        job: dict[str, Any] = self.get(f"/jobs/{job_id}")
        return job

    def result(self, job_id: int) -> Any:
        """Wait for the job to succeed; return its result."""
        job = eventually(lambda: self._final(job_id), seconds=20)
        assert job["state"] == "succeeded", job
        return job["result"]

    def failure(self, job_id: int) -> dict[str, Any]:
        """Wait for the job to fail; return its error."""
        job = eventually(lambda: self._final(job_id), seconds=20)
        assert job["state"] == "failed", job
        error: dict[str, Any] = job["error"]
        return error

    def submit_waiting(self, name: str) -> int:
        """Return a job that runs until there is a file of this name."""
        job_id = self.submit("mytasks.wait_for", name=name)
        eventually(lambda: self.has(f"{name}.started"))
        return job_id

    def touch(self, name: str) -> None:
        """Make what a job waits for."""
        self.box.run(f"touch {FILES}/{name}")

    def has(self, name: str) -> bool:
        """Return whether jobs have written a file of this name."""
        return bool(self.box.run(f"find {FILES} -name {name}"))

    def _final(self, job_id: int) -> dict[str, Any]:
        job = self.job(job_id)
        return job if job["state"] in {"succeeded", "failed", "cancelled"} else {}

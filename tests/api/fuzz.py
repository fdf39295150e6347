"""`python -m tests.api.fuzz --cases 20000`: ask a live server whatever its description allows, and what it forbids.

schemathesis does the asking, with every check that it has, of a real `jobrunner serve`: first of one without tokens,
then of one with.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jobrunner.api.schemas import OF_MAP_JOBS
from jobrunner.client import Client
from jobrunner.clock import utc_now
from jobrunner.store import tokens
from jobrunner.store.engine import Store
from jobrunner.store.tokens import Scope
from tests.api import fuzzed_tasks
from tests.cli.running import Served, serving
from tests.waiting import eventually

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SETTINGS = "max_wait = 0.1\nport = 0\n"
EXAMPLES_EACH = 100  # in one round; more of them repeat each other more


@dataclass
class Outcome:
    """What one or several runs have found."""

    cases: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    said: str = ""

    def add(self, report: dict[str, Any], said: str) -> None:
        self.cases += report["test_cases"]["generated"]
        self.seconds += report["running_time"]
        found = report["failures"] + report["errors"]
        self.failures += [json.dumps(one) for one in found]
        if found or not report["complete"]:
            self.said += said


class Target:
    """A server to ask, and somebody else who ends the jobs that would wait for ever."""

    def __init__(self, folder: Path, url: str, token: str | None = None) -> None:
        self._folder, self.url = folder, url
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._client = Client(url, token)
        if token is not None:
            eventually(self._needs_token)  # it looks for tokens once a second
        self._is_over = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep)
        self._description = folder / "openapi.json"
        self._description.write_text(json.dumps(self._narrowed()))

    def __enter__(self) -> "Target":
        self._sweeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._sweeper.join()
        self._client.close()

    def _sweep(self) -> None:
        """Cancel what is queued, again and again: what was submitted for next year, or into a queue that is paused.

        Else a stream of its events would never end.
        """
        while not self._is_over.wait(0.3):
            self._client.cancel_queued([job.id for job in self._client.jobs(state="queued")][:1000])

    def _narrowed(self) -> dict[str, Any]:
        """Return the server's description, in which a job is one of a task that there is, with its parameters."""
        document: dict[str, Any] = self._get("/openapi.json")
        schemas = document["components"]["schemas"]
        tasks = self._get("/tasks")["items"]
        submission = schemas["Submission"]
        each = [_of_task(submission, one) for one in tasks]
        each += [_of_items(submission, one) for one in tasks if one["name"] == "measure"]
        schemas["Submission"] = {"anyOf": each}
        return document

    def _needs_token(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/", timeout=20).close()  # noqa: S310
        except urllib.error.HTTPError as refused:
            return refused.code == HTTPStatus.UNAUTHORIZED
        return False

    def _get(self, path: str) -> Any:
        asked = urllib.request.Request(self.url + path, headers=self._headers)  # noqa: S310  # it is ours
        with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310
            return json.load(answer)

    def run(self, outcome: Outcome, *options: str) -> None:
        """Have it asked, and add what was found."""
        report = self._folder / "report.json"
        report.unlink(missing_ok=True)
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            "--config-file",
            str(HERE / "schemathesis.toml"),
        ]
        command += [
            "run",
            str(self._description),
            "--url",
            self.url,
            "--checks",
            "all",
            "--continue-on-failure",
        ]
        command += ["--report", "json", "--report-json-path", str(report), "--no-color", *options]
        for name, value in self._headers.items():
            command += ["--header", f"{name}: {value}"]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=self._folder, env=env, capture_output=True, text=True, check=False)
        assert report.exists(), done.stdout + done.stderr
        outcome.add(json.loads(report.read_text()), done.stdout + done.stderr)


def _of_task(submission: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    params = task["params"]
    properties = submission["properties"] | {"task": {"const": task["name"]}, "params": params}
    properties = {name: one for name, one in properties.items() if name not in ("map", *OF_MAP_JOBS)}
    required = ["task", "params"] if params.get("required") else ["task"]
    return submission | {"properties": properties, "required": required}


def _of_items(submission: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    """Return what a map job of the task may be, whose items have nothing in common."""
    params = task["params"]
    axes = {
        name: {"type": "array", "minItems": 1, "items": one} for name, one in params["properties"].items()
    }
    product = {
        "type": "object",
        "properties": axes,
        "required": params.get("required", []),
        "minProperties": 1,
        "additionalProperties": False,
    }
    listed = {"type": "array", "minItems": 1, "items": params}
    own = {
        "task": {"const": task["name"]},
        "map": {"anyOf": [listed, product]},
        "reduce": {"enum": ["total", {"task": "total"}, {"task": "total", "params": {"scale": 2}}]},
    }
    properties = {**submission["properties"], **own}
    del properties["params"]
    return submission | {"properties": properties, "required": ["task", "map"]}


@contextmanager
def server(folder: Path) -> Iterator[Served]:
    """Serve from a new folder for the length of a block."""
    (folder / "jobrunner.toml").write_text(SETTINGS)
    with serving(folder, f"--tasks={fuzzed_tasks.__name__}", "--log-level=warning", path=ROOT) as made:
        yield made.wait_until_ready()


def new_token(served: Served) -> str:
    """Return a token that may do everything; from now on every request needs one."""
    store = Store(f"sqlite:///{served.data / 'jobrunner.db'}")
    with store.write(durable=True) as connection:
        made = tokens.create(connection, "fuzz", Scope.ADMIN, now=utc_now())
    store.close()
    return made


def fuzz(folder: Path, cases: int) -> Outcome:
    """Ask at least so many times, half of them with a token; print how it goes."""
    outcome = Outcome()
    with server(folder) as served:
        for needs_token, enough in ((False, cases // 2), (True, cases)):
            with Target(folder, served.url, new_token(served) if needs_token else None) as asked:
                _ask(asked, outcome, enough)
    return outcome


def _ask(asked: Target, outcome: Outcome, enough: int) -> None:
    seed = 0
    while outcome.cases < enough:
        seed += 1
        phases = "examples,coverage,fuzzing,stateful" if seed == 1 else "fuzzing,stateful"
        asked.run(outcome, f"--seed={seed}", f"--phases={phases}", f"--max-examples={EXAMPLES_EACH}")
        told = f"{outcome.cases} cases, {len(outcome.failures)} failures, {outcome.seconds:.0f} s"
        print(told, flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=2000, help="how many requests to make, at least")
    with tempfile.TemporaryDirectory() as name:
        outcome = fuzz(Path(name), parser.parse_args().cases)
    print(outcome.said, end="")  # noqa: T201
    sys.exit(bool(outcome.failures))


if __name__ == "__main__":
    main()

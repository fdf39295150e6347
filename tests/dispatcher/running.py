"""A real dispatcher on a real store, for tests to kill."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jobrunner import kernel
from jobrunner.clock import utc_now
from jobrunner.lifecycle import State
from jobrunner.reports import EventKind
from jobrunner.store import attempts, dispatchers, events, jobs, moves
from jobrunner.wakeup import wake
from tests.stores import prepared
from tests.waiting import eventually

MODULES = Path(__file__).parent / "modules"


class World:
    """A data directory with its store, and the dispatchers that were started on it; `close` ends them."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.store = prepared(data / "jobrunner.db")
        self.started: list[Daemon] = []

    def close(self) -> None:
        for daemon in self.started:
            daemon.kill_all()
        self.store.close()

    def start(self, *, ready: bool = True, wrapper: Sequence[str] = (), **settings: Any) -> "Daemon":
        """Start a dispatcher; `wrapper` is a command that becomes the one that follows it."""
        daemon = Daemon(self, settings, wrapper)
        self.started.append(daemon)
        if ready:
            daemon.wait_until_ready()
        return daemon

    def submit(
        self, task: str, *, times: int = 1, params: dict[str, Any] | None = None, **more: Any
    ) -> list[int]:
        return self.submit_each(task, [params or {}] * times, **more)

    def submit_each(self, task: str, todo: Sequence[dict[str, Any]], **more: Any) -> list[int]:
        """Submit one job for each of some parameters."""
        new = [jobs.NewJob(task, json.dumps(params), **more) for params in todo]
        with self.store.write(durable=True) as connection:
            ids = jobs.submit(connection, new, now=utc_now())
        wake(self.data / "dispatchers")
        return ids

    def run(self, task: str, *, seconds: float = 30.0, **more: Any) -> jobs.Job:
        """Submit one job and wait until it is final."""
        return self.finished(self.submit(task, **more)[0], seconds)

    def job(self, job_id: int) -> jobs.Job:
        with self.store.read() as connection:
            return jobs.get(connection, job_id)

    def finished(self, job_id: int, seconds: float = 30.0) -> jobs.Job:
        eventually(lambda: self.job(job_id).is_final, seconds)
        return self.job(job_id)

    def all_finished(self, ids: list[int], seconds: float = 60.0) -> list[jobs.Job]:
        return [self.finished(job_id, seconds) for job_id in ids]

    def cancel(self, job_id: int, grace_seconds: float = 0.2) -> State:
        with self.store.write(durable=True) as connection:
            state = moves.cancel(connection, job_id, grace_seconds=grace_seconds, now=utc_now())
        wake(self.data / "dispatchers")
        return state

    def events(self, job_id: int, *kinds: EventKind) -> list[events.Event]:
        found: list[events.Event] = []
        with self.store.read() as connection:
            while page := events.after(
                connection,
                job_id,
                seq=found[-1].seq if found else 0,
                kinds=kinds or tuple(EventKind),
                limit=10_000,
            ):
                found += page
        return found

    def partials(self, job_id: int) -> list[Any]:
        return [json.loads(event.data) for event in self.events(job_id, EventKind.PARTIAL)]

    def log(self, job_id: int) -> str:
        return "".join(event.data for event in self.events(job_id, EventKind.LOG))

    def attempts(self, job_id: int) -> list[attempts.Attempt]:
        with self.store.read() as connection:
            return attempts.of_job(connection, job_id)

    def error(self, job: jobs.Job) -> dict[str, Any]:
        assert job.error is not None, job
        found: dict[str, Any] = json.loads(job.error)
        return found

    def dispatchers(self) -> list[dispatchers.Dispatcher]:
        with self.store.read() as connection:
            return dispatchers.alive(connection)


class Daemon:
    """One dispatcher process.  It and all that it starts are killed at the end of the test."""

    def __init__(self, world: World, settings: dict[str, Any], wrapper: Sequence[str] = ()) -> None:
        self._world = world
        given: dict[str, Any] = {"data": world.data, "tasks": "faults", "workers": 2} | settings
        environ = {f"JOBRUNNER_{name.upper()}": str(value) for name, value in given.items()}
        # PYTHONUNBUFFERED would unbuffer C's stdout too, and hide that it must be flushed.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("JOBRUNNER_") and name != "PYTHONUNBUFFERED"
        }
        path = os.pathsep.join(map(str, (world.data, MODULES, *sys.path)))
        self.log_path = world.data / f"dispatcher-{len(world.started)}.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", "jobrunner", "dispatcher"],
                env=inherited | {"PYTHONPATH": path} | environ,
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self.process.pid

    @property
    def said(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, self.said
            return "ready:" in self.said

        eventually(is_ready, 60)

    def signal(self, signum: signal.Signals) -> None:
        os.kill(self.pid, signum)

    def wait(self, seconds: float = 30.0) -> int:
        return self.process.wait(seconds)

    @property
    def entry(self) -> dispatchers.Dispatcher:
        return next(one for one in self._world.dispatchers() if one.pid == self.pid)

    def slots(self) -> list[dict[str, Any]]:
        """The workers as they were at the last heartbeat; waits for the first one."""

        def after_first_heartbeat() -> list[dict[str, Any]]:
            slots: list[dict[str, Any]] = json.loads(self.entry.slots)
            return slots

        return eventually(after_first_heartbeat)

    def wait_until_stalled(self) -> None:
        """Return when a job has said something and two heartbeats after each other count the same."""

        def stands_still() -> bool:
            before = self.entry
            eventually(lambda: self.entry.heartbeat_at > before.heartbeat_at)
            first, second = (
                sum(slot["partials"] for slot in json.loads(one.slots)) for one in (before, self.entry)
            )
            return bool(first == second > 0)

        eventually(stands_still, 60)

    def family(self) -> set[int]:
        """The pids of the process and all its descendants."""
        return set(descendants(self.pid)) | {self.pid}

    def writer_pid(self) -> int:
        """The one process of the forkserver that is no worker."""
        workers = {slot["pid"] for slot in self.slots()}
        (found,) = (
            pid
            for parent in kernel.children(self.pid)
            for pid in kernel.children(parent)
            if pid not in workers
        )
        return found

    def kill_all(self) -> None:
        family = self.family()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait()
        for pid in family - {self.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> Iterator[int]:
    for child in kernel.children(pid):
        yield child
        yield from descendants(child)


def is_gone(pid: int) -> bool:
    """Whether the process has ended; one that waits to be reaped has."""
    return kernel.started_ticks(pid) is None


def told(directory: Path, name: str) -> Callable[[], str]:
    """A condition: the text that a task has put into this file."""

    def read() -> str:
        path = directory / name
        return path.read_text() if path.exists() else ""

    return read

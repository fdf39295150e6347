"""What a large store costs a process that lives with it: how long it takes to start, and whether it grows.

How much a dispatcher grows is seen in an empty store, where the jobs of 1,000 turns are done in a minute.
"""

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select

from jobrunner import kernel
from jobrunner.store.engine import Store
from jobrunner.store.tables import attempt
from tests.api.serving import free_port
from tests.bench.__main__ import Server, no_op_jobs, wait_for
from tests.bench.memory import processes

STARTS: Final = 3
BATCH: Final = 2000  #: jobs that are submitted at a time
WARM_UP_JOBS: Final = 100_000  #: before anything is measured: SQLite fills its cache of each connection


def start_up(directory: Path) -> dict[str, float]:
    """Return the seconds from exec to ready, the best of a few starts: of the API, and of a dispatcher."""
    tasks = str(Path(__file__).parent.parent)
    settings = {
        "DATA": str(directory),
        "WORKERS": "2",
        "TASKS": "bench_tasks",  # none of those that are queued in the store
        "KEEP_SUCCEEDED": "forever",
        "KEEP_FAILED": "forever",
    }
    environ = {f"JOBRUNNER_{name}": value for name, value in settings.items()}
    environ |= {"PYTHONPATH": os.pathsep.join([tasks, *sys.path])}
    starts = {"start-up of the API": _api_seconds, "start-up of a dispatcher": _dispatcher_seconds}
    return {name: min(start(directory, environ) for _ in range(STARTS)) for name, start in starts.items()}


def _api_seconds(directory: Path, environ: Mapping[str, str]) -> float:
    """Return when it first answers a question about a job."""
    port = free_port()
    start = time.perf_counter()
    process = _started(["api", "--port", str(port)], environ)
    try:
        wait_for(lambda: _answers(port), 60, pause=0.005)
        return time.perf_counter() - start
    finally:
        _ended(process)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/jobs/1")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _dispatcher_seconds(directory: Path, environ: Mapping[str, str]) -> float:
    """Return when it says that it is ready, which its workers are by then."""
    start = time.perf_counter()
    process = _started(["dispatcher"], environ)
    assert process.stderr is not None
    try:
        said = next(line for line in process.stderr if "ready:" in line)
        assert "2 workers" in said, said
        return time.perf_counter() - start
    finally:
        _ended(process)


def _started(arguments: list[str], environ: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jobrunner", *arguments],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _ended(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


# -- memory ------------------------------------------------------------------------------------------


def memory(cycles: int) -> list[dict[str, Any]]:
    """Return what each process of a dispatcher holds after it has warmed up, and after so many turns more.

    A turn is one look for jobs that found some, and gave them to the workers.
    """
    with tempfile.TemporaryDirectory(prefix="jobrunner-bench-") as directory:
        server = Server(Path(directory))
        store = Store(f"sqlite:///{Path(directory) / 'jobrunner.db'}")
        try:
            no_op_jobs(server, WARM_UP_JOBS)
            before, first = _resident(server), _turns(store)
            jobs = 0
            while (turns := _turns(store) - first) < cycles:
                no_op_jobs(server, BATCH)
                jobs += BATCH
            after = _resident(server)
        finally:
            store.close()
            server.close()
    return [
        {
            "process": name,
            "before_mb": before[name] / (1 << 20),
            "after_mb": after[name] / (1 << 20),
            "bytes_per_job": (after[name] - before[name]) / jobs,
            "jobs": jobs,
            "turns": turns,
        }
        for name in before
    ]


def _turns(store: Store) -> int:
    with store.read() as connection:
        return int(connection.execute(select(func.count(attempt.c.started_at.distinct()))).scalar_one())


def _resident(server: Server) -> dict[str, int]:
    def look() -> dict[str, int] | None:
        found = {name: kernel.usage([pid]).resident_bytes for name, pid in processes(server).items()}
        return found if all(found.values()) else None  # a process was just replaced

    found: dict[str, int] = wait_for(look, 30, pause=1.0)
    return found

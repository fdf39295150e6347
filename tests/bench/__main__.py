"""`python -m tests.bench`: what jobrunner does on this machine, one line a figure.

Starts the real thing (`jobrunner serve`, two workers, an empty store on disk), speaks HTTP to it, and puts a bare
`multiprocessing.Pool` beside it in the same run, for machines differ and drift.
"""

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jobrunner import Executor
from jobrunner.client import Client
from jobrunner.kernel import children

WORKERS = 2
GRACE_SECONDS = 0.5


class Server:
    """A running `jobrunner serve`."""

    def __init__(self, data: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        flags = ["--data", str(data), "--port", str(self.port), "--workers", str(WORKERS)]
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jobrunner",
                "serve",
                *flags,
                "--tasks",
                "bench_tasks",
                "--log-level",
                "warning",
            ],
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
        )
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port)
        wait_for(self._is_ready, 60)

    def _is_ready(self) -> bool:
        try:
            self.ask("GET", "/readyz")
        except (OSError, RuntimeError):
            self._connection.close()
            return False
        return True

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        sent = None if body is None else json.dumps(body)
        self._connection.request(method, path, sent, {"Content-Type": "application/json", **(headers or {})})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:500]!r}")
        return json.loads(data) if data.startswith((b"{", b"[")) else data

    def reconnect(self) -> None:
        """Take a new connection for the next request: one that has rested for long may be closed just now."""
        self._connection.close()

    def finished(self, job_id: int) -> dict[str, Any]:
        return wait_for(lambda: (job := self.ask("GET", f"/jobs/{job_id}"))["finished_at"] and job, 120)

    def family(self) -> list[int]:
        def below(pid: int) -> Iterator[int]:
            for child in children(pid):
                yield child
                yield from below(child)

        return [self.process.pid, *below(self.process.pid)]

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def wait_for(condition: Callable[[], Any], seconds: float, pause: float = 0.002) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(condition)
        time.sleep(pause)
    return found


# -- the figures -----------------------------------------------------------------------------------


def no_op_jobs(server: Server, number: int) -> float:
    """Jobs a second, from the first POST to the last result on disk; up to 10,000 in one POST."""
    jobs = [{"task": "bench.nothing"}] * number

    def succeeded() -> int:
        return int(server.ask("GET", "/stats")["jobs"]["succeeded"])

    before, start = succeeded(), time.perf_counter()
    for first in range(0, number, 10_000):
        server.ask("POST", "/jobs/batch", jobs[first : first + 10_000])
    wait_for(lambda: succeeded() - before >= number, 300, pause=0.1)  # a poll takes CPU too
    return number / (time.perf_counter() - start)


def bare_pool(number: int) -> float:
    """Jobs a second of a bare Pool that keeps nothing."""
    with multiprocessing.get_context("forkserver").Pool(WORKERS) as pool:
        pool.apply(time.time)
        start = time.perf_counter()
        for result in [pool.apply_async(time.time) for _ in range(number)]:
            result.get()
        return number / (time.perf_counter() - start)


def pick_up(server: Server, number: int) -> list[float]:
    """Milliseconds from the answer of a POST to the first line of the task, the system being idle."""
    found = []
    for _ in range(number):
        job = server.ask("POST", "/jobs", {"task": "bench.started"})
        answered = time.time()
        time.sleep(0.02)  # a poll at once would take the core that the job needs
        found.append((server.finished(job["id"])["result"] - answered) * 1000)
    return sorted(found)


def there_and_back(server: Server, number: int) -> dict[str, list[float]]:
    """Milliseconds of `submit(...).result()` of a no-op by client and executor, and of a bare GET beside them."""
    server.reconnect()
    with Client(f"http://127.0.0.1:{server.port}") as client, Executor(client.url) as executor:
        ways = {
            "a bare GET /livez": lambda: server.ask("GET", "/livez"),
            "client": lambda: client.submit("bench.nothing").result(),
            "executor": lambda: executor.submit("bench.nothing").result(),
        }
        found: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(number):
            for way, go in ways.items():
                start = time.perf_counter()
                go()
                found[way].append((time.perf_counter() - start) * 1000)
    return {way: sorted(taken) for way, taken in found.items()}


def partial_results(server: Server, number: int) -> float:
    """Partial results a second from one generator, from start to finish; every one is checked."""
    job = server.ask("POST", "/jobs", {"task": "bench.count", "params": {"n": number}})
    ended = server.finished(job["id"])
    values: list[int] = []
    after = 0
    while True:
        page = server.ask("GET", f"/jobs/{job['id']}/partials?after={after}&limit=1000")
        values += [item["value"] for item in page["items"]]
        after = page["next_after"]
        if not page["items"]:
            break
    if values != list(range(number)):
        raise AssertionError(f"{number} were yielded, {len(values)} are kept, or not in order")
    return number / float(ended["ran_seconds"])


def hard_cancel(server: Server, number: int) -> list[float]:
    """Milliseconds past the grace period until a job that is stuck in C is recorded as cancelled."""
    found = []
    for _ in range(number):
        job_id = server.ask("POST", "/jobs", {"task": "bench.stuck"})["id"]
        wait_for(lambda job_id=job_id: server.ask("GET", f"/jobs/{job_id}")["partials"], 30)
        start = time.perf_counter()
        server.ask("POST", f"/jobs/{job_id}/cancel", {"grace_seconds": GRACE_SECONDS})
        job = server.finished(job_id)
        if job["state"] != "cancelled":
            raise AssertionError(job)
        found.append((time.perf_counter() - start - GRACE_SECONDS) * 1000)
    return sorted(found)


def idle(server: Server, seconds: float) -> tuple[float, float]:
    """Percent of a core that all processes together take, and their proportional memory in MB."""

    def cpu_seconds() -> float:
        ticks = 0
        for pid in server.family():
            with contextlib.suppress(FileNotFoundError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    before, start = cpu_seconds(), time.perf_counter()
    time.sleep(seconds)
    share = (cpu_seconds() - before) / (time.perf_counter() - start)
    kilobytes = 0
    for pid in server.family():
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kilobytes += int(rollup.split("Pss:")[1].split()[0])
    return share * 100, kilobytes / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, help="no-op jobs")
    parser.add_argument("--partials", type=int, default=100_000, help="partial results of one generator")
    parser.add_argument("--runs", type=int, default=3, help="runs of the two above")
    parser.add_argument("--idle-seconds", type=float, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobrunner-bench-") as directory:
        server = Server(Path(directory))
        try:
            share, megabytes = idle(server, given.idle_seconds)
            print(f"idle, {WORKERS} workers: {share:.2f} % of a core, {megabytes:.0f} MB (PSS) in all")
            found = pick_up(server, 200)
            print(
                f"idle pick-up, POST answered to task running: p50 {found[100]:.2f} ms, p90 {found[180]:.2f} ms"
            )
            for way, taken in there_and_back(server, 200).items():
                print(f"no-op there and back, {way}: p50 {taken[100]:.2f} ms, p90 {taken[180]:.2f} ms")
            rates = [no_op_jobs(server, given.jobs) for _ in range(given.runs)]
            pool = [bare_pool(given.jobs) for _ in range(given.runs)]
            ratio = statistics.median(rates) / statistics.median(pool)
            print(
                f"no-op jobs, submitted at once and kept: {_spread(rates)} jobs/s, {ratio:.3f} of a bare Pool"
            )
            print(f"  beside it, a bare Pool.apply_async that keeps nothing: {_spread(pool)} jobs/s")
            rates = [partial_results(server, given.partials) for _ in range(given.runs)]
            print(f"partial results of one generator, none lost, in order: {_spread(rates)} a second")
            found = hard_cancel(server, 10)
            print(f"hard cancel, beyond the grace period: p50 {found[5]:.0f} ms, worst {found[-1]:.0f} ms")
        finally:
            server.close()


def _spread(values: list[float]) -> str:
    return f"median {statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


if __name__ == "__main__":
    main()

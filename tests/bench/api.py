"""`python -m tests.bench.api`: what the HTTP side does on this machine, beside a bare Flask "hello".

"hello" runs under gunicorn's own worker with all the settings that `jobrunner api` has.  The two are asked in turns,
in one run, each a few times, for machines differ and drift; a ratio is that of one round.
"""

import argparse
import itertools
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from flask import Flask

from jobrunner.api.server import _Server
from jobrunner.client import Client
from jobrunner.clock import utc_now
from jobrunner.lifecycle import Ending
from jobrunner.settings import Settings
from jobrunner.store import jobs, migrations, tokens
from jobrunner.store.engine import Store
from tests.api.serving import free_port, served
from tests.api.world import made_in
from tests.bench.__main__ import Server, there_and_back
from tests.bench.load import requests_per_second
from tests.waiting import eventually

BODY: Final = b'{"task":"demo.train","params":{"dataset":"digits","epochs":20},"labels":{"run":"bench"}}'
WAITERS: Final = 200
STREAMS: Final = 50


class Hello(_Server):
    """A bare Flask application under the same settings, and gunicorn's own worker."""

    def load(self) -> Flask:
        app = Flask("hello")
        app.add_url_rule("/", view_func=lambda: "hello")
        return app

    def _options(self) -> dict[str, Any]:
        own = ("worker_class", "pre_fork")
        return {name: value for name, value in super()._options().items() if name not in own} | {
            "worker_class": "gthread"
        }


@contextmanager
def hello() -> Iterator[int]:
    """Serve "hello"; yield the port."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.api", "--be-hello", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: _listens(port), 30)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    head = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, *headers, "", ""]).encode() + body


def ratios(directory: Path, seconds: float, rounds: int) -> Iterator[str]:
    """Yield a line for each kind of request: its rate, and its ratio to hello's of the same round."""
    world = made_in(directory)
    job_id = world.submit("demo.train", params={"dataset": "digits"}, labels={"run": "bench"})
    world.claim()
    world.end(job_id, Ending.SUCCEEDED, result={"accuracy": 0.97})
    tag = world.client.get(f"/jobs/{job_id}").headers["ETag"]
    token = f"Authorization: Bearer {_token(directory / 'locked')}"
    world.close()
    path = f"/jobs/{job_id}"
    with (
        hello() as bare,
        served(directory, max_queued=10**9) as ours,
        served(directory / "locked") as locked,
    ):
        kinds = {
            "GET /livez": (ours.port, get("/livez"), 200),
            "GET /jobs/{id}": (ours.port, get(path), 200),
            "GET /jobs/{id}, 304": (ours.port, get(path, f"If-None-Match: {tag}"), 304),
            "GET /jobs/{id} with a token": (locked.port, get("/jobs/1", token), 200),
            "POST /jobs, durable": (ours.port, post("/jobs", BODY), 202),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, (port, request, status) in kinds.items():
                beside = requests_per_second(bare, get("/"), 200, seconds)
                found[name].append((requests_per_second(port, request, status, seconds), beside))
    yield f'bare Flask "hello": {_spread([bare for rates in found.values() for _, bare in rates], "req/s")}'
    for name, rates in found.items():
        shares = [rate / beside for rate, beside in rates]
        yield f"{name}: {_spread(shares, 'of it', 2)}, {_spread([rate for rate, _ in rates], 'req/s')}"


def _token(directory: Path) -> str:
    """Make a store with a job, locked by a token; return the token."""
    directory.mkdir()
    world = made_in(directory)
    world.submit("demo.nothing")
    with world.store.write(durable=True) as connection:
        secret = tokens.create(connection, "bench", tokens.Scope.READ, now=utc_now())
    world.close()
    return secret


def batches(directory: Path, rounds: int) -> list[float]:
    """Jobs a second inside the call to the store that keeps a batch of 10,000, fsync and all."""
    store = Store(f"sqlite:///{directory / 'batches.db'}")
    migrations.prepare(store)
    batch = [jobs.NewJob("demo.train", '{"dataset":"digits","epochs":20}', retries=0) for _ in range(10_000)]
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        with store.write(durable=True) as connection:
            jobs.submit(connection, batch, now=utc_now())
        found.append(len(batch) / (time.perf_counter() - start))
    store.close()
    return found


def delivery(server: Server, number: int) -> dict[str, list[float]]:
    """Milliseconds from a `yield` to the client that has it, one at a time and by each kind of stream."""
    ways: dict[str, Callable[[Any], Iterator[float]]] = {
        "event stream": lambda job: (e["value"] for e in job.events() if "value" in e),
        "NDJSON": lambda job: (one.value for one in job.partials()),
    }
    found = {}
    with Client(f"http://127.0.0.1:{server.port}") as client:
        for way, values in ways.items():
            job = client.submit("bench.ticks", n=number, pause_seconds=0.05)
            found[way] = sorted((time.time() - said) * 1000 for said in values(job))
            if len(found[way]) != number:
                raise AssertionError(f"{number} were yielded, {len(found[way])} came")
    return found


def crowd(directory: Path, number: int) -> tuple[list[float], list[float]]:
    """Milliseconds of GET /livez alone, and while so many wait and stream."""
    world = made_in(directory)
    job_id = world.submit()
    with ExitStack() as held, served(directory) as server:

        def livez() -> list[float]:
            connection = server.connect()
            found = []
            for _ in range(number):
                start = time.perf_counter()
                connection.request("GET", "/livez")
                connection.getresponse().read()
                found.append((time.perf_counter() - start) * 1000)
            connection.close()
            return sorted(found)

        alone = livez()
        for path in [f"/jobs/{job_id}?wait=60"] * WAITERS + [f"/jobs/{job_id}/events"] * STREAMS:
            one = server.connect()
            one.request("GET", path)
            held.callback(one.close)
        waiting = f"\njobrunner_api_waiting {WAITERS + STREAMS}.0\n"
        eventually(lambda: waiting in server.text("/metrics"), 60)
        stop = threading.Event()
        news = threading.Thread(target=_make_news, args=(directory, stop))
        news.start()
        beside = livez()
        stop.set()
        news.join()
    world.close()
    return alone, beside


def _make_news(directory: Path, stop: threading.Event) -> None:
    """Submit another job ten times a second: each wakes the watcher, and none of those who wait."""
    world = made_in(directory)
    while not stop.wait(0.1):
        world.submit()
    world.close()


def _spread(values: list[float], unit: str, digits: int = 0) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"median {middle:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f}) {unit}"


def _percentiles(found: list[float]) -> str:
    return f"p50 {found[len(found) // 2]:.2f} ms, p99 {found[len(found) * 99 // 100]:.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.api", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round and kind of request")
    parser.add_argument("--be-hello", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.be_hello is not None:
        Hello(Settings(port=given.be_hello), f"127.0.0.1:{given.be_hello}").run()
        return
    with tempfile.TemporaryDirectory(prefix="jobrunner-bench-") as directory:
        places = (Path(directory) / str(number) for number in itertools.count())
        for line in ratios(_made(next(places)), given.seconds, given.rounds):
            print(line, flush=True)
        kept = batches(_made(next(places)), given.rounds)
        print(f"a batch of 10,000 inside the store call: {_spread(kept, 'jobs/s')}", flush=True)
        alone, beside = crowd(_made(next(places)), 500)
        print(f"GET /livez alone: {_percentiles(alone)}")
        print(f"  beside {WAITERS} waits and {STREAMS} streams: {_percentiles(beside)}", flush=True)
        server = Server(_made(next(places)))
        try:
            for way, found in delivery(server, 200).items():
                print(f"from yield to the client by {way}: {_percentiles(found)}", flush=True)
            for way, found in there_and_back(server, 200).items():
                print(f"no-op there and back, {way}: {_percentiles(found)}", flush=True)
        finally:
            server.close()


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


if __name__ == "__main__":
    main()

"""`python -m tests.bench.retention`: what it costs to remove old jobs, one line a figure.

How long each transaction held the write lock, how fast jobs go, and what the dispatch of no-op jobs loses meanwhile.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection

from jobrunner.clock import utc_now
from jobrunner.dispatcher.housekeeping import Housekeeping
from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, EventKind, Report
from jobrunner.settings import Settings
from jobrunner.store import dispatchers, jobs, lists, migrations, moves, reports, retention
from jobrunner.store.engine import Store
from tests.bench.__main__ import Server, _spread, wait_for

OLD = timedelta(days=1)
BATCH = 10_000
PARTIALS = 1000  # in one report


class TimedStore(Store):
    """Notes for how many milliseconds each transaction held the write lock: got it, to committed and let go.

    And the CPU time of that: what is beyond it is the disk, or other processes on a machine that is not calm.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.held: list[tuple[float, float]] = []

    @contextlib.contextmanager
    def write(self, *, durable: bool) -> Iterator[Connection]:
        with super().write(durable=durable) as connection:
            start, cpu = time.perf_counter(), time.thread_time()
            yield connection
        self.held.append(((time.perf_counter() - start) * 1000, (time.thread_time() - cpu) * 1000))


def fill(
    store: Store, number: int, *, partials: int = 0, value: str = '{"loss":0.12345}', result: str = "null"
) -> None:
    """Have `number` jobs finish a day ago, each with so many partial results; no dispatcher is left."""
    then = utc_now() - OLD
    process = dispatchers.Process(host="bench", place="bench", pid=1, started_ticks=1)
    with store.write(durable=False) as connection:
        mine = dispatchers.register(connection, process, workers=1, now=then)
    said = ((EventKind.PARTIAL, value),) * min(partials, PARTIALS)
    for first in range(0, number, BATCH):
        with store.write(durable=False) as connection:
            new = [jobs.NewJob("bench.nothing", "{}")] * min(BATCH, number - first)
            jobs.submit(connection, new, now=then)
            claimed = moves.claim(connection, mine, tasks=["bench.nothing"], limit=BATCH, now=then)
        for _ in range(partials // PARTIALS):
            _record(store, [Report(one.id, one.attempt, then, said) for one in claimed])
        end = Ended(Ending.SUCCEEDED, result=result, worker=0, cpu_seconds=0.001)
        left = said if partials < PARTIALS else ()
        _record(store, [Report(one.id, one.attempt, then, left, end) for one in claimed])
        store.checkpoint_if_large()
    with store.write(durable=False) as connection:
        dispatchers.end(connection, mine, now=then)


def _record(store: Store, said: list[Report]) -> None:
    with store.write(durable=False) as connection:
        reports.record(connection, said)


def remove_all(store: TimedStore) -> tuple[float, float]:
    """Keep house until nothing is left; return the seconds it takes at its own pace, and those of work."""
    unnoticed = Store(str(store.url))  # a checkpoint is no removal
    housekeeping = Housekeeping(store, Settings(keep_succeeded=0.0), now=utc_now())
    now = start = utc_now()
    worked = 0.0
    store.held.clear()
    while True:
        began = time.perf_counter()
        housekeeping.step(now)
        worked += time.perf_counter() - began
        if sum(_counts(store)) == 0:
            return (now - start).total_seconds(), worked
        now = housekeeping.next_at
        unnoticed.checkpoint_if_large()


def _counts(store: Store) -> list[int]:
    with store.read() as connection:
        return list(jobs.counts(connection).values())


def locks(store: TimedStore) -> str:
    """Say for how long the lock was held."""
    wall, cpu = (sorted(each) for each in zip(*store.held, strict=True))
    return (
        f"p50 {wall[len(wall) // 2]:.1f} ms, p99 {wall[len(wall) * 99 // 100]:.1f}, longest {wall[-1]:.1f}"
        f" (CPU: {cpu[len(cpu) // 2]:.1f}, {cpu[len(cpu) * 99 // 100]:.1f}, {cpu[-1]:.1f})"
    )


def figures_of_removal(directory: Path, number: int, events: int) -> None:
    kinds = {
        f"{number:,} no-op jobs": {"number": number},
        f"{number // 20:,} jobs of 20 partial results": {"number": number // 20, "partials": 20},
        f"one job of {events:,} partial results": {"number": 1, "partials": events},
        "100 partial results of 1 MB": {"number": 10, "partials": 10, "value": f'"{"x" * (1 << 20)}"'},
        "10 results of 16 MB": {"number": 10, "result": f'"{"x" * (16 << 20)}"'},
    }
    for index, (name, kind) in enumerate(kinds.items()):
        store = TimedStore(f"sqlite:///{directory / f'{index}.db'}")
        migrations.prepare(store)
        fill(store, **kind)
        store.checkpoint_if_large(1)
        paced, worked = remove_all(store)
        print(
            f"{name}: lock held {locks(store)}; gone in {paced:.1f} s, {worked:.1f} s of it at work",
            flush=True,
        )
        if kind["number"] == number:
            print(f"  {number / paced:,.0f} jobs/s at its own pace")
        if index == 2:
            fill(store, **kind)
            store.held.clear()
            start = time.perf_counter()
            retention.remove(store, number_of_last(store))
            print(
                f"  asked for by DELETE: lock held {locks(store)}; gone in {time.perf_counter() - start:.1f} s"
            )
        store.close()


def number_of_last(store: Store) -> int:
    with store.read() as connection:
        return lists.page(connection, lists.Filter(), before_id=None, limit=1)[0].id


def dispatch_rate(server: Server, number: int) -> float:
    """No-op jobs a second, from the first POST until nothing is queued or runs."""

    def is_done() -> bool:
        counts = server.ask("GET", "/stats")["jobs"]
        return not counts["queued"] and not counts["running"]

    start = time.perf_counter()
    server.ask("POST", "/jobs/batch", [{"task": "bench.nothing"}] * number)
    wait_for(is_done, 300, pause=0.1)
    return number / (time.perf_counter() - start)


def figures_of_dispatch(directory: Path, number: int, runs: int, each: int = BATCH) -> None:
    """The same store with the same old jobs, by turns kept for ever and removed meanwhile, for machines drift."""
    store = Store(f"sqlite:///{directory / 'jobrunner.db'}")
    migrations.prepare(store)
    fill(store, number)
    rates: dict[str, list[float]] = {"forever": [], "12h": []}
    removed = []
    for _ in range(runs):
        for keep, found in rates.items():
            os.environ["JOBRUNNER_KEEP_SUCCEEDED"] = keep
            server = Server(directory)
            try:
                dispatch_rate(server, 500)  # it learns that they are short
                before, start = sum(_counts(store)), time.perf_counter()
                found.append(dispatch_rate(server, each))
                gone = before + each - sum(_counts(store))
                seconds = time.perf_counter() - start
            finally:
                server.close()
            if keep != "forever":
                removed.append(gone / seconds)
    for keep, found in rates.items():
        print(f"no-op jobs, old jobs kept {keep}: {_spread(found)} jobs/s")
    print(f"  old jobs removed meanwhile: {_spread(removed)} a second; {sum(_counts(store)):,} jobs are left")
    medians = [statistics.median(found) for found in rates.values()]
    print(f"  dispatch with removal, of that without: {medians[1] / medians[0]:.2f}")
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.retention", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200_000, help="old jobs")
    parser.add_argument("--events", type=int, default=1_000_000, help="partial results of one old job")
    parser.add_argument("--runs", type=int, default=3, help=f"of {BATCH:,} no-op jobs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobrunner-bench-") as directory:
        figures_of_removal(Path(directory), given.jobs, given.events)
    with tempfile.TemporaryDirectory(prefix="jobrunner-bench-") as directory:
        figures_of_dispatch(Path(directory), given.jobs, given.runs)


if __name__ == "__main__":
    main()

"""The comparisons: what is measured, on our side and on the peer's, in one run."""

import json
import multiprocessing
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing.pool import Pool
from typing import Any, Final, NamedTuple

from tests.bench import work
from tests.bench.__main__ import WORKERS, pick_up
from tests.bench.peers import sides
from tests.bench.peers.environment import Environment
from tests.bench.peers.sides import Ours, Peer, Progress

LATENCIES: Final = 200
IDLE_SECONDS: Final = 4.0  #: before latencies are measured, on either side


class Sizes(NamedTuple):
    """How much each comparison takes."""

    jobs: int
    items: int
    items_of_1_ms: int
    jobs_of_50_ms: int


class Figure(NamedTuple):
    """One run of one comparison."""

    ours: float
    peer: float

    @property
    def ratio(self) -> float:
        return self.ours / self.peer


class Bar(NamedTuple):
    """What is aimed at; `of` is a field of Figure, whose median counts."""

    of: str
    sign: str
    limit: float

    def is_met(self, median: float) -> bool:
        return median >= self.limit if self.sign == ">=" else median < self.limit

    def __str__(self) -> str:
        return f"{self.of} {self.sign} {self.limit:,g}"


class Case(NamedTuple):
    """A comparison: `run` measures both sides, one after the other, ours first if it is told so."""

    what: str
    unit: str
    peer: str
    bars: tuple[Bar, ...]
    run: Callable[[Sizes, Environment | None, bool], Figure]


def _both(ours: Callable[[], float], peer: Callable[[], float], ours_first: bool) -> Figure:
    if ours_first:
        first = ours()
        return Figure(first, peer())
    second = peer()
    return Figure(ours(), second)


# -- single no-op jobs ------------------------------------------------------------------------------


def _jobs_through(sizes: Sizes) -> float:
    """Jobs a second, from the first POST /jobs/batch to the last result committed."""
    with sides.ours() as side:
        _warm_up(side)
        progress, began_at = Progress(side.succeeded), time.monotonic()
        side.submit([{"task": "bench.nothing"}] * sizes.jobs)
        return sizes.jobs / (progress.until(sizes.jobs) - began_at)


def _jobs_drained(sizes: Sizes) -> float:
    """Jobs a second of a queue that was full before the first was started."""
    with sides.ours() as side:
        _warm_up(side)
        side.pause(paused=True)
        side.submit([{"task": "bench.nothing"}] * sizes.jobs)
        progress = Progress(side.succeeded)
        side.pause(paused=False)
        return progress.drained(sizes.jobs)


def _warm_up(side: Ours) -> None:
    progress = Progress(side.succeeded)
    side.submit([{"task": "bench.nothing"}] * WORKERS * 10)
    progress.until(WORKERS * 10)


def _peer_through(peer: AbstractContextManager[Peer], sizes: Sizes) -> float:
    with peer as side, side.workers():
        side.warm_up()
        progress = Progress(side.count)
        began_at, _ = side.driver.order("submit", sizes.jobs)
        return sizes.jobs / (progress.until(sizes.jobs) - began_at)


def _peer_drained(peer: AbstractContextManager[Peer], sizes: Sizes) -> float:
    with peer as side:
        progress = Progress(side.count)
        side.driver.order("submit", sizes.jobs)
        with side.workers():
            return progress.drained(sizes.jobs)


def _jobs(
    ours: Callable[[Sizes], float],
    theirs: Callable[[AbstractContextManager[Peer], Sizes], float],
    peer: Callable[[Environment], AbstractContextManager[Peer]],
) -> Callable[[Sizes, Environment | None, bool], Figure]:
    def run(sizes: Sizes, peers: Environment | None, ours_first: bool) -> Figure:
        assert peers is not None
        return _both(lambda: ours(sizes), lambda: theirs(peer(peers), sizes), ours_first)

    return run


# -- beside a bare Pool ------------------------------------------------------------------------------


@contextmanager
def _bare_pool() -> Iterator[Pool]:
    with multiprocessing.get_context("forkserver").Pool(WORKERS) as pool:
        pool.map(time.sleep, [0.1] * WORKERS, chunksize=1)  # all have come up
        yield pool


def _mapped(body: dict[str, Any], number: int, value: Callable[[int], int], step: int = 1) -> float:
    """Items a second of a map job, from its POST to all of it committed; each `step`th value is computed again."""
    with sides.ours() as side:
        _warm_up(side)
        began_at = time.monotonic()
        job = side.server.ask("POST", "/jobs", body)
        ended_at = Progress(lambda: side.is_final(job["id"])).until(1)
        with urllib.request.urlopen(f"http://127.0.0.1:{side.server.port}/jobs/{job['id']}/result") as answer:
            values = json.load(answer)
        if len(values) != number or values[::step] != [value(n) for n in range(0, number, step)]:
            raise AssertionError(f"{len(values)} values of {number}, or not the right ones: {values[:5]} ...")
        return number / (ended_at - began_at)


def _pool_of_items(function: Callable[[int], Any], number: int, chunksize: int) -> float:
    with _bare_pool() as pool:
        began_at = time.monotonic()
        for _ in pool.imap_unordered(function, range(number), chunksize=chunksize):
            pass
        return number / (time.monotonic() - began_at)


def _map(sizes: Sizes, _: Environment | None, ours_first: bool) -> Figure:
    number = sizes.items
    body = {"task": "bench.same", "map": {"n": {"range": [0, number]}}}
    return _both(
        lambda: _mapped(body, number, work.same), lambda: _pool_of_items(work.same, number, 1000), ours_first
    )


def _map_of_1_ms(sizes: Sizes, _: Environment | None, ours_first: bool) -> Figure:
    number, burn = sizes.items_of_1_ms, partial(work.burn, rounds=work.rounds_in(1))
    body = {"task": "bench.burn", "params": burn.keywords, "map": {"n": {"range": [0, number]}}}
    return _both(
        lambda: _mapped(body, number, burn, step=997), lambda: _pool_of_items(burn, number, 50), ours_first
    )


def _jobs_of_50_ms(sizes: Sizes, _: Environment | None, ours_first: bool) -> Figure:
    number, rounds = sizes.jobs_of_50_ms, work.rounds_in(50)

    def ours() -> float:
        with sides.ours() as side:
            _warm_up(side)
            progress, began_at = Progress(side.succeeded), time.monotonic()
            side.submit([{"task": "bench.burn", "params": {"rounds": rounds}}] * number)
            return number / (progress.until(number) - began_at)

    def bare() -> float:
        with _bare_pool() as pool:
            began_at = time.monotonic()
            for result in [pool.apply_async(work.burn, (1, rounds)) for _ in range(number)]:
                result.get()
            return number / (time.monotonic() - began_at)

    return _both(ours, bare, ours_first)


# -- latencies ---------------------------------------------------------------------------------------


def _pick_up(_: Sizes, peers: Environment | None, ours_first: bool) -> Figure:
    def ours() -> float:
        with sides.ours() as side:
            _warm_up(side)
            time.sleep(IDLE_SECONDS)
            return statistics.median(pick_up(side.server, LATENCIES))

    return _both(ours, lambda: _of_celery("pick_up", peers), ours_first)


def _there_and_back(_: Sizes, peers: Environment | None, ours_first: bool) -> Figure:
    def ours() -> float:
        with sides.ours() as side:
            _warm_up(side)
            time.sleep(IDLE_SECONDS)
            found = []
            for _ in range(LATENCIES):
                start = time.perf_counter()
                job = side.server.ask("POST", "/jobs", {"task": "bench.nothing"}, {"Prefer": "wait=60"})
                found.append((time.perf_counter() - start) * 1000)
                if job["state"] != "succeeded":
                    raise AssertionError(job)
            return statistics.median(found)

    return _both(ours, lambda: _of_celery("there_and_back", peers), ours_first)


def _of_celery(order: str, peers: Environment | None) -> float:
    assert peers is not None
    with sides.celery(peers) as side, side.workers():
        side.warm_up()
        time.sleep(IDLE_SECONDS)
        _, found = side.driver.order(order, LATENCIES)
        return statistics.median(found)


_OF_HUEY: Final = "huey, SQLite with fsync, 2 processes"
_OF_CELERY: Final = "celery + redis, prefork 2, acks late"
_OF_POOL: Final = "bare Pool(2)"

CASES: Final = {
    "jobs-huey": Case(
        "no-op jobs, first submit to last result",
        "jobs/s",
        _OF_HUEY,
        (Bar("ratio", ">=", 5),),
        _jobs(_jobs_through, _peer_through, sides.huey),
    ),
    "drain-huey": Case(
        "no-op jobs, all queued before",
        "jobs/s",
        _OF_HUEY,
        (Bar("ratio", ">=", 5),),
        _jobs(_jobs_drained, _peer_drained, sides.huey),
    ),
    "jobs-celery": Case(
        "no-op jobs, first submit to last result",
        "jobs/s",
        _OF_CELERY,
        (Bar("ratio", ">=", 10),),
        _jobs(_jobs_through, _peer_through, sides.celery),
    ),
    "drain-celery": Case(
        "no-op jobs, all queued before",
        "jobs/s",
        _OF_CELERY,
        (Bar("ratio", ">=", 10),),
        _jobs(_jobs_drained, _peer_drained, sides.celery),
    ),
    "map": Case(
        "map of no-op items, all values kept",
        "items/s",
        f"{_OF_POOL}.imap_unordered(chunksize=1000), nothing kept",
        (Bar("ratio", ">=", 0.25), Bar("ours", ">=", 100_000)),
        _map,
    ),
    "map-1ms": Case(
        "map of items of 1 ms CPU",
        "items/s",
        f"{_OF_POOL}.imap_unordered(chunksize=50), nothing kept",
        (Bar("ratio", ">=", 0.95),),
        _map_of_1_ms,
    ),
    "jobs-50ms": Case(
        "jobs of 50 ms CPU",
        "jobs/s",
        f"{_OF_POOL}.apply_async, nothing kept",
        (Bar("ratio", ">=", 0.97),),
        _jobs_of_50_ms,
    ),
    "pick-up": Case(
        "idle pick-up, p50: submitted to task running", "ms", _OF_CELERY, (Bar("ratio", "<", 1),), _pick_up
    ),
    "wait": Case(
        "POST with Prefer: wait to result, p50", "ms", _OF_CELERY, (Bar("ours", "<", 8),), _there_and_back
    ),
}

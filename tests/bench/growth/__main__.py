"""`python -m tests.bench.growth`: what a store of a million jobs costs, beside one that is all but empty.

Makes a store with 1,000,000 jobs that have finished, 5,000,000 events and 100,000 queued jobs, and one with two
thousand of each; asks both the same in turns, in one run, for machines differ and drift.  Then it starts the API and a
dispatcher on the large one, and looks whether a dispatcher grows with what it has run.
"""

import argparse
import gc
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.bench.growth.asking import Ask, Asked
from tests.bench.growth.filling import Filled, fill, filled_before
from tests.bench.growth.living import memory, start_up

SMALL: Final = 2000  #: jobs that have finished in the small store, and as many queued ones
BAR: Final = 1.3  #: the ratio that is wanted
START_BAR_SECONDS: Final = 2.0
MOST_SECONDS: Final = 10.0  #: for one kind of question, in both stores together
LEAST_ROUNDS: Final = 5


def ratios(large: Filled, small: Filled, rounds: int, only: str) -> Iterator[dict[str, Any]]:
    """Ask each question in both, by turns; yield the p50 of each in milliseconds, and their ratio."""
    both = [Asked(filled) for filled in (large, small)]
    try:
        asked = [one.questions for one in both]
        for name in asked[0]:
            if only in name:
                for one in both:
                    one.beat()
                yield _compared(name, [questions[name] for questions in asked], rounds)
    finally:
        for one in both:
            one.close()


def _compared(name: str, asks: list[Ask], rounds: int) -> dict[str, Any]:
    found: list[list[float]] = [[] for _ in asks]
    for ask in asks:
        ask()  # what is read once and kept
    gc.collect()
    end = time.perf_counter() + MOST_SECONDS
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() > end:
            break
        for ask, taken in zip(asks, found, strict=True):
            start = time.perf_counter()
            ask()
            taken.append((time.perf_counter() - start) * 1000)
    large, small = (statistics.median(taken) for taken in found)
    return {
        "name": name,
        "large_ms": large,
        "small_ms": small,
        "ratio": large / small,
        "rounds": len(found[0]),
    }


@contextmanager
def stores(given: argparse.Namespace) -> Iterator[tuple[Filled, Filled]]:
    """Make both stores, or take the large one that an earlier run has kept; remove what is not to be kept."""
    parent = None if given.dir is None else given.dir.parent
    directory = given.dir or Path(tempfile.mkdtemp(prefix="jobrunner-growth-", dir=parent))
    try:
        with tempfile.TemporaryDirectory(prefix="jobrunner-growth-", dir=parent) as beside:
            directory.mkdir(exist_ok=True)
            start = time.perf_counter()
            large = filled_before(directory) or fill(directory, given.jobs, given.jobs // 10)
            size = sum(file.stat().st_size for file in directory.iterdir()) >> 20
            print(f"{large.finished:,} finished jobs, {large.queued:,} queued, {size:,} MB", end="; ")
            print(f"made in {time.perf_counter() - start:.0f} s", flush=True)
            yield large, fill(Path(beside), SMALL, SMALL)
    finally:
        if given.keep:
            print(f"kept: --dir {directory}")
        else:
            shutil.rmtree(directory)


def _told(found: list[dict[str, Any]]) -> None:
    above = [one["name"] for one in found if one["ratio"] > BAR]
    print(f"{len(found)} kinds of questions, {len(above)} above {BAR}: {', '.join(above) or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description=__doc__)
    parser.add_argument(
        "--jobs", type=int, default=1_000_000, help="jobs that have finished; a tenth as many queued"
    )
    parser.add_argument("--rounds", type=int, default=200, help="of each question, at most")
    parser.add_argument("--only", default="", help="questions with this in their names, and nothing else")
    parser.add_argument("--cycles", type=int, default=1000, help="in which memory may not grow")
    parser.add_argument("--dir", type=Path, help="where the large store is, or is to be made")
    parser.add_argument("--keep", action="store_true", help="leave the large store there, for the next run")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    figures: dict[str, Any] = {"questions": [], "start_up_seconds": {}, "memory": []}
    with stores(given) as (large, small):
        for one in ratios(large, small, given.rounds, given.only):
            figures["questions"].append(one)
            mark = "  <--" if one["ratio"] > BAR else ""
            print(
                f"{one['name']:56} {one['large_ms']:9.2f} ms {one['small_ms']:9.2f} ms {one['ratio']:7.2f}{mark}"
            )
        _told(figures["questions"])
        if not given.only:
            figures["start_up_seconds"] = start_up(large.directory)
            for name, seconds in figures["start_up_seconds"].items():
                print(f"{name}: {seconds:.2f} s (bar: {START_BAR_SECONDS} s)")
            figures["memory"] = memory(given.cycles)
            for one in figures["memory"]:
                grown = f"{one['before_mb']:.1f} MB, {one['after_mb']:.1f} MB after {one['jobs']:,} jobs more"
                print(
                    f"{one['process']:20} {grown} in {one['turns']:,} turns: {one['bytes_per_job']:+.1f} bytes a job"
                )
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2), encoding="ascii")


if __name__ == "__main__":
    main()

"""A worker by itself, with its job process and a Queue."""

import itertools
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest

from jobrunner.dispatcher import worker as worker_module
from jobrunner.dispatcher.slots import Slot
from jobrunner.dispatcher.tickets import Code, Limits, Ticket
from jobrunner.dispatcher.worker import Worker
from jobrunner.lifecycle import Ending
from jobrunner.reports import Report
from tests.dispatcher.running import MODULES, told
from tests.waiting import eventually

MIB = 1 << 20
CODE = Code(1, ("short",))
LIMITS = Limits(1.0, 10_000, 32 * MIB, MIB, MIB, MIB)
NEVER = 1e9

Ended = dict[int, Ending]
Run = Callable[..., Callable[[int], Ended]]
SLOW = {"do": "sleeps", "number": 60}  # longer than from one look around to the next, but for the first


def _work(bundles: Sequence[list[dict[str, Any]]], late_seconds: float, queue: "Queue[list[Report]]") -> None:
    """Be a worker, and run these one after another; the tickets are numbered from 1."""
    worker_module.LATE_SECONDS = late_seconds  # type: ignore[misc]
    worker = Worker(0, Slot(), queue, LIMITS, CODE, store_url="sqlite://")
    serials = itertools.count(1)
    for bundle in bundles:
        numbered = zip(bundle, serials, strict=False)
        worker.run(
            [Ticket(at, at, 1, "short", json.dumps(params), None, None, CODE) for params, at in numbered]
        )
    worker.end()


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Start a worker; return what reads how its next tickets ended, by serial."""
    monkeypatch.setenv("PYTHONPATH", str(MODULES), prepend=":")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = []

    def run(*bundles: list[dict[str, Any]], late_seconds: float) -> Callable[[int], Ended]:
        processes.append(context.Process(target=_work, args=(bundles, late_seconds, queue)))
        processes[-1].start()
        return ended

    def ended(number: int) -> Ended:
        found: Ended = {}
        while len(found) < number:
            found |= {one.job_id: one.ended.ending for one in queue.get(timeout=30) if one.ended}
        return found

    yield run
    for process in processes:
        process.kill()
        process.join()
    queue.close()


def test_those_behind_a_brief_one_that_takes_long_this_time_are_given_back_at_once(
    start: Run, tmp_path: Path
) -> None:
    ended = start([{}], [{"do": "holds", "directory": str(tmp_path)}, {}, {}, {}], late_seconds=NEVER)
    assert ended(1) == {1: Ending.SUCCEEDED}
    eventually(told(tmp_path, "held"), 30)
    assert ended(3) == dict.fromkeys([3, 4, 5], Ending.RELEASED)
    (tmp_path / "go").touch()
    assert ended(1) == {2: Ending.SUCCEEDED}


def test_a_bundle_that_is_late_is_given_back_between_two_tickets(start: Run) -> None:
    ended = start([{}], [{"do": "sleeps", "number": 10}] * 10, late_seconds=0)
    found = ended(11)
    assert found[2] is Ending.SUCCEEDED
    assert found[11] is Ending.RELEASED


def test_a_bundle_of_longer_ones_that_is_not_late_is_run_to_its_end(start: Run) -> None:
    ended = start([SLOW], [SLOW] * 3, late_seconds=NEVER)
    assert ended(4) == dict.fromkeys([1, 2, 3, 4], Ending.SUCCEEDED)

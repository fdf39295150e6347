"""What the tests have done in other processes: three of them, kept warm, that start together."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import Any, Final, TypeVar

from jobrunner.errors import JobNotFoundError
from jobrunner.lifecycle import FINAL
from jobrunner.store import jobs, migrations, moves, retention
from jobrunner.store.engine import Store
from tests.store.books import START, new

COUNT: Final = 3

T = TypeVar("T")
_gates: list[Barrier] = []


class Processes:
    """Three processes that share nothing with this one."""

    def __init__(self) -> None:
        context = get_context("spawn")
        gate = context.Barrier(COUNT)
        self._pool = ProcessPoolExecutor(COUNT, context, initializer=_meet_at, initargs=(gate,))

    def together(self, *calls: tuple[Any, ...]) -> list[Any]:
        """Make three calls, each `(function, *arguments)`, at the same moment; return what they return."""
        assert len(calls) == COUNT
        return [future.result(60) for future in [self._pool.submit(_together, *call) for call in calls]]

    def close(self) -> None:
        self._pool.shutdown()


def _meet_at(gate: Barrier) -> None:
    _gates.append(gate)


def _together(function: Callable[..., T], *arguments: Any) -> T:
    _gates[0].wait(60)
    return function(*arguments)


# -- what they do ------------------------------------------------------------------------------


def prepare(url: str) -> None:
    """Create the schema if there is none."""
    store = Store(url)
    migrations.prepare(store)
    store.close()


def submit_singly(url: str, count: int) -> list[int]:
    """Submit `count` jobs, each in a transaction that reads and then writes; return their ids."""
    store = Store(url)
    ids: list[int] = []
    for number in range(count):
        with store.write(durable=number % 2 == 0) as connection:
            ids += jobs.submit(connection, [new(params=f'{{"n": "{number:0>1000}"}}')], now=START)
    store.close()
    return ids


def claim_all(url: str, dispatcher_id: int, at_a_time: int) -> list[int]:
    """Claim until nothing is left; return the ids."""
    store = Store(url)
    ids: list[int] = []
    for _ in range(1000):
        with store.write(durable=False) as connection:
            found = moves.claim(connection, dispatcher_id, tasks=["t"], limit=at_a_time, now=START)
        if not found:
            break
        ids += [one.id for one in found]
    store.close()
    return ids


def checkpoint_until(url: str, rows: int) -> int:
    """Checkpoint again and again until that many jobs are there; return how often."""
    store = Store(url)
    times = found = 0
    give_up_at = time.monotonic() + 60
    while found < rows and time.monotonic() < give_up_at:
        times += store.checkpoint_if_large(1)
        with store.read() as connection:
            found = sum(jobs.counts(connection).values())
    store.close()
    return times


def remove(url: str, job_id: int) -> bool:
    """Delete the job; return whether it was there."""
    store = Store(url)
    try:
        retention.remove(store, job_id)
    except JobNotFoundError:
        return False
    finally:
        store.close()
    return True


def expire(url: str, before: datetime) -> bool:
    """Remove all that is final; return whether there was something to do."""
    store = Store(url)
    found = False
    while retention.remove_some(store, dict.fromkeys(FINAL, before)):
        found = True
    store.close()
    return found

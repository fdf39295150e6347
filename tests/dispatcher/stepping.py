"""A dispatcher to be stepped through: the store is real, the Pool does as the test says, time is given."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jobrunner.dispatcher.catalogue import Catalogue
from jobrunner.dispatcher.loop import Dispatcher
from jobrunner.dispatcher.slots import Slot, Stop
from jobrunner.dispatcher.tickets import Chunk, Code, ItemRun, Ran, Ticket
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import Ended, ItemFailed, Report, Values, error
from jobrunner.settings import Settings
from jobrunner.store import jobs
from jobrunner.store import reports as store_reports
from tests.stores import prepared

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class ObedientPool:
    """Stands in for the Pool: holds bundles until the test says that they have ended."""

    size: int = 2
    bundles: list[list[Ticket]] = field(default_factory=list)
    stopped: list[tuple[int, Stop]] = field(default_factory=list)
    just_ended: list[tuple[Ticket, Ran]] = field(default_factory=list)

    left_out: list[tuple[Ticket, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slots = [Slot() for _ in range(self.size)]

    @property
    def free(self) -> int:
        return self.size - len(self.bundles)

    @property
    def in_hand(self) -> list[Ticket]:
        return [ticket for bundle in self.bundles for ticket in bundle]

    def start(self, bundle: list[Ticket]) -> None:
        self.bundles.append(bundle)

    def stop(self, ticket: Ticket, stop: Stop) -> bool:
        self.stopped.append((ticket.job_id, stop))
        return True

    def given_back(self) -> list[tuple[Ticket, int]]:
        return self.left_out

    def ended(self) -> list[tuple[Ticket, Ran]]:
        ended, self.just_ended = self.just_ended, []
        return ended

    def check(self) -> None: ...


class Room:
    """A store, a pool and a clock."""

    def __init__(self, directory: Path) -> None:
        self.store = prepared(directory / "jobrunner.db")
        self.now = START
        self._looked = timedelta(0)
        self.settings = Settings(data=directory, lease_seconds=10.0, grace_seconds=3.0)

    def dispatcher(self, pool: ObedientPool) -> Dispatcher:
        catalogue = Catalogue(Code(1, ()), [{"name": "t", "doc": "", "params": {}, "options": {}}], {})
        unchecked: Any = pool
        return Dispatcher(self.store, unchecked, catalogue, self.settings, now=self.now, clock=self._clock)

    def _clock(self) -> datetime:
        """Return a little later each time, as a clock does: a step takes a while."""
        self._looked += timedelta(microseconds=1)
        return self.now + self._looked

    def submit(self, times: int = 1, **more: Any) -> list[int]:
        with self.store.write(durable=False) as connection:
            new = jobs.NewJob(more.pop("task", "t"), "{}", **more)
            return jobs.submit(connection, [new] * times, now=self.now)

    def submit_map(self, items: int, *, priority: int = 0, queue: str = "default", **more: Any) -> int:
        crash_retries, retries = more.pop("crash_retries", 2), more.pop("retries", 0)
        new = jobs.NewMap(f'{{"n": {{"range": [0, {items}]}}}}', items, **more)
        (job_id,) = self.submit(
            map=new, priority=priority, queue=queue, crash_retries=crash_retries, retries=retries
        )
        return job_id

    def job(self, job_id: int) -> jobs.Job:
        with self.store.read() as connection:
            return jobs.get(connection, job_id)

    def fail_chunk(self, pool: ObedientPool, *, is_final: bool = False) -> None:
        """End the first chunk of the Pool, of one item, badly; the result writer is done with it."""
        (ticket,) = pool.bundles.pop(0)
        assert ticket.chunk is not None
        first = ticket.chunk.first
        failed = ItemFailed(first, error(Ending.EXCEPTION, "no"), "retries", is_final=is_final)
        report = Report(ticket.job_id, ticket.attempt, self.now, items=(failed,), closed=first)
        with self.store.write(durable=False) as connection:
            store_reports.record(connection, [report])
        run = ItemRun(first, "retries", is_final=is_final)
        pool.just_ended.append((ticket, Ran(0.1, first + 1, 0.1, (run,))))

    def chunk(
        self,
        pool: ObedientPool,
        place: int = 0,
        *,
        run: int | None = None,
        pace: float = 0.01,
        log_bytes: int = 0,
    ) -> Chunk:
        """End the chunk in this place of the Pool, after `run` items, or all; the result writer is done with it."""
        (ticket,) = pool.bundles.pop(place)
        assert ticket.chunk is not None
        chunk = ticket.chunk
        count = chunk.item_count if run is None else run
        values = (Values(chunk.first, count, json.dumps([0] * count)),) if count else ()
        report = Report(ticket.job_id, ticket.attempt, self.now, items=values, closed=chunk.first)
        with self.store.write(durable=False) as connection:
            store_reports.record(connection, [report])
        ran = Ran(count * pace, chunk.first + count, count * pace, log_bytes=log_bytes)
        pool.just_ended.append((ticket, ran))
        return chunk

    def state(self, job_id: int) -> State:
        with self.store.read() as connection:
            return jobs.get(connection, job_id).state

    def finish(self, pool: ObedientPool, seconds: float) -> None:
        """End the oldest bundle; the result writer is done with it."""
        bundle = pool.bundles.pop(0)
        ended = Ended(Ending.SUCCEEDED, result="null")
        with self.store.write(durable=False) as connection:
            store_reports.record(
                connection, [Report(one.job_id, one.attempt, self.now, (), ended) for one in bundle]
            )
        pool.just_ended += [(one, Ran(seconds)) for one in bundle]

"""A dispatcher through whatever people and workers may do: all comes to an end, nothing twice.  See `stepping`."""

import json
import shutil
import tempfile
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobrunner.dispatcher.catalogue import Catalogue
from jobrunner.dispatcher.tickets import Code, Ran, Ticket
from jobrunner.lifecycle import FINAL, Ending, State
from jobrunner.reports import Ended, Report, Values
from jobrunner.store import maps, moves, queues
from jobrunner.store import reports as store_reports
from tests.dispatcher.stepping import ObedientPool, Room
from tests.store.books import audit

PHASES = [Phase.reuse, Phase.generate, Phase.shrink]  # to explain takes longer than a test may
MANY = 200  # steps in which all must come to an end
PACES = st.sampled_from([0.001, 0.02, 0.04, 5.0])  # seconds


class RecordingPool(ObedientPool):
    """Notes what was started."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.attempts: Counter[tuple[int, ...]] = Counter()
        self.chunks: Counter[tuple[int, ...]] = Counter()
        self.started: list[int] = []  # the jobs, since somebody looked

    def start(self, bundle: list[Ticket]) -> None:
        assert self.free, "there is a worker for it"
        for ticket in bundle:
            if ticket.chunk is None:
                self.attempts[ticket.job_id, ticket.attempt] += 1
            else:
                self.chunks[ticket.job_id, ticket.attempt, ticket.chunk.first] += 1
            self.started.append(ticket.job_id)
        super().start(bundle)


class DispatchingMachine(RuleBasedStateMachine):
    """The workers obey the rules; the dispatcher is stepped after each of them."""

    template: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        shutil.copy(self.template, Path(self.directory.name) / "jobrunner.db")
        self.room = Room(Path(self.directory.name))
        self.pool = RecordingPool(2)
        self.dispatcher = self.room.dispatcher(self.pool)
        self.generation = 1
        self.draining = False
        self.paused = False
        self.ids: list[int] = []
        self.cancelled: set[int] = set()
        self.serve(long=True)

    def teardown(self) -> None:
        self.come_to_an_end()
        with self.room.store.read() as connection:
            audit(connection)
        self.room.store.close()
        self.directory.cleanup()

    # -- people ------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.ids) < 30)
    @rule(
        times=st.integers(1, 5),
        task=st.sampled_from(["t", "t", "t", "u"]),
        crash_retries=st.sampled_from([2, 2, 2, 0]),
        priority=st.integers(0, 1),
    )
    def submit(self, times: int, task: str, crash_retries: int, priority: int) -> None:
        self.ids += self.room.submit(times, task=task, crash_retries=crash_retries, priority=priority)
        self.step()

    @precondition(lambda self: len(self.ids) < 30)
    @rule(
        items=st.integers(1, 300),
        crash_retries=st.sampled_from([2, 2, 2, 0]),
        max_parallel=st.none() | st.just(1),
        chunk_size=st.none() | st.integers(1, 50),
    )
    def submit_map(
        self, items: int, crash_retries: int, max_parallel: int | None, chunk_size: int | None
    ) -> None:
        job_id = self.room.submit_map(
            items, crash_retries=crash_retries, max_parallel=max_parallel, chunk_size=chunk_size
        )
        self.ids.append(job_id)
        self.step()

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.ids))
        if self.room.state(job_id) in FINAL:
            return
        with self.room.store.write(durable=False) as connection:
            moves.cancel(connection, job_id, grace_seconds=1.0, now=self.room.now)
        self.cancelled.add(job_id)
        self.dispatcher.hear_bell()
        self.step()

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.paused = paused
        with self.room.store.write(durable=False) as connection:
            if paused:
                queues.pause(connection, "default", now=self.room.now)
            else:
                queues.resume(connection, "default")
        self.dispatcher.hear_bell()
        self.step()

    @precondition(lambda self: not self.draining)
    @rule(long=st.booleans())
    def reload(self, long: bool) -> None:
        self.generation += 1
        self.serve(long=long)
        self.step()

    @precondition(lambda self: not self.draining)
    @rule()
    def drain(self) -> None:
        self.dispatcher.drain(self.room.now, 1000)
        self.draining = True
        self.step()

    @rule(seconds=st.sampled_from([0.0, 0.3, 0.6]))
    def time_passes(self, seconds: float) -> None:
        self.room.now += timedelta(seconds=seconds)
        self.step()

    # -- workers -----------------------------------------------------------------------------------

    @precondition(lambda self: self.pool.bundles)
    @rule(data=st.data(), pace=PACES)
    def a_worker_is_done(self, data: st.DataObject, pace: float) -> None:
        self.end(data.draw(st.integers(0, len(self.pool.bundles) - 1)), pace)
        self.step()

    def end(self, place: int, pace: float) -> None:
        """End a bundle as a worker does: at a stop, and after what is longer than expected, it gives back the rest."""
        bundle = self.pool.bundles.pop(place)
        stopped = {job_id: stop.ending for job_id, stop in self.pool.stopped}
        reports = []
        for ticket in bundle:
            if ticket.chunk is not None:
                count = 0 if ticket.job_id in stopped else ticket.chunk.item_count
                values = (Values(ticket.chunk.first, count, json.dumps([0] * count)),) if count else ()
                closed = ticket.chunk.first
                reports.append(
                    Report(ticket.job_id, ticket.attempt, self.room.now, items=values, closed=closed)
                )
                run = Ran(count * pace, ticket.chunk.first + count, count * pace)
            else:
                ending = stopped.get(ticket.job_id, Ending.SUCCEEDED)
                ended = Ended(ending, result="null" if ending is Ending.SUCCEEDED else None)
                reports.append(Report(ticket.job_id, ticket.attempt, self.room.now, ended=ended))
                run = Ran(pace)
            self.pool.just_ended.append((ticket, run))
        with self.room.store.write(durable=False) as connection:
            store_reports.record(connection, reports)

    # -- the dispatcher -------------------------------------------------------------------------------

    def serve(self, *, long: bool) -> None:
        names = ["t", "u"] if long else ["t"]
        about = [{"name": name, "doc": "", "params": {}, "options": {}} for name in names]
        self.dispatcher.serve(Catalogue(Code(self.generation, ()), about, {}), self.room.now)

    def step(self) -> None:
        """Step until it wants to rest, for a moment at most."""
        for _ in range(MANY):
            if self.dispatcher.step(self.room.now) > 0:
                return
        raise AssertionError("it never rests")

    def come_to_an_end(self) -> None:
        """With workers that do their work, all that was submitted ends, but for what a drain gave back."""
        self.pause(paused=False)
        if not self.draining:
            self.generation += 1
            self.serve(long=True)
        for _ in range(MANY):
            while self.pool.bundles:
                self.end(0, 0.02)
            self.room.now += timedelta(seconds=0.1)
            self.step()
            if all(self.is_done(job_id) for job_id in self.ids):
                return
        raise AssertionError({job_id: self.room.state(job_id) for job_id in self.ids})

    def is_done(self, job_id: int) -> bool:
        state = self.room.state(job_id)
        return state in FINAL or (self.draining and state is State.QUEUED and self.dispatcher.is_drained)

    # -- what holds at any time -----------------------------------------------------------------------

    @invariant()
    def no_attempt_and_no_chunk_is_started_twice(self) -> None:
        assert not [one for one, times in (self.pool.attempts + self.pool.chunks).items() if times > 1]

    @invariant()
    def nothing_of_a_paused_queue_is_started(self) -> None:
        assert not (self.paused and self.pool.started)
        self.pool.started.clear()

    @invariant()
    def what_is_in_hand_is_running(self) -> None:
        for ticket in self.pool.in_hand:
            assert self.room.job(ticket.job_id).attempt == ticket.attempt
            assert self.room.state(ticket.job_id) is State.RUNNING

    @invariant()
    def a_chunk_in_hand_is_open_and_no_two_overlap(self) -> None:
        mine: dict[int, list[range]] = {}
        for ticket in self.pool.in_hand:
            if ticket.chunk is not None:
                first = ticket.chunk.first
                mine.setdefault(ticket.job_id, []).append(range(first, first + ticket.chunk.item_count))
        with self.room.store.read() as connection:
            for job_id, spans in mine.items():
                told = sorted(maps.chunks_in_hand(connection, job_id), key=lambda one: one.start)
                assert {one.start for one in spans} <= {one.start for one in told}
                assert all(one.stop <= other.start for one, other in pairwise(told))

    @invariant()
    def nothing_lies_ready_for_a_worker_that_is_free(self) -> None:
        assert not (self.pool.free and self.dispatcher._starter.has_ready)


@pytest.mark.timeout(300)
def test_whatever_people_and_workers_do_everything_ends_and_runs_once(tmp_path: Path) -> None:
    template = Room(tmp_path)
    template.store.close()
    DispatchingMachine.template = template.store.path
    run_state_machine_as_test(
        DispatchingMachine,
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None, phases=PHASES),
    )

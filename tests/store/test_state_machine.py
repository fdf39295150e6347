"""The store against a model of it in Python, through whatever people, workers and crashes may do."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

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
from sqlalchemy import Row, select

from jobrunner.errors import JobNotFoundError, WrongStateError
from jobrunner.lifecycle import FINAL, MOVES, Ending, Event, State, target
from jobrunner.reports import Ended, EventKind, Report
from jobrunner.retry import Budgets, verdict
from jobrunner.store import jobs, lists, moves, queues
from jobrunner.store.jobs import Job
from jobrunner.store.tables import attempt, event
from tests.store.books import Books, ended, partial, printed, progress
from tests.stores import prepared

WORDS = {EventKind.PARTIAL: partial(1), EventKind.PROGRESS: progress(1), EventKind.LOG: printed("x")}
STATE = EventKind.STATE
PHASES = [Phase.reuse, Phase.generate, Phase.shrink]  # to explain takes longer than a test may
BAD_ENDINGS = [Ending.LOST, Ending.CRASHED, Ending.EXCEPTION]
STEPS = {(source, move.target) for move in MOVES.values() for source in move.sources}


@dataclass
class ModelJob:
    """What the store should know of a job."""

    priority: int
    queue: str
    budgets: Budgets
    due_at: datetime | None
    state: State = State.QUEUED
    attempt: int = 0
    holder: int | None = None
    stopping: bool = False
    history: list[tuple[EventKind, int]] = field(default_factory=lambda: [(STATE, 0)])
    outcomes: list[Ending | None] = field(default_factory=list)

    def move(self, event: Event) -> None:
        state = target(self.state, event)
        assert state is not None, f"{event} from {self.state}"
        self.state = state
        self.history.append((STATE, self.attempt))


class StoreMachine(RuleBasedStateMachine):
    """Each rule is done to the store and to the model; then the two are compared."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.store = prepared(Path(self.directory.name) / "jobs.db")
        self.books = Books(self.store)
        self.dispatchers = [self.books.dispatcher_id]
        self.jobs: dict[int, ModelJob] = {}
        self.last_id = 0
        self.finals: dict[int, Any] = {}

    def teardown(self) -> None:
        self.books.audit()
        self.store.close()
        self.directory.cleanup()

    def one_of(self, data: st.DataObject, *states: State) -> int:
        """Draw a job: one in these states if there is any."""
        fitting = sorted(job_id for job_id, job in self.jobs.items() if job.state in states)
        return data.draw(st.sampled_from(fitting or sorted(self.jobs)), "job")

    # -- people ----------------------------------------------------------------------------------

    @precondition(lambda self: len(self.jobs) < 4)
    @rule(
        priority=st.integers(-1, 1),
        retries=st.integers(0, 2),
        crash_retries=st.integers(0, 2),
        delay=st.none() | st.integers(-1, 5),
        queue=st.sampled_from(["a", "b"]),
    )
    def submit(self, priority: int, retries: int, crash_retries: int, delay: int | None, queue: str) -> None:
        run_at = None if delay is None else self.books.now + timedelta(seconds=delay)
        job_id = self.books.queued(
            priority=priority, retries=retries, crash_retries=crash_retries, run_at=run_at, queue=queue
        )
        assert job_id == self.last_id + 1
        self.last_id = job_id
        due_at = run_at if delay is not None and delay > 0 else None
        self.jobs[job_id] = ModelJob(priority, queue, Budgets(retries, crash_retries, 0, 0), due_at)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = self.one_of(data)
        job = self.jobs[job_id]
        if job.state in (State.SUCCEEDED, State.FAILED):
            with pytest.raises(WrongStateError):
                self.books.cancel(job_id)
            return
        found = self.books.cancel(job_id)
        if job.state is State.QUEUED:
            job.move(Event.CANCEL)
            job.due_at = None
        elif job.state is State.RUNNING and not job.stopping:
            job.stopping = True
            job.history.append((STATE, job.attempt))
        assert found is job.state

    @precondition(lambda self: self.jobs)
    @rule()
    def cancel_all_that_is_queued(self) -> None:
        queued = [job_id for job_id, job in self.jobs.items() if job.state is State.QUEUED]
        assert sorted(self.books.cancel_queued([*self.jobs])) == queued
        for job_id in queued:
            self.jobs[job_id].move(Event.CANCEL)
            self.jobs[job_id].due_at = None

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        job_id = self.one_of(data, State.FAILED, State.CANCELLED)
        job = self.jobs[job_id]
        if target(job.state, Event.REQUEUE) is None:
            with pytest.raises(WrongStateError):
                self.books.requeue(job_id)
            return
        assert self.books.requeue(job_id) is State.QUEUED
        job.move(Event.REQUEUE)
        job.budgets = job.budgets._replace(retries_used=0, crash_retries_used=0)
        self.finals.pop(job_id, None)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        job_id = self.one_of(data)
        if self.jobs[job_id].state not in FINAL:
            with pytest.raises(WrongStateError):
                self.books.remove(job_id)
            return
        self.books.remove(job_id)
        del self.jobs[job_id]
        self.finals.pop(job_id, None)
        with pytest.raises(JobNotFoundError):
            self.books.job(job_id)

    # -- dispatchers and workers -----------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.001, 1, 3, 400, 400]))
    def let_time_pass(self, seconds: float) -> None:
        self.books.later(seconds)

    @rule(data=st.data(), limit=st.integers(1, 4))
    def claim(self, data: st.DataObject, limit: int) -> None:
        by = data.draw(st.sampled_from(self.dispatchers), "dispatcher")
        claimed = self.books.claim(by=by, limit=limit)
        self.wait_no_more()
        ready = [
            (-job.priority, job_id)
            for job_id, job in self.jobs.items()
            if job.state is State.QUEUED and job.due_at is None
        ]
        assert [one.id for one in claimed] == [job_id for _, job_id in sorted(ready)[:limit]]
        for one in claimed:
            job = self.jobs[one.id]
            job.attempt += 1
            job.holder = by
            job.outcomes.append(None)
            job.move(Event.CLAIM)
            assert (one.attempt, one.version) == (job.attempt, len(job.history))

    @precondition(lambda self: any(job.state is State.RUNNING for job in self.jobs.values()))
    @rule(data=st.data(), ending=st.sampled_from(BAD_ENDINGS))
    def an_attempt_ends_badly(self, data: st.DataObject, ending: Ending) -> None:
        job_id = self.one_of(data, State.RUNNING)
        self.record([Report(job_id, self.jobs[job_id].attempt, self.books.now, (), ended(ending))])

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        """One batch of what attempts say, of which some are over, or never were."""
        reports = []
        for _ in range(data.draw(st.integers(1, 4), "reports")):
            job_id = self.one_of(data, *data.draw(st.sampled_from([[State.RUNNING], []]), "states"))
            number = self.jobs[job_id].attempt + data.draw(st.sampled_from([0, 0, 0, 0, -1, 1]), "attempt")
            said = tuple(
                WORDS[kind] for kind in data.draw(st.lists(st.sampled_from([*WORDS]), max_size=3), "said")
            )
            ending = data.draw(st.none() | st.sampled_from(Ending), "ending")
            reports.append(
                Report(job_id, number, self.books.now, said, None if ending is None else ended(ending))
            )
        self.record(reports)

    @rule(data=st.data())
    def a_dispatcher_dies_and_another_starts(self, data: st.DataObject) -> None:
        dead = data.draw(st.sampled_from(self.dispatchers), "dead")
        with self.books.read() as connection:
            held = moves.held(connection, dead)
        assert sorted(held) == [
            (job_id, job.attempt) for job_id, job in self.jobs.items() if job.holder == dead
        ]
        assert self.books.end_dispatcher(dead)
        assert self.books.claim(by=dead) == []
        self.wait_no_more()
        self.record(
            [Report(job_id, number, self.books.now, (), ended(Ending.LOST)) for job_id, number in held]
        )
        self.dispatchers.remove(dead)
        self.dispatchers.append(self.books.register())

    @precondition(lambda self: len(self.dispatchers) < 3)
    @rule()
    def another_dispatcher_starts(self) -> None:
        self.dispatchers.append(self.books.register())

    def wait_no_more(self) -> None:
        """Who looks for work finds what has become due."""
        for job in self.jobs.values():
            if job.due_at is not None and job.due_at <= self.books.now:
                job.due_at = None

    def record(self, reports: list[Report]) -> None:
        recorded = self.books.report(*reports)
        refused, requeued = [], False
        for one in reports:
            job = self.jobs[one.job_id]
            if (job.state, job.attempt) != (State.RUNNING, one.attempt):
                refused.append(one)
                continue
            job.history += [(kind, job.attempt) for kind, _ in one.said]
            if one.ended is not None:
                self.end(one.job_id, job, one.ended)
                requeued = requeued or job.state is State.QUEUED
        assert recorded.refused == refused
        assert recorded.requeued == requeued

    def end(self, job_id: int, job: ModelJob, how: Ended) -> None:
        said = verdict(how.ending, job.budgets, cancel_requested=job.stopping)
        assert job.outcomes[-1] is None
        job.outcomes[-1] = how.ending
        job.move(said.event)
        job.holder, job.stopping = None, False
        if said.charged == "retries":
            job.budgets = job.budgets._replace(retries_used=job.budgets.retries_used + 1)
        elif said.charged == "crash_retries":
            job.budgets = job.budgets._replace(crash_retries_used=job.budgets.crash_retries_used + 1)
        if job.state is State.QUEUED and said.delay_seconds:
            # How long it waits is chance: taken from the store, within its bounds.
            job.due_at = self.books.job(job_id).due_at
            spent = job.budgets.retries_used if said.charged == "retries" else job.budgets.crash_retries_used
            longest = timedelta(seconds=2 ** (spent - 1))
            assert job.due_at is None or self.books.now <= job.due_at <= self.books.now + longest

    # -- what must hold --------------------------------------------------------------------------

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        with self.books.read() as connection:
            found = {
                one.id: one for one in lists.page(connection, lists.Filter(), before_id=None, limit=1000)
            }
            events = by_job(connection.execute(select(event).order_by(event.c.job_id, event.c.seq)))
            outcomes = select(attempt.c.job_id, attempt.c.outcome).order_by(
                attempt.c.job_id, attempt.c.number
            )
            attempts = by_job(connection.execute(outcomes))
            counts = jobs.counts(connection)
            in_queues = queues.all_queues(connection)
        states = [model.state for model in self.jobs.values()]
        assert counts == {state: states.count(state) for state in State}
        by_queue = Counter((model.queue, model.state) for model in self.jobs.values())
        assert by_queue == {(one.name, state): n for one in in_queues for state, n in one.jobs.items() if n}
        assert found.keys() == self.jobs.keys()
        for job_id, model in self.jobs.items():
            agree(model, found[job_id], events[job_id], [one.outcome for one in attempts.get(job_id, [])])
            if model.state in FINAL:
                told = (found[job_id], events[job_id], attempts.get(job_id))
                assert self.finals.setdefault(job_id, told) == told, "what is final has changed"


def by_job(rows: Iterable[Row[Any]]) -> dict[int, list[Row[Any]]]:
    return {job_id: list(its) for job_id, its in groupby(rows, key=lambda row: row.job_id)}


def agree(model: ModelJob, found: Job, events: list[Row[Any]], outcomes: list[str | None]) -> None:
    """Fail unless the store tells of the job what the model knows, and each step was a move."""
    assert (found.state, found.attempt, found.dispatcher_id) == (model.state, model.attempt, model.holder)
    assert found.due_at == model.due_at
    assert (found.retries_used, found.crash_retries_used) == model.budgets[2:]
    assert (found.cancel_grace_seconds is not None) == model.stopping
    assert (found.result is not None) == (model.state is State.SUCCEEDED)
    assert outcomes == model.outcomes

    assert [one.seq for one in events] == list(range(1, found.version + 1))
    kinds = [(one.kind, one.attempt) for one in events]
    assert kinds == model.history
    assert found.partials == [kind for kind, _ in kinds].count(EventKind.PARTIAL)

    first, *rest = [json.loads(one.data) for one in events if one.kind == STATE]
    assert first == {"state": "queued"}
    for before, after in pairwise([first, *rest]):
        if after.get("reason") == "stopping":
            assert (before["state"], after["state"]) == ("running", "running")
        else:
            assert (State(before["state"]), State(after["state"])) in STEPS


def test_the_store_does_as_its_model_whatever_happens() -> None:
    run_state_machine_as_test(
        StoreMachine, settings=settings(max_examples=60, stateful_step_count=30, phases=PHASES)
    )

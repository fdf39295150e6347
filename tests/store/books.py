"""A store with one dispatcher, what people and workers do to its jobs, and an audit of the books."""

import contextlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from jobrunner.lifecycle import Ending, State
from jobrunner.reports import Ended, EventKind, Report, error
from jobrunner.store import attempts, dispatchers, events, jobs, moves, reports, retention
from jobrunner.store.attempts import Attempt
from jobrunner.store.audit import contradictions
from jobrunner.store.dispatchers import Process
from jobrunner.store.engine import Store
from jobrunner.store.events import Event
from jobrunner.store.jobs import Job, NewJob
from jobrunner.store.moves import Claimed
from jobrunner.store.reports import Recorded
from jobrunner.store.tables import attempt, event, job, label, tally

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
PROCESS = Process(host="here", place="a-boot/1", pid=4242, started_ticks=1_000_000)


def url_of(path: object) -> str:
    return f"sqlite:///{path}"


def ended(ending: Ending, **more: Any) -> Ended:
    """How an attempt ended, complete as a worker tells it."""
    if ending is Ending.SUCCEEDED:
        return Ended(ending, result=more.pop("result", "42"), **more)
    if ending in (Ending.CANCELLED, Ending.RELEASED):
        return Ended(ending, **more)
    return Ended(ending, error=error(ending, f"it ended by {ending}"), **more)


def partial(value: Any) -> tuple[EventKind, str]:
    return EventKind.PARTIAL, json.dumps(value)


def progress(done: int) -> tuple[EventKind, str]:
    return EventKind.PROGRESS, json.dumps({"done": done, "total": 10, "message": None})


def printed(text: str) -> tuple[EventKind, str]:
    return EventKind.LOG, text


@dataclass
class Books:
    """Each verb is one transaction, at the moment `now`."""

    store: Store
    now: datetime = START
    dispatcher_id: int = 0

    def __post_init__(self) -> None:
        self.dispatcher_id = self.register()

    def later(self, seconds: float) -> datetime:
        """Let time pass; return what time it is then."""
        self.now += timedelta(seconds=seconds)
        return self.now

    # -- what people do --------------------------------------------------------------------------

    def submit(self, *new: NewJob) -> list[int]:
        with self.store.write(durable=True) as connection:
            return jobs.submit(connection, new, now=self.now)

    def queued(self, **more: Any) -> int:
        """Submit one job; return its id."""
        return self.submit(new(**more))[0]

    def cancel(self, job_id: int, grace_seconds: float = 5.0) -> State:
        with self.store.write(durable=True) as connection:
            return moves.cancel(connection, job_id, grace_seconds=grace_seconds, now=self.now)

    def cancel_queued(self, ids: Collection[int]) -> list[int]:
        with self.store.write(durable=True) as connection:
            return moves.cancel_queued(connection, ids, now=self.now)

    def requeue(self, job_id: int) -> State:
        with self.store.write(durable=True) as connection:
            return moves.requeue(connection, job_id, now=self.now)

    def remove(self, job_id: int) -> None:
        retention.remove(self.store, job_id)

    # -- what dispatchers and workers do ---------------------------------------------------------

    def register(self, process: Process = PROCESS, workers: int = 2) -> int:
        with self.store.write(durable=True) as connection:
            return dispatchers.register(connection, process, workers=workers, now=self.now)

    def end_dispatcher(self, dispatcher_id: int) -> bool:
        with self.store.write(durable=True) as connection:
            return dispatchers.end(connection, dispatcher_id, now=self.now)

    def claim(
        self,
        *,
        tasks: Collection[str] = ("t",),
        limit: int = 100,
        by: int | None = None,
        room: int | None = None,
    ) -> list[Claimed]:
        """Claim for the dispatcher `by`, which has room for `room` of the first `limit`."""
        with self.store.write(durable=False) as connection:
            return moves.claim(
                connection,
                self.dispatcher_id if by is None else by,
                tasks=tasks,
                limit=limit,
                choose=lambda ready: ready[:room],
                now=self.now,
            )

    def running(self, **more: Any) -> Claimed:
        """Submit one job and claim it, before any other."""
        job_id = self.queued(priority=1_000_000, **more)
        (claimed,) = self.claim(limit=1)
        assert claimed.id == job_id
        return claimed

    def finished(self, ending: Ending, **more: Any) -> int:
        """Run one job that ends like this; return its id."""
        claimed = self.running(**more)
        self.report(self.end_of(claimed, ending))
        return claimed.id

    def report(self, *said: Report) -> Recorded:
        with self.store.write(durable=True) as connection:
            return reports.record(connection, said)

    def says(self, claimed: Claimed, *said: tuple[EventKind, str]) -> Report:
        return Report(claimed.id, claimed.attempt, self.now, said)

    def end_of(self, claimed: Claimed, ending: Ending, *said: tuple[EventKind, str], **more: Any) -> Report:
        return Report(claimed.id, claimed.attempt, self.now, said, ended(ending, **more))

    # -- what the books say ----------------------------------------------------------------------

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        with self.store.read() as connection:
            yield connection

    def job(self, job_id: int) -> Job:
        with self.read() as connection:
            return jobs.get(connection, job_id)

    def events(self, job_id: int, **more: Any) -> list[Event]:
        with self.read() as connection:
            return events.after(connection, job_id, **more)

    def told(self, job_id: int) -> list[dict[str, Any]]:
        """What the state events say, in order."""
        return [json.loads(one.data) for one in self.events(job_id, kinds=[EventKind.STATE])]

    def attempts(self, job_id: int) -> list[Attempt]:
        with self.read() as connection:
            return attempts.of_job(connection, job_id)

    def counts(self) -> dict[State, int]:
        with self.read() as connection:
            return jobs.counts(connection)

    def dump(self) -> dict[str, list[Any]]:
        """All that is in the tables that tell of jobs, to see that nothing has changed."""
        tables = (job, event, attempt, label, tally)
        with self.read() as connection:
            return {
                one.name: [tuple(row) for row in connection.execute(select(one).order_by(*one.primary_key))]
                for one in tables
            }

    def audit(self) -> None:
        """Fail where the books contradict themselves."""
        with self.read() as connection:
            audit(connection)


def new(**more: Any) -> NewJob:
    """A submission of the task `t`."""
    return NewJob(**{"task": "t", "params": "{}", **more})


def audit(connection: Connection) -> None:
    """Fail where the books contradict themselves."""
    assert list(contradictions(connection)) == []

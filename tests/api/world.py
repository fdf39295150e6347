"""A prepared store with a dispatcher and its tasks, and what a dispatcher would do to the jobs."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from flask.testing import FlaskClient
from msgspec import Meta
from werkzeug.test import TestResponse

from jobrunner.api.app import create_app
from jobrunner.api.context import Api
from jobrunner.clock import utc_now
from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, EventKind, ItemFailed, Report, Values, error
from jobrunner.settings import Settings
from jobrunner.store import catalogue, dispatchers, jobs, maps, moves, reports
from jobrunner.store.dispatchers import Process
from jobrunner.store.moves import Claimed
from jobrunner.tasks.parameters import Parameters
from jobrunner.tasks.registry import Options
from tests.stores import prepared


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Place:
    x: float
    y: float = 0.0


def train(dataset: str, epochs: Annotated[int, Meta(ge=1, le=1000)] = 10) -> None:
    """Fit a classifier."""


def paint(
    colour: Colour = Colour.RED,
    where: Place | None = None,
    when: datetime | None = None,
    sizes: list[int] | None = None,
    notes: dict[str, Any] | None = None,
) -> None:
    """Paint something."""


def nothing(n: int = 0) -> None:
    """Do nothing."""


DEFAULTS = Options(timeout=None, retries=0, crash_retries=2, memory_limit=None, queue="default", priority=0)
CAREFUL = Options(timeout=600, retries=3, crash_retries=0, memory_limit=2 << 30, queue="slow", priority=-5)


def description(name: str, function: Callable[..., None], options: Options = DEFAULTS) -> dict[str, Any]:
    """What a dispatcher publishes of a task."""
    schema = Parameters(function).schema
    return {"name": name, "doc": function.__doc__, "params": schema, "options": dict(options)}


OFFERED = [
    description("demo.nothing", nothing),
    description("demo.paint", paint),
    description("demo.train", train, CAREFUL),
]


@dataclass
class World:
    """The API of one store, and what happens to its jobs."""

    settings: Settings
    dispatcher_id: int = 0
    app: Api = field(init=False)
    client: FlaskClient = field(init=False)

    def __post_init__(self) -> None:
        self.store = prepared(self.settings.data / "jobrunner.db")
        self.dispatcher_id = self.start_dispatcher()
        self.app = create_app(self.settings)
        self.client = self.app.test_client()

    def close(self) -> None:
        self.app.watcher.close()
        self.store.close()
        self.app.store.close()

    def start_dispatcher(self, offered: list[dict[str, Any]] | None = None) -> int:
        process = Process(host="here", place="boot/1", pid=1234, started_ticks=99)
        with self.store.write(durable=False) as connection:
            number = dispatchers.register(connection, process, workers=2, now=utc_now())
        self.publish(OFFERED if offered is None else offered, number)
        return number

    def publish(self, offered: list[dict[str, Any]], dispatcher_id: int | None = None) -> None:
        """Have a dispatcher publish these tasks and no others."""
        with self.store.write(durable=False) as connection:
            catalogue.publish(connection, dispatcher_id or self.dispatcher_id, offered, now=utc_now())

    def dispatcher_falls_silent(self) -> None:
        """Its last heartbeat is older than its lease."""
        long_ago = utc_now() - timedelta(seconds=self.settings.lease_seconds + 1)
        with self.store.write(durable=False) as connection:
            dispatchers.heartbeat(connection, self.dispatcher_id, slots=[], now=long_ago)

    def submit(self, task: str = "demo.nothing", **body: Any) -> int:
        """Submit a job over HTTP; return its id."""
        answer = self.client.post("/jobs", json={"task": task, **body})
        assert answer.status_code == 202, answer.text
        return int(answer.get_json()["id"])

    def claim(self, *, now: datetime | None = None) -> list[Claimed]:
        """Have the dispatcher take all that is due."""
        tasks = [one["name"] for one in OFFERED]
        with self.store.write(durable=False) as connection:
            return moves.claim(
                connection, self.dispatcher_id, tasks=tasks, limit=1000, map_limit=1000, now=now or utc_now()
            )

    def say(self, job_id: int, *said: tuple[EventKind, str], attempt: int = 1) -> None:
        """Have the job's attempt say something."""
        self._record(Report(job_id, attempt, utc_now(), said))

    def settle(
        self, job_id: int, *settled: Values | ItemFailed, attempt: int = 1, closed: int | None = None
    ) -> None:
        """Have the attempt of a map job say what became of items, and maybe that a chunk is through."""
        self._record(Report(job_id, attempt, utc_now(), items=settled, closed=closed))

    def hand_out(self, job_id: int, first: int, item_count: int) -> None:
        """Have a worker take a chunk of a map job."""
        with self.store.write(durable=False) as connection:
            maps.open_chunks(connection, [(job_id, first, item_count)])

    def chunk(self, job_id: int, first: int, *settled: Values | ItemFailed, attempt: int = 1) -> None:
        """Have a worker take a chunk, settle these items of it, and be through with it."""
        self.hand_out(job_id, first, len(settled))
        self.settle(job_id, *settled, attempt=attempt, closed=first)

    def end(self, job_id: int, ending: Ending, *, attempt: int = 1, result: Any = None) -> None:
        """Have the job's attempt end."""
        ok = ending is Ending.SUCCEEDED
        ended = Ended(
            ending,
            result=json.dumps(result) if ok else None,
            error=None if ok else error(ending, "so it went", type="ValueError"),
            worker=1,
            peak_memory_bytes=1 << 20,
            cpu_seconds=0.5,
        )
        self._record(Report(job_id, attempt, utc_now(), (), ended))

    def _record(self, report: Report) -> None:
        with self.store.write(durable=False) as connection:
            assert not reports.record(connection, [report]).refused

    def running(self, **body: Any) -> int:
        """Return a job that runs."""
        job_id = self.submit(**body)
        assert job_id in [one.id for one in self.claim()]
        return job_id

    def mapped(self, *told: Any, **body: Any) -> int:
        """Return a map job that has succeeded with these values, by chunks of three, of which the last came first."""
        job_id = self.running(map={"n": {"range": [0, len(told)]}}, **body)
        for first in reversed(range(0, len(told), 3)):
            self.chunk(job_id, first, values(first, *told[first : first + 3]))
        return job_id

    def succeeded(self, result: Any = None) -> int:
        job_id = self.running()
        self.end(job_id, Ending.SUCCEEDED, result=result)
        return job_id

    def failed(self) -> int:
        job_id = self.running()
        self.end(job_id, Ending.EXCEPTION)
        return job_id

    def cancelled(self) -> int:
        job_id = self.submit()
        assert self.client.post(f"/jobs/{job_id}/cancel").status_code == 200
        return job_id

    def show(self, job_id: int) -> Any:
        """Return the job as the API shows it."""
        answer = self.client.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def count(self) -> int:
        """How many jobs are stored."""
        with self.store.read() as connection:
            return sum(jobs.counts(connection).values())


def values(first: int, *told: Any) -> Values:
    """Return the values of items that follow each other."""
    return Values(first, len(told), json.dumps(told))


def item_failed(number: int) -> ItemFailed:
    """Return the end of an item that is not tried again."""
    told = error(Ending.EXCEPTION, "so it went", type="ValueError")
    return ItemFailed(number, told, "retries", is_final=True)


def made_in(directory: Path, **settings: Any) -> World:
    return World(Settings(data=directory, **settings))


def problem(answer: TestResponse, status: int, slug: str) -> Any:
    """Return the problem that `answer` must be."""
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json"), answer.text
    told = answer.get_json()
    assert told["type"] == f"/problems/{slug}", told
    assert told["status"] == status
    assert told["title"]
    return told


def pointers(told: Any) -> list[str]:
    """Return where the flaws of a problem are."""
    return [error["pointer"] for error in told["errors"]]

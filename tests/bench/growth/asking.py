"""What is asked of a large store and of a small one: each request of the API, and what a dispatcher does."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlencode

from jobrunner.api import cursor
from jobrunner.api.app import create_app
from jobrunner.clock import utc_now
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import Ended, EventKind, Report
from jobrunner.settings import Settings
from jobrunner.store import dispatchers, jobs, lists, moves, reports
from jobrunner.store.engine import Store
from jobrunner.store.moves import Claimed
from tests.bench.growth.filling import (
    BATCH_JOBS,
    RARE,
    RARE_QUEUE,
    RARE_TASK,
    TASKS,
    Filled,
    enter_dispatcher,
    heavy,
)

RECENT: Final = 200  #: of the jobs that have finished, those that were submitted last

Ask = Callable[[], None]
_Query = list[tuple[str, str]]


class Asked:
    """A store, and all that is asked of it, by name; each call asks once, of another job where there are others."""

    def __init__(self, filled: Filled) -> None:
        self.filled = filled
        self._store = Store(f"sqlite:///{filled.directory / 'jobrunner.db'}")
        self._dispatcher_id = enter_dispatcher(self._store, utc_now())
        self._app = create_app(Settings(data=filled.directory, max_queued=10**9))
        self._client = self._app.test_client()
        self._chance = random.Random(7)
        self._claimed: list[Claimed] = []

    def close(self) -> None:
        with self._store.write(durable=True) as connection:
            self._give_back(connection)
            dispatchers.end(connection, self._dispatcher_id, now=utc_now())
        self._app.watcher.close()
        self._store.close()
        self._app.store.close()

    def _give_back(self, connection: Any) -> None:
        held = moves.held(connection, self._dispatcher_id)
        gone = Ended(Ending.RELEASED)
        reports.record(connection, [Report(job_id, number, utc_now(), (), gone) for job_id, number in held])

    def beat(self) -> None:
        """Have the dispatcher live on."""
        with self._store.write(durable=False) as connection:
            dispatchers.heartbeat(connection, self._dispatcher_id, slots=[], now=utc_now())
        self._store.checkpoint_if_large()

    @property
    def questions(self) -> Mapping[str, Ask]:
        return {
            **dict(self._of_one_job()),
            # So few that the small store fills the page too.
            **{
                f"GET /jobs?{name}": self._get("/jobs", [*query, ("limit", "10")])
                for name, query in self._lists()
            },
            **dict(self._of_all()),
            **dict(self._changes()),
            "claim": self._claim,
            "claim 16": lambda: self._claim(16),
            "record a partial result": self._record_partial,
            "record an end": self._record_end,
        }

    # -- reading -----------------------------------------------------------------------------------

    def _get(self, path: str | Callable[[], str], query: _Query | None = None) -> Ask:
        def ask() -> None:
            asked = path if isinstance(path, str) else path()
            self._answered(self._client.get(f"{asked}?{urlencode(query)}" if query else asked), 200)

        return ask

    def _answered(self, answer: Any, *statuses: int) -> Any:
        with closing(answer):
            if answer.status_code not in statuses:
                raise AssertionError(f"{answer.status_code}, not {statuses}: {answer.text[:1000]}")
            return answer.get_json() if answer.is_json else answer.data

    def _any_job(self) -> int:
        return self._chance.randrange(len(RARE) + RARE.start, self.filled.finished) + 1

    def _of_one_job(self) -> Iterator[tuple[str, Ask]]:
        yield "GET /jobs/{id}", self._get(lambda: f"/jobs/{self._any_job()}")
        for part in ("attempts", "events", "log", "partials"):
            yield f"GET /jobs/{{id}}/{part}", self._get(lambda part=part: f"/jobs/{self._light()}/{part}")
        yield "GET /jobs/{id}/result", self._get(lambda: f"/jobs/{self._light()}/result")
        largest = heavy(self.filled)[0] + 1
        middle = [("after", "500"), ("limit", "100")]
        yield "GET /jobs/{id}/partials, of very many", self._get(f"/jobs/{largest}/partials", middle)

    def _light(self) -> int:
        """Return a job that has succeeded, and has few partial results."""
        return self._chance.choice(self._light_ones)

    @cached_property
    def _light_ones(self) -> list[int]:
        with self._app.store.read() as connection:
            some = [jobs.get(connection, self._any_job()) for _ in range(200)]
        return [one.id for one in some if one.state is State.SUCCEEDED and one.partials < 100]

    def _lists(self) -> Iterator[tuple[str, _Query]]:
        """Yield queries, each by its name; "none": there is no such job."""
        filled = self.filled
        recent = ("created_after", filled.created_at(filled.finished - RECENT).isoformat())
        old = ("created_after", filled.created_at(filled.finished // 2).isoformat())
        common, never_fails = TASKS[0], TASKS[-1]
        batch = ("label", f"batch:{filled.finished // BATCH_JOBS // 2}")
        yield "", []
        for state in ("succeeded", "failed", "queued", "running"):
            yield f"state={state}", [("state", state)]
        yield "state=failed&state=cancelled", [("state", "failed"), ("state", "cancelled")]
        yield "all states", [("state", state.value) for state in State]
        for task in (common, RARE_TASK, "none"):
            yield f"task={task}", [("task", task)]
        for queue in ("default", RARE_QUEUE, "none"):
            yield f"queue={queue}", [("queue", queue)]
        for label in ("team:a", "special:yes", "special:no"):
            yield f"label={label}", [("label", label)]
        yield "label=batch:N", [batch]
        yield "label=team:a&label=special:yes", [("label", "team:a"), ("label", "special:yes")]
        yield "label=team:a&label=team:b (none)", [("label", "team:a"), ("label", "team:b")]
        yield "created_after=recent", [recent]
        yield "created_after=old", [old]
        yield "created_after=now (none)", [("created_after", utc_now().isoformat())]
        yield "state=failed&created_after=recent", [("state", "failed"), recent]
        yield (
            "state=failed&state=cancelled&created_after=recent",
            [("state", "failed"), ("state", "cancelled"), recent],
        )
        yield "task&created_after=recent", [("task", common), recent]
        yield "label=team:a&created_after=recent", [("label", "team:a"), recent]
        yield "state=failed&task", [("state", "failed"), ("task", common)]
        yield "state=succeeded&task=rare", [("state", "succeeded"), ("task", RARE_TASK)]
        yield "state=failed&task=never_fails (none)", [("state", "failed"), ("task", never_fails)]
        yield "state=running&task (none)", [("state", "running"), ("task", common)]
        yield "state=queued&queue=attic (none)", [("state", "queued"), ("queue", RARE_QUEUE)]
        yield "state=failed&queue=gpu", [("state", "failed"), ("queue", "gpu")]
        yield "task&queue=attic (none)", [("task", common), ("queue", RARE_QUEUE)]
        yield "task&queue", [("task", common), ("queue", "slow")]
        yield "state=failed&label=special:yes", [("state", "failed"), ("label", "special:yes")]
        yield "state=failed&label=team:a", [("state", "failed"), ("label", "team:a")]
        yield (
            "state&task&queue&label&created_after",
            [("state", "succeeded"), ("task", common), ("queue", "default"), ("label", "team:a"), old],
        )
        for name, wanted in (
            ("", lists.Filter()),
            ("state=failed", lists.Filter(states=(State.FAILED,))),
            ("state=failed&state=cancelled", lists.Filter(states=(State.FAILED, State.CANCELLED))),
            ("task", lists.Filter(task=common)),
            ("queue=slow", lists.Filter(queue="slow")),
            ("label=team:a", lists.Filter(labels=(("team", "a"),))),
        ):
            yield f"{name}, deep", self._deep(wanted)

    def _deep(self, wanted: lists.Filter) -> _Query:
        """Return a query for a page in the middle of a list."""
        query = [("state", state.value) for state in wanted.states]
        query += [(name, value) for name in ("task", "queue") if (value := getattr(wanted, name)) is not None]
        query += [("label", f"{key}:{value}") for key, value in wanted.labels]
        return [*query, ("after", cursor.encode(self.filled.finished * 6 // 10, wanted))]

    def _of_all(self) -> Iterator[tuple[str, Ask]]:
        number = self.filled.finished // BATCH_JOBS // 2 * BATCH_JOBS
        ids = ("ids", f"{number + 1}-{number + BATCH_JOBS}")
        batch = ("label", f"batch:{number // BATCH_JOBS}")
        yield "GET /jobs/finished", self._get("/jobs/finished", [batch, ids, ("limit", "100")])
        waiting = ("label", f"batch:{(self.filled.ids - 1) // BATCH_JOBS}")
        none = f"GET /jobs/finished, none of {BATCH_JOBS}"
        yield none, self._get("/jobs/finished", [waiting, ("ids", f"{self.filled.finished + 1}-")])
        for path in ("/stats", "/stats/series", "/metrics", "/queues", "/queues/slow", "/tasks", "/livez"):
            yield f"GET {path}", self._get(path)
        week = [("window", "604800")]
        yield "GET /stats/series, of a week", self._get("/stats/series", week)

    # -- changing ----------------------------------------------------------------------------------

    def _changes(self) -> Iterator[tuple[str, Ask]]:
        body = {"task": TASKS[0], "params": {"path": "/data/x.png", "size": 7}, "labels": {"team": "a"}}
        ids = self._recent()

        def post(path: str, status: int, body: Any = None) -> Any:
            return self._answered(self._client.post(path, json=body), status)

        def cancelled() -> int:
            job_id = int(post("/jobs", 202, body)["id"])
            post(f"/jobs/{job_id}/cancel", 200, {})
            return job_id

        yield "POST /jobs", lambda: post("/jobs", 202, body)
        yield "POST /jobs/batch of 100", lambda: post("/jobs/batch", 202, [body] * 100)
        yield "POST, then cancel", cancelled
        yield "POST, cancel, then retry", lambda: post(f"/jobs/{cancelled()}/retry", 202)
        yield "DELETE /jobs/{id}", lambda: self._answered(self._client.delete(f"/jobs/{next(ids)}"), 204)

    def _recent(self) -> Iterator[int]:
        """Yield jobs that have finished, the last first, leaving those alone that the lists of recent ones show."""
        for job_id in range(self.filled.finished - RECENT * 2, RARE.stop, -1):
            with self._app.store.read() as connection:
                known = jobs.versions(connection, [job_id])
            if known:  # else an earlier run has deleted it
                yield job_id

    def _claim(self, limit: int = 1) -> None:
        with self._store.write(durable=False) as connection:
            taken = moves.claim(connection, self._dispatcher_id, tasks=TASKS, limit=limit, now=utc_now())
        if len(taken) != limit:
            raise AssertionError(f"only {len(taken)} jobs are queued")
        self._claimed += taken

    def _record_partial(self) -> None:
        self._record(((EventKind.PARTIAL, '{"epoch":1,"loss":0.12345}'),), None)

    def _record_end(self) -> None:
        ended = Ended(Ending.SUCCEEDED, result='{"accuracy":0.97}', worker=0, cpu_seconds=1.25)
        self._record((), ended)

    def _record(self, said: tuple[tuple[EventKind, str], ...], ended: Ended | None) -> None:
        if not self._claimed:
            self._claim(64)
        of = self._claimed[-1] if ended is None else self._claimed.pop()
        report = Report(of.id, of.attempt, utc_now(), said, ended)
        with self._store.write(durable=True) as connection:
            if reports.record(connection, [report]).refused:
                raise AssertionError(of)

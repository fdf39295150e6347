"""A store with any number of jobs that have finished, as the product would have left it, made in a minute.

The rows are inserted in bulk, past everything but the schema; the audit finds no fault with them.  A store of few jobs
has the same kinds in the same shares, so what is asked of a large one can be asked of it too.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from jobrunner.lifecycle import Ending, State
from jobrunner.reports import error
from jobrunner.store import catalogue, dispatchers, migrations, throughput
from jobrunner.store.engine import Store
from jobrunner.store.jobs import state_data
from jobrunner.store.tables import attempt, event, job, label
from jobrunner.tasks.parameters import Parameters

SPREAD: Final = timedelta(days=30)  #: from the first job to the last
LAST: Final = timedelta(minutes=2)  #: from the last job that has finished to now
TASKS: Final = ("growth.resize", "growth.train", "growth.index", "growth.report", "growth.never_fails")
RARE_TASK: Final = "growth.rare"
QUEUES: Final = ("default",) * 7 + ("slow",) * 2 + ("gpu",)
RARE_QUEUE: Final = "attic"
RARE: Final = range(5, 10)  #: numbers of jobs, old ones, of the rare task in the rare queue with a rare label
TEAMS: Final = "abcde"
BATCH_JOBS: Final = 1000  #: with one label `batch`, as an executor's jobs have
HEAVY: Final = 3  #: jobs with very many partial results
HEAVY_PARTIALS: Final = 50_000
ATTEMPT_SECONDS: Final = 1.5
SAMPLES_DAYS: Final = 90  #: of throughput, thinned as housekeeping leaves them
_TURN: Final = 20_000  # jobs in one transaction

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = 1_000_000  # of a Moment
_TOLD: Final = {state: state_data(state) for state in State}
_RESULT: Final = json.dumps({"accuracy": 0.97, "model": "s3://models/digits/2026-01-31.bin", "rows": 1797})
_ERROR: Final = json.dumps(
    error(Ending.EXCEPTION, "it went wrong", type="ValueError", traceback="Traceback ...\n" * 12)
)
_LINE: Final = "read 1797 rows, wrote 1 model, all well\n" * 4


@dataclass(frozen=True)
class Filled:
    """What is in a store: `finished` jobs with the ids from 1 on, then `queued` ones."""

    directory: Path
    finished: int
    queued: int
    since: datetime  #: when the first job was submitted

    @property
    def ids(self) -> int:
        return self.finished + self.queued

    def created_at(self, number: int) -> datetime:
        """Return when the job of this number, counted from 0, was submitted."""
        return (
            self.since + SPREAD * (number / self.finished) if number < self.finished else self.since + SPREAD
        )


class _Kind(NamedTuple):
    state: State
    attempts: int
    extras: int  #: partial results and log lines of the last attempt


def nothing(path: str = "", size: int = 0) -> None:
    """Do nothing."""


def fill(directory: Path, finished: int, queued: int) -> Filled:
    """Make a store in `directory`, with a dispatcher that has just beaten its heart."""
    store = Store(f"sqlite:///{directory / 'jobrunner.db'}")
    migrations.prepare(store)
    now = datetime.now(UTC)
    made = Filled(directory, finished, queued, now - LAST - SPREAD)
    dispatcher_id = enter_dispatcher(store, now)
    store.close()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-400000", "locking_mode=EXCLUSIVE"):
            connection.execute(f"PRAGMA {pragma}")
        for first in range(0, made.ids, _TURN):
            _add(connection, made, range(first, min(first + _TURN, made.ids)), dispatcher_id)
        _count(connection)
        _add_samples(connection, dispatcher_id, now)
    store.close()
    _note(directory).write_text(json.dumps([finished, queued, made.since.isoformat()]), encoding="ascii")
    return made


def filled_before(directory: Path) -> Filled | None:
    """Return what `fill` has left in this directory; None if there is nothing."""
    if not _note(directory).exists():
        return None
    finished, queued, since = json.loads(_note(directory).read_text(encoding="ascii"))
    return Filled(directory, finished, queued, datetime.fromisoformat(since))


def _note(directory: Path) -> Path:
    return directory / "filled.json"


def enter_dispatcher(store: Store, now: datetime) -> int:
    """Have a dispatcher serve all tasks; return its id."""
    process = dispatchers.Process(host="bench", place="bench", pid=1, started_ticks=1)
    options = {"timeout": None, "retries": 0, "crash_retries": 2, "memory_limit": None, "queue": "default"}
    schema = Parameters(nothing).schema
    offered = [
        {"name": name, "doc": "", "params": schema, "options": {**options, "priority": 0}}
        for name in (*TASKS, RARE_TASK)
    ]
    with store.write(durable=False) as connection:
        dispatcher_id = dispatchers.register(connection, process, workers=2, now=now)
        catalogue.publish(connection, dispatcher_id, offered, now=now)
    return dispatcher_id


# -- rows --------------------------------------------------------------------------------------------


def _add(connection: sqlite3.Connection, made: Filled, numbers: range, dispatcher_id: int) -> None:
    connection.execute("BEGIN")
    for table, rows in (
        (job, _jobs(made, numbers)),
        (label, _labels(numbers)),
        (attempt, _attempts(made, numbers, dispatcher_id)),
        (event, _events(made, numbers)),
    ):
        first = next(rows, None)
        if first is not None:
            names, places = ", ".join(first), ", ".join("?" * len(first))
            sql = f"INSERT INTO {table.name} ({names}) VALUES ({places})"
            connection.execute(sql, tuple(first.values()))
            connection.executemany(sql, (tuple(row.values()) for row in rows))
    connection.execute("COMMIT")


def _kind(made: Filled, number: int) -> _Kind:
    if number >= made.finished:
        return _Kind(State.QUEUED, 0, 0)
    if number in heavy(made):
        return _Kind(State.SUCCEEDED, 1, min(HEAVY_PARTIALS, max(1000, made.finished // 20)))
    share = number * 7919 % 1000  # of all kinds alike among old and new ones
    state = State.FAILED if share < 70 else State.CANCELLED if share < 100 else State.SUCCEEDED
    if state is State.FAILED and _task(number) == "growth.never_fails":
        state = State.SUCCEEDED
    if state is State.CANCELLED and share % 2:
        return _Kind(state, 0, 0)
    extras = (number % 10 - 5) * 2 if number % 10 > 5 else 0
    return _Kind(state, 1 + (state is State.FAILED and share % 2), extras)


def heavy(made: Filled) -> list[int]:
    """Return the numbers of the jobs with very many partial results."""
    return [made.finished * (one + 1) // (HEAVY + 1) for one in range(HEAVY)]


def _task(number: int) -> str:
    return RARE_TASK if number in RARE else TASKS[number * 31 % 97 % len(TASKS)]


def _jobs(made: Filled, numbers: range) -> Iterator[dict[str, Any]]:
    for number in numbers:
        kind = _kind(made, number)
        created_at = _stored(made.created_at(number))
        ended = kind.state is not State.QUEUED
        yield {
            "id": number + 1,
            "task": _task(number),
            "params": f'{{"path":"/data/incoming/{number:09}.png","size":{number % 4096}}}',
            "state": kind.state,
            "priority": number % 3 - 1,
            "queue": RARE_QUEUE if number in RARE else QUEUES[number * 17 % 101 % len(QUEUES)],
            "labels": json.dumps(dict(_labels_of(number))),
            "retries": 1,
            "crash_retries": 2,
            "retries_used": max(0, kind.attempts - 1),
            "created_at": created_at,
            "started_at": created_at + _SECOND if kind.attempts else None,
            "finished_at": _moment(created_at, kind.attempts, 1) if ended else None,
            "attempt": kind.attempts,
            "version": _version(kind),
            "partials": _partials(kind),
            "result": _RESULT if kind.state is State.SUCCEEDED else None,
            "error": _ERROR if kind.state is State.FAILED else None,
        }


def _stored(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(created_at: int, attempts: int, share: float) -> int:
    """Return a moment within the last of so many attempts."""
    return created_at + _SECOND + int((max(0, attempts - 1) + share) * ATTEMPT_SECONDS * _SECOND)


def _version(kind: _Kind) -> int:
    if kind.state is State.QUEUED:
        return 1
    return 1 + 2 * kind.attempts + kind.extras + (kind.attempts == 0)


def _partials(kind: _Kind) -> int:
    return kind.extras - kind.extras // 4 if kind.extras < 100 else kind.extras


def _labels_of(number: int) -> Iterator[tuple[str, str]]:
    if number % 2 == 0:
        yield "team", TEAMS[number // 2 % len(TEAMS)]
    if number % 2 == 0:
        yield "batch", str(number // BATCH_JOBS)
    if number in RARE:
        yield "special", "yes"


def _labels(numbers: range) -> Iterator[dict[str, Any]]:
    for number in numbers:
        for key, value in _labels_of(number):
            yield {"job_id": number + 1, "key": key, "value": value}


_OUTCOMES: Final = {
    State.SUCCEEDED: Ending.SUCCEEDED,
    State.FAILED: Ending.EXCEPTION,
    State.CANCELLED: Ending.CANCELLED,
}


def _attempts(made: Filled, numbers: range, dispatcher_id: int) -> Iterator[dict[str, Any]]:
    for number in numbers:
        kind = _kind(made, number)
        created_at = _stored(made.created_at(number))
        for one in range(1, kind.attempts + 1):
            yield {
                "job_id": number + 1,
                "number": one,
                "dispatcher_id": dispatcher_id,
                "worker": number % 2,
                "started_at": _moment(created_at, one, 0),
                "finished_at": _moment(created_at, one, 1),
                "outcome": _OUTCOMES[kind.state],
                "error": _ERROR if kind.state is State.FAILED else None,
                "peak_memory_bytes": 50 << 20,
                "cpu_seconds": 1.25,
            }


def _events(made: Filled, numbers: range) -> Iterator[dict[str, Any]]:
    for number in numbers:
        kind = _kind(made, number)
        created_at = _stored(made.created_at(number))
        told = [("state", 0, created_at, _TOLD[State.QUEUED])]
        for one in range(1, kind.attempts + 1):
            told.append(("state", one, _moment(created_at, one, 0), _TOLD[State.RUNNING]))
            if one < kind.attempts:
                told.append(("state", one, _moment(created_at, one, 1), _TOLD[State.QUEUED]))
        said = _moment(created_at, kind.attempts, 0.5)
        partials = _partials(kind)
        told += [
            ("partial", kind.attempts, said, f'{{"epoch":{one},"loss":0.12345}}') for one in range(partials)
        ]
        told += [("log", kind.attempts, said, _LINE)] * (kind.extras - partials)
        if kind.state is not State.QUEUED:
            told.append(("state", kind.attempts, _moment(created_at, kind.attempts, 1), _TOLD[kind.state]))
        for seq, (what, one, at, data) in enumerate(told, 1):
            yield {"job_id": number + 1, "seq": seq, "kind": what, "attempt": one, "at": at, "data": data}


def _count(connection: sqlite3.Connection) -> None:
    """Count the jobs as the triggers would have, and give no id twice."""
    connection.execute("INSERT INTO tally SELECT queue, state, count(*) FROM job GROUP BY queue, state")


def _add_samples(connection: sqlite3.Connection, dispatcher_id: int, now: datetime) -> None:
    """Add what a dispatcher that was busy for three months has left of its samples."""
    spans: Sequence[tuple[timedelta, timedelta, int]] = (
        (timedelta(days=SAMPLES_DAYS), throughput.STEPS[0][0], 60),
        (throughput.STEPS[0][0], throughput.STEPS[1][0], 10),
        (throughput.STEPS[1][0], timedelta(), 1),
    )
    end = int(now.timestamp())
    connection.execute("BEGIN")
    for begin_age, end_age, step in spans:
        begin = end - int(begin_age.total_seconds())
        first = begin + -begin % step
        last = end - int(end_age.total_seconds())
        rows = (
            (at * _SECOND, dispatcher_id, step, 3, 1, 10, 1.5 * step, 100) for at in range(first, last, step)
        )
        connection.executemany(
            "INSERT OR IGNORE INTO throughput (at, dispatcher_id, seconds, done, failed, partials, busy_seconds,"
            " queued) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
    connection.execute("COMMIT")

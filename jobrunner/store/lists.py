"""Lists: pages of jobs, newest first, read off indexes.

Each condition has an index in the order of ids, and is a way to the page: walk down its index, and ask of each job that
is met whether the other conditions hold, mostly without reading it.  Which way is short nobody knows before.  So each
is walked for a stretch in turn, then for a longer one, until one of them has filled the page or come to its end: that
costs a few times what the shortest way does, however many jobs there are.

The statements are text, for SQLite left to itself may walk down another index.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from jobrunner.lifecycle import State
from jobrunner.store import jobs
from jobrunner.store.jobs import Job
from jobrunner.store.tables import Moment

STRETCH: Final = 100  #: jobs that are met at first on each of several ways; then ten times as many
_LAST_ID: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs a list shows; what is empty or None does not narrow it.

    `created_after` takes it that ids are in the order of time.  Where the clock was set back, it leaves out all that
    was submitted before that, if anything submitted later is not after it.
    """

    states: tuple[State, ...] = ()
    task: str | None = None
    queue: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    created_after: datetime | None = None


def page(connection: Connection, wanted: Filter, *, before_id: int | None, limit: int) -> list[Job]:
    """Return at most `limit` jobs, newest first, with ids below `before_id`.

    A result of more than LISTED_RESULT_CHARACTERS is left out: a page of a thousand would not fit into memory.
    """
    wanted = _plain(wanted)
    if len(dict(wanted.labels)) < len(wanted.labels):
        return []  # a label has one value
    values = {**_values(connection, wanted), "before": _LAST_ID if before_id is None else before_id}
    walks = [_Walk(connection, way, wanted, values, limit) for way in _ways(wanted)]
    return jobs.listed(connection, _first_to_arrive(walks))


def _first_to_arrive(walks: Sequence["_Walk"]) -> list[int]:
    if len(walks) == 1:
        walks[0].go_on(None)
        return walks[0].found
    turns = ((walk, STRETCH * 10**turn) for turn in itertools.count() for walk in walks)
    return next(walk.found for walk, stretch in turns if walk.go_on(stretch))


def _plain(wanted: Filter) -> Filter:
    """Return the same without what is said twice, or does not narrow it."""
    states, labels = dict.fromkeys(wanted.states), dict.fromkeys(wanted.labels)
    return replace(wanted, states=() if len(states) == len(State) else tuple(states), labels=tuple(labels))


def _values(connection: Connection, wanted: Filter) -> dict[str, Any]:
    """Return the parameters of the conditions; `since` is the last job before those that are wanted."""
    values: dict[str, Any] = {"task": wanted.task, "queue": wanted.queue, "since": 0}
    values |= {f"state{at}": state.value for at, state in enumerate(wanted.states)}
    for at, (key, value) in enumerate(wanted.labels):
        values |= {f"key{at}": key, f"value{at}": value}
    if wanted.created_after is not None:
        values["created_after"] = Moment().process_bind_param(wanted.created_after, connection.dialect)
        values["since"] = connection.exec_driver_sql(_SINCE, values).scalar() or 0
    return values


_SINCE: Final = (
    "SELECT id FROM job INDEXED BY ix_job_created_at WHERE created_at <= :created_after"
    " ORDER BY created_at DESC, id DESC LIMIT 1"
)


class _Walk:
    """One way to the page, and how far it has been gone."""

    def __init__(
        self, connection: Connection, way: "_Way", wanted: Filter, values: Mapping[str, Any], limit: int
    ) -> None:
        self.found: list[int] = []  #: so far; no more than `limit`
        self._connection = connection
        self._values = dict(values)
        self._limit = limit
        self._stop = f"{way.down()} LIMIT 1 OFFSET :met"
        self._go = f"{way.down(_conditions(way, wanted))} LIMIT :limit"
        # Its index answers for all but labels: ten entries are passed in the time that another look takes.
        self._pace = 10 if "state" in way.of and not wanted.labels else 1

    def go_on(self, stretch: int | None) -> bool:
        """Go on for a stretch, or to the end; return whether the page is full, or nothing is left to be met."""
        stop = [] if stretch is None else self._ask(self._stop, met=stretch * self._pace)
        since = stop[0] if stop else self._values["since"]
        self.found += self._ask(self._go, limit=self._limit - len(self.found), since=since)
        self._values["before"] = since + 1
        return not stop or len(self.found) == self._limit

    def _ask(self, sql: str, **more: int) -> list[int]:
        return list(self._connection.exec_driver_sql(sql, {**self._values, **more}).scalars())


# -- the ways ------------------------------------------------------------------------------------


class _Way(NamedTuple):
    """An index to walk down: once for each of `wheres`, all in step, and so in the order of ids."""

    of: tuple[str, ...]  #: the conditions that it is for
    table: str
    id: str
    wheres: Sequence[str]

    def down(self, conditions: Iterable[str] = ()) -> str:
        """Return the statement that walks down it and picks out where the conditions hold."""
        rest = " AND ".join([f"{self.id} > :since AND {self.id} < :before", *conditions])
        each = (f"SELECT {self.id} AS id FROM {self.table} WHERE {where} AND {rest}" for where in self.wheres)  # noqa: S608 - our own words
        return f"{' UNION ALL '.join(each)} ORDER BY 1 DESC"


def _ways(wanted: Filter) -> Iterator[_Way]:
    if wanted.states == (State.FAILED,) and wanted.task is not None:
        # Asked often, and may be none where very many have failed, and the task has very many jobs.
        its = "met.state = 'failed' AND met.task = :task"
        yield _Way(("state", "task"), "job AS met INDEXED BY ix_job_failed", "met.id", [its])
    else:
        if wanted.states:
            states = [f"met.state = :state{at}" for at in range(len(wanted.states))]
            yield _Way(("state",), "job AS met INDEXED BY ix_job_state", "met.id", states)
        if wanted.task is not None:
            yield _Way(("task",), "job AS met INDEXED BY ix_job_task", "met.id", ["met.task = :task"])
    for at in range(len(wanted.labels)):
        label = f"met.key = :key{at} AND met.value = :value{at}"
        yield _Way(
            (f"label{at}",), "label AS met INDEXED BY ix_label_key_value_job_id", "met.job_id", [label]
        )
    if wanted.queue is not None:
        yield _Way(("queue",), "job AS met INDEXED BY ix_job_queue", "met.id", ["met.queue = :queue"])
    if not any((wanted.states, wanted.labels, wanted.task, wanted.queue)):
        yield _Way((), "job AS met NOT INDEXED", "met.id", ["true"])


def _conditions(way: _Way, wanted: Filter) -> Iterator[str]:
    """Yield what must hold of each job that is met, beside what it is met for."""
    named = [name for name in ("task", "queue") if getattr(wanted, name) is not None and name not in way.of]
    if "state" in way.of:
        yield from (f"met.{name} = :{name}" for name in named)
    elif wanted.states:  # by an index that has all of this: a job may have megabytes of parameters
        states = ", ".join(f":state{at}" for at in range(len(wanted.states)))
        its = " AND ".join([f"state IN ({states})", *(f"{name} = :{name}" for name in named)])
        yield f"EXISTS (SELECT 1 FROM job INDEXED BY ix_job_state WHERE id = {way.id} AND {its})"  # noqa: S608
    else:
        yield from (_of_job(way, f"{name} = :{name}") for name in named)
    for at in range(len(wanted.labels)):
        if f"label{at}" not in way.of:
            its = f"key = :key{at} AND value = :value{at}"
            yield f"EXISTS (SELECT 1 FROM label WHERE job_id = {way.id} AND {its})"  # noqa: S608
    if wanted.created_after is not None:
        yield _of_job(way, "created_at > :created_after")
    yield f"NOT EXISTS (SELECT 1 FROM removal WHERE job_id = {way.id})"  # noqa: S608 - nobody sees what is being removed


def _of_job(way: _Way, condition: str) -> str:
    return f"EXISTS (SELECT 1 FROM job NOT INDEXED WHERE id = {way.id} AND {condition})"  # noqa: S608

"""Jobs: submitting, reading, listing, counting."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Integer, bindparam, case, column, exists, func, insert, select, table, text

from jobrunner.errors import JobNotFoundError
from jobrunner.lifecycle import FINAL, State
from jobrunner.reports import EventKind
from jobrunner.store.quick import Quick, QuickMany, Source, in_list
from jobrunner.store.tables import event, job, label, map_job, removal, tally
from jobrunner.store.tally import count_moved

LISTED_RESULT_CHARACTERS: Final = 65_536  #: a larger result is not in a list of jobs


@dataclass(frozen=True, slots=True)
class NewMap:
    """What makes a submission a map job."""

    spec: str  #: which items, as JSON; see `jobrunner.items`
    item_count: int
    reduce_task: str | None = None  #: gets the stream of all values
    reduce_params: str | None = (
        None  #: its other parameters, a JSON object; None exactly if there is no such task
    )
    max_failed: int | None = None  #: with more failed items than this it ends early
    max_parallel: int | None = None  #: chunks at a time
    chunk_size: int | None = None  #: items in a chunk; None: as many as take a while


@dataclass(frozen=True, slots=True)
class NewJob:
    """A submission, checked and complete."""

    task: str
    params: str  #: a JSON object
    priority: int = 0
    queue: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    run_at: datetime | None = None
    timeout_seconds: float | None = None
    memory_limit_bytes: int | None = None
    retries: int = 0
    crash_retries: int = 2
    map: NewMap | None = None  #: of a map job, whose `params` all items have in common


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands.  `params`, `labels`, `progress`, `result` and `error` are JSON texts."""

    id: int
    task: str
    params: str
    state: State
    priority: int
    queue: str
    labels: str
    timeout_seconds: float | None
    memory_limit_bytes: int | None
    retries: int
    crash_retries: int
    retries_used: int
    crash_retries_used: int
    created_at: datetime
    run_at: datetime | None
    due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int
    dispatcher_id: int | None
    cancel_grace_seconds: float | None
    version: int
    partials: int
    progress: str | None
    result: str | None
    error: str | None
    item_count: int | None  #: of a map job

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more, unless somebody asks for a retry."""
        return self.state in FINAL


# AUTOINCREMENT's own memory of the highest id that was ever given.  Under the write lock nobody else
# takes one, and rows with ids of our own go in four times as fast as rows whose ids are asked back.
_SEQUENCE: Final = table("sqlite_sequence", column("name"), column("seq", Integer))
_LAST_ID: Final = Quick(
    select(func.coalesce(func.max(_SEQUENCE.c.seq), 0)).where(_SEQUENCE.c.name == job.name)
)


def submit(connection: Connection, new: Sequence[NewJob], *, now: datetime) -> list[int]:
    """Store the jobs as queued, of which there is at least one; return their ids in the same order."""
    ((last,),) = _LAST_ID.rows(connection)
    ids = list(range(last + 1, last + 1 + len(new)))
    _INSERT.execute(connection, [_row(job_id, one, now) for job_id, one in zip(ids, new, strict=True)])
    queued = {
        "seq": 1,
        "kind": EventKind.STATE.value,
        "attempt": 0,
        "at": now,
        "data": state_data(State.QUEUED),
    }
    _INSERT_EVENT.execute(connection, [{"job_id": job_id, **queued} for job_id in ids])
    labels = [
        {"job_id": job_id, "key": key, "value": value}
        for job_id, one in zip(ids, new, strict=True)
        for key, value in one.labels.items()
    ]
    if labels:
        _INSERT_LABEL.execute(connection, labels)
    maps = [_map_row(job_id, one.map) for job_id, one in zip(ids, new, strict=True) if one.map is not None]
    if maps:
        _INSERT_MAP.execute(connection, maps)
    count_moved(connection, ((one.queue, None, State.QUEUED) for one in new))
    return ids


def _row(job_id: int, one: NewJob, now: datetime) -> dict[str, Any]:
    return {
        "id": job_id,
        "task": one.task,
        "params": one.params,
        "state": State.QUEUED.value,
        "priority": one.priority,
        "queue": one.queue,
        "labels": json.dumps(dict(one.labels)) if one.labels else "{}",
        "run_at": one.run_at,
        "due_at": one.run_at if one.run_at is not None and one.run_at > now else None,
        "timeout_seconds": one.timeout_seconds,
        "memory_limit_bytes": one.memory_limit_bytes,
        "retries": one.retries,
        "crash_retries": one.crash_retries,
        "created_at": now,
        "version": 1,
        "item_count": None if one.map is None else one.map.item_count,
    }


def _map_row(job_id: int, one: NewMap) -> dict[str, Any]:
    given = {name: getattr(one, name) for name in NewMap.__slots__ if name != "item_count"}
    return {"job_id": job_id, **given}


def state_data(state: State, **more: Any) -> str:
    """Return the data of a state event."""
    return json.dumps({"state": state.value, **more}, separators=(",", ":")) if more else _ALONE[state]


_ALONE: Final = {state: f'{{"state":"{state}"}}' for state in State}  # of nearly all, at a tenth of the price


def get(source: Source, job_id: int) -> Job:
    """Return the job.

    Raises:
        JobNotFoundError: no job has this id.
    """
    row = _BY_ID.first(source, job_id=job_id)
    if row is None:
        raise JobNotFoundError(job_id)
    return _job(row)


_INSERT: Final = QuickMany(insert(job), *_row(1, NewJob("", "{}"), datetime.now(UTC)))
_INSERT_EVENT: Final = QuickMany(insert(event), "job_id", "seq", "kind", "attempt", "at", "data")
_INSERT_LABEL: Final = QuickMany(insert(label), "job_id", "key", "value")
_INSERT_MAP: Final = QuickMany(insert(map_job), *_map_row(1, NewMap("[]", 0)))
_COLUMNS: Final = tuple(job.c[name] for name in Job.__slots__)
_LISTED: Final = tuple(
    case((func.length(column) <= LISTED_RESULT_CHARACTERS, column)).label("result")
    if column is job.c.result
    else column
    for column in _COLUMNS
)
_STAYS: Final = ~exists().where(removal.c.job_id == job.c.id)  # nobody sees a job that is being removed
_BY_ID: Final = Quick(select(*_COLUMNS).where(job.c.id == bindparam("job_id"), _STAYS))
_VERSION: Final = Quick(select(job.c.version, job.c.state).where(job.c.id == bindparam("job_id"), _STAYS))


def _job(row: Sequence[Any]) -> Job:
    values: list[Any] = list(row)
    values[3] = State(values[3])
    return Job(*values)


def version(source: Source, job_id: int) -> tuple[int, State]:
    """Return the seq of the job's last event and its state, without reading the job.

    Raises:
        JobNotFoundError: no job has this id.
    """
    found = _VERSION.first(source, job_id=job_id)
    if found is None:
        raise JobNotFoundError(job_id)
    return found[0], State(found[1])


def versions(source: Source, ids: Collection[int]) -> dict[int, tuple[int, State]]:
    """Return the versions and states of these jobs; a job that is not there is left out."""
    found = _VERSIONS.rows(source, ids=json.dumps(list(ids)))
    return {job_id: (version, State(state)) for job_id, version, state in found}


_VERSIONS: Final = Quick(select(job.c.id, job.c.version, job.c.state).where(job.c.id.in_(in_list("ids"))))


@dataclass(frozen=True, slots=True)
class Finished:
    """A final job, in short.  `result` and `error` are JSON texts."""

    id: int
    state: State
    attempt: int
    result: str | None
    error: str | None
    is_cut: bool  #: the result is left out, for it has more than LISTED_RESULT_CHARACTERS


def finished(
    connection: Connection, labelled: tuple[str, str], ids: Sequence[tuple[int, int]], limit: int
) -> list[Finished]:
    """Return at most `limit` final jobs with this label whose id is in one of these ranges, both ends included."""
    key, value = labelled
    wanted = {"key": key, "value": value, "ranges": json.dumps(ids), "most": limit}
    found = connection.execute(_FINISHED_IDS, wanted).scalars().all()
    if not found:
        return []
    rows = connection.execute(_FINISHED, {"ids": found})
    return [
        Finished(row.id, State(row.state), row.attempt, row.result, row.error, is_cut=bool(row.is_cut))
        for row in rows
    ]


# Asked again and again while somebody waits, so it looks at jobs with this label alone, however many others there
# are, and all that it needs is in indexes: by itself SQLite reads the rows, which may have megabytes of parameters.
_FINISHED_IDS: Final = text(
    "SELECT label.job_id FROM json_each(:ranges) AS span CROSS JOIN label"  # CROSS: in this order
    " WHERE label.key = :key AND label.value = :value"
    " AND label.job_id BETWEEN json_extract(span.value, '$[0]') AND json_extract(span.value, '$[1]')"
    " AND NOT EXISTS (SELECT 1 FROM removal WHERE removal.job_id = label.job_id)"
    " AND EXISTS (SELECT 1 FROM job INDEXED BY ix_job_state WHERE job.id = label.job_id"
    " AND job.state IN :final)"
    " LIMIT :most"
).bindparams(bindparam("final", sorted(FINAL), expanding=True))
_FINISHED: Final = select(
    job.c.id,
    job.c.state,
    job.c.attempt,
    job.c.error,
    case((func.length(job.c.result) <= LISTED_RESULT_CHARACTERS, job.c.result)).label("result"),
    func.coalesce(func.length(job.c.result) > LISTED_RESULT_CHARACTERS, 0).label("is_cut"),
).where(job.c.id.in_(bindparam("ids", expanding=True)))


def listed(connection: Connection, ids: Sequence[int]) -> list[Job]:
    """Return these jobs, newest first, without results of more than LISTED_RESULT_CHARACTERS."""
    found = [_job(row) for row in connection.execute(_THESE, {"ids": ids})]
    return sorted(found, key=attrgetter("id"), reverse=True)


_THESE: Final = select(*_LISTED).where(job.c.id.in_(bindparam("ids", expanding=True)))


def counts(source: Source) -> dict[State, int]:
    """Return how many jobs are in each state."""
    return dict.fromkeys(State, 0) | {State(state): jobs for state, jobs in _COUNTS.rows(source)}


_COUNTS: Final = Quick(select(tally.c.state, func.sum(tally.c.jobs)).group_by(tally.c.state))


def oldest_queued_at(connection: Connection) -> datetime | None:
    """Return when the queued job of the lowest id was submitted; None if none is queued."""
    query = select(job.c.created_at).where(job.c.state == State.QUEUED).order_by(job.c.id).limit(1)
    return connection.execute(query).scalar()

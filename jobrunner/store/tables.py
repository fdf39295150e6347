"""The tables.  Moments are whole microseconds since 1970 in UTC; JSON is kept as text."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Computed,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

from jobrunner.lifecycle import FINAL, Ending, State
from jobrunner.reports import EventKind

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """An aware datetime, kept as whole microseconds since 1970 in UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Refuse a naive datetime: it means another moment elsewhere."""
        if value is None:
            return None
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


def _is_one_of(column: str, values: Iterable[str]) -> str:
    # Not by IN: SQLite fills a table with the values, anew in each statement that must check it.
    return " OR ".join(f"{column} = '{value}'" for value in values)


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    return CheckConstraint(_is_one_of(column, values), name=column)


def _index_of_some(where: str, name: str, *columns: Column[Any], unique: bool = False) -> None:
    """Have an index of the rows for which this holds."""
    some = text(where)
    Index(name, *columns, unique=unique, sqlite_where=some, postgresql_where=some)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives INTEGER PRIMARY KEY its rowid; AUTOINCREMENT never gives the id of a deleted job to another.
_Id = BigInteger().with_variant(Integer, "sqlite")

job = Table(
    "job",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("task", String(200), nullable=False),
    Column("params", Text, nullable=False),
    Column("state", String(10), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("queue", String(100), nullable=False),
    Column("labels", Text, nullable=False),
    Column("timeout_seconds", Float),
    Column("memory_limit_bytes", BigInteger),
    Column("retries", Integer, nullable=False),
    Column("crash_retries", Integer, nullable=False),
    Column("retries_used", Integer, nullable=False, server_default="0"),
    Column("crash_retries_used", Integer, nullable=False, server_default="0"),
    Column("created_at", Moment, nullable=False),
    Column("run_at", Moment),  # as the caller asked
    Column("due_at", Moment),  # null: may run now; else it waits for this moment
    # Not null: the job may run now, lower first.  Asked for by state and priority instead, SQLite takes
    # another index and sorts all that are queued.
    Column(
        "ready_rank", Integer, Computed("CASE WHEN state = 'queued' AND due_at IS NULL THEN -priority END")
    ),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("dispatcher_id", _Id, ForeignKey("dispatcher.id")),  # who holds the lease of a running job
    Column("cancel_grace_seconds", Float),  # not null: somebody asked to cancel the running job
    Column("version", BigInteger, nullable=False),  # the seq of the job's last event
    Column("partials", BigInteger, nullable=False, server_default="0"),
    Column("progress", Text),
    Column("result", Text),
    Column("error", Text),
    Column("item_count", BigInteger),  # of a map job: how many it has; see `map_job`
    _one_of("state", State),
    CheckConstraint("(state = 'running') = (dispatcher_id IS NOT NULL)", name="running_is_held"),
    CheckConstraint(
        f"({_is_one_of('state', (state for state in State if state in FINAL))}) = (finished_at IS NOT NULL)",
        name="final_is_finished",
    ),
    CheckConstraint("(state = 'succeeded') = (result IS NOT NULL)", name="succeeded_has_result"),
    CheckConstraint("due_at IS NULL OR state = 'queued'", name="only_queued_is_due"),
    CheckConstraint("cancel_grace_seconds IS NULL OR state = 'running'", name="only_running_is_stopped"),
    sqlite_autoincrement=True,
)

_index_of_some(
    "ready_rank IS NOT NULL AND item_count IS NULL",
    "ix_job_ready",
    job.c.queue,  # first: a paused queue, however long, is not walked
    job.c.ready_rank,
    job.c.id,
    job.c.task,
)
_index_of_some(
    "ready_rank IS NOT NULL AND item_count IS NOT NULL",
    "ix_job_ready_map",
    job.c.ready_rank,
    job.c.id,
    job.c.task,
    job.c.queue,
)
_index_of_some("due_at IS NOT NULL", "ix_job_later", job.c.due_at)  # only queued jobs have it
_index_of_some(
    "dispatcher_id IS NOT NULL", "ix_job_running", job.c.dispatcher_id
)  # only running jobs have it
_index_of_some(
    "finished_at IS NOT NULL", "ix_job_expiry", job.c.state, job.c.finished_at
)  # only final jobs have it
# For lists: by state, by task, by both where that is asked most, by queue and by time.
Index("ix_job_state", job.c.state, job.c.id, job.c.task, job.c.queue)
Index("ix_job_task", job.c.task, job.c.id)
_index_of_some("state = 'failed'", "ix_job_failed", job.c.task, job.c.id, job.c.queue)
Index("ix_job_queue", job.c.queue, job.c.id)
Index("ix_job_created_at", job.c.created_at)

label = Table(
    "label",
    metadata,
    # The key's columns first: else SQLite 3.40's integrity_check takes one column for another.
    Column("job_id", _Id, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("key", String(100), nullable=False),
    Column("value", String(200), nullable=False),
    PrimaryKeyConstraint("job_id", "key"),
    sqlite_with_rowid=False,
)
Index("ix_label_key_value_job_id", label.c.key, label.c.value, label.c.job_id)

idempotency_key = Table(
    "idempotency_key",
    metadata,
    Column("owner", _Id, nullable=False),  # the token that it came with; 0: no token was needed
    Column("key", String(255), nullable=False),
    Column("digest", String(64), nullable=False),  # SHA-256 of what was asked with it
    Column("job_id", _Id, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),  # the first of `jobs`
    Column("jobs", Integer, nullable=False),  # how many, with ids that follow each other
    PrimaryKeyConstraint("owner", "key"),
    Index("ix_idempotency_key_job_id", "job_id"),
)

token = Table(
    "token",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("name", String(100), nullable=False),
    Column("scope", String(6), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),  # SHA-256 of the token, which is kept nowhere
    Column("created_at", Moment, nullable=False),
    Column("revoked_at", Moment),
    CheckConstraint("scope IN ('read', 'submit', 'admin')", name="scope"),
    sqlite_autoincrement=True,
)
_index_of_some("revoked_at IS NULL", "ix_token_name", token.c.name, unique=True)

# A final job that is being removed, piece by piece.  From here on nobody sees it, whatever is still there of it.
removal = Table(
    "removal",
    metadata,
    Column("job_id", _Id, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
)

event = Table(
    "event",
    metadata,
    Column("job_id", _Id, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    Column("data", Text, nullable=False),
    # A row with the values of several items, a JSON array, stands for as many events: `seq` is the last one's.
    Column("item", BigInteger),  # the first one's index
    Column("item_count", BigInteger),
    PrimaryKeyConstraint("job_id", "seq"),
    _one_of("kind", EventKind),
    sqlite_with_rowid=False,
)
_index_of_some("item IS NOT NULL", "ix_event_item", event.c.job_id, event.c.item, event.c.item_count)

# What a job has beside its row if it is a map job.
map_job = Table(
    "map_job",
    metadata,
    Column("job_id", _Id, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("spec", Text, nullable=False),  # which items; see `jobrunner.items`
    Column("reduce_task", String(200)),
    Column("reduce_params", Text),
    Column("max_failed", BigInteger),  # with more failed items than this it ends early
    Column("max_parallel", Integer),  # chunks at a time
    Column("chunk_size", BigInteger),  # items in a chunk; null: as many as take a while
    Column("done", BigInteger, nullable=False, server_default="0"),  # items whose value is kept
    Column("failed", BigInteger, nullable=False, server_default="0"),  # items that are not tried again
    Column("before", BigInteger, nullable=False, server_default="0"),  # of both, when this attempt began
    Column("since", BigInteger, nullable=False, server_default="0"),  # values up to this seq do not count
    CheckConstraint("(reduce_task IS NULL) = (reduce_params IS NULL)", name="reduce_is_whole"),
)

# Items that did not succeed at once.
item = Table(
    "item",
    metadata,
    Column("job_id", _Id, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("state", String(10), nullable=False),  # queued: it is tried again
    Column("retries_used", Integer, nullable=False, server_default="0"),
    Column("crash_retries_used", Integer, nullable=False, server_default="0"),
    Column("attempt", Integer, nullable=False),  # of the job, in which it failed last
    Column("at", Moment, nullable=False),  # when it did
    Column("error", Text, nullable=False),
    PrimaryKeyConstraint("job_id", "number"),
    CheckConstraint("state IN ('queued', 'failed')", name="state"),
    sqlite_with_rowid=False,
)

# Chunks of items that a worker has in hand, or what it said of them is on its way into the store.
chunk = Table(
    "chunk",
    metadata,
    Column("job_id", _Id, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("first", BigInteger, nullable=False),  # the index of its first item
    Column("item_count", BigInteger, nullable=False),
    PrimaryKeyConstraint("job_id", "first"),
    sqlite_with_rowid=False,
)

attempt = Table(
    "attempt",
    metadata,
    Column("job_id", _Id, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("dispatcher_id", _Id, ForeignKey("dispatcher.id"), nullable=False),
    Column("worker", Integer),  # the slot's index; known when the attempt has ended
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("outcome", String(16)),
    Column("error", Text),
    Column("peak_memory_bytes", BigInteger),
    Column("cpu_seconds", Float),
    PrimaryKeyConstraint("job_id", "number"),
    _one_of("outcome", Ending),
    CheckConstraint("(outcome IS NULL) = (finished_at IS NULL)", name="ended_is_finished"),
    sqlite_with_rowid=False,
)

dispatcher = Table(
    "dispatcher",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("host", String(255), nullable=False),
    Column("place", String(100), nullable=False),  # in which a pid means something
    Column("pid", Integer, nullable=False),
    Column("started_ticks", BigInteger, nullable=False),  # tells the process from a later one of the same pid
    Column("started_at", Moment, nullable=False),
    Column("heartbeat_at", Moment, nullable=False),
    Column("ended_at", Moment),  # stopped, or given up for dead
    Column("workers", Integer, nullable=False),
    Column("slots", Text, nullable=False),  # what each worker did at the last heartbeat
    Column("module_errors", Text, nullable=False),  # task modules that cannot be imported: why
    sqlite_autoincrement=True,
)
_index_of_some("ended_at IS NULL", "ix_dispatcher_alive", dispatcher.c.id)

task = Table(
    "task",
    metadata,
    Column("name", String(200), nullable=False),
    Column("dispatcher_id", _Id, ForeignKey("dispatcher.id"), nullable=False),
    Column("published_at", Moment, nullable=False),
    Column("description", Text, nullable=False),  # doc, JSON Schema of the parameters, options
    PrimaryKeyConstraint("name", "dispatcher_id"),
)

throughput = Table(
    "throughput",
    metadata,
    Column("at", Moment, nullable=False),
    Column("dispatcher_id", _Id, ForeignKey("dispatcher.id"), nullable=False),
    Column("seconds", Float, nullable=False),  # since the sample before
    Column("done", Integer, nullable=False),  # attempts that succeeded in this time
    Column("failed", Integer, nullable=False),  # attempts that ended otherwise
    Column("partials", BigInteger, nullable=False),
    Column("busy_seconds", Float, nullable=False),  # summed over the workers
    Column("queued", Integer),  # jobs that were queued at `at`, whoever would run them; null: not known
    PrimaryKeyConstraint("at", "dispatcher_id"),
    sqlite_with_rowid=False,
)

# How many jobs there are; kept by `store.tally`.
tally = Table(
    "tally",
    metadata,
    Column("queue", String(100), nullable=False),
    Column("state", String(10), nullable=False),
    Column("jobs", BigInteger, nullable=False),
    PrimaryKeyConstraint("queue", "state"),
    _one_of("state", State),
    sqlite_with_rowid=False,
)

paused_queue = Table(
    "paused_queue",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("since", Moment, nullable=False),
)

"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dispatcher",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("place", sa.String(length=100), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_ticks", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("workers", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Text(), nullable=False),
        sa.Column("module_errors", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispatcher")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "tally",
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_tally_state")
        ),
        sa.PrimaryKeyConstraint("state", name=op.f("pk_tally")),
    )
    op.create_table(
        "job",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("task", sa.String(length=200), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("queue", sa.String(length=100), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("timeout_seconds", sa.Float(), nullable=True),
        sa.Column("memory_limit_bytes", sa.BigInteger(), nullable=True),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("crash_retries", sa.Integer(), nullable=False),
        sa.Column("retries_used", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crash_retries_used", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("run_at", sa.BigInteger(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "ready_rank",
            sa.Integer(),
            sa.Computed("CASE WHEN state = 'queued' AND due_at IS NULL THEN -priority END"),
            nullable=True,
        ),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("dispatcher_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("cancel_grace_seconds", sa.Float(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("partials", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(state = 'running') = (dispatcher_id IS NOT NULL)", name=op.f("ck_job_running_is_held")
        ),
        sa.CheckConstraint(
            "(state = 'succeeded') = (result IS NOT NULL)", name=op.f("ck_job_succeeded_has_result")
        ),
        sa.CheckConstraint(
            "(state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_job_final_is_finished"),
        ),
        sa.CheckConstraint(
            "cancel_grace_seconds IS NULL OR state = 'running'", name=op.f("ck_job_only_running_is_stopped")
        ),
        sa.CheckConstraint("due_at IS NULL OR state = 'queued'", name=op.f("ck_job_only_queued_is_due")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_job_state")
        ),
        sa.ForeignKeyConstraint(["dispatcher_id"], ["dispatcher.id"], name=op.f("fk_job_dispatcher_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.create_index("ix_job_created_at", ["created_at"], unique=False)
        batch_op.create_index(
            "ix_job_later",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )
        batch_op.create_index("ix_job_queue", ["queue", "id"], unique=False)
        batch_op.create_index(
            "ix_job_ready",
            ["ready_rank", "id", "task"],
            unique=False,
            sqlite_where=sa.text("ready_rank IS NOT NULL"),
            postgresql_where=sa.text("ready_rank IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_job_running",
            ["dispatcher_id"],
            unique=False,
            sqlite_where=sa.text("dispatcher_id IS NOT NULL"),
            postgresql_where=sa.text("dispatcher_id IS NOT NULL"),
        )
        batch_op.create_index("ix_job_state", ["state", "id"], unique=False)
        batch_op.create_index("ix_job_task", ["task", "id"], unique=False)

    op.create_table(
        "task",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("dispatcher_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["dispatcher_id"], ["dispatcher.id"], name=op.f("fk_task_dispatcher_id")),
        sa.PrimaryKeyConstraint("name", "dispatcher_id", name=op.f("pk_task")),
    )
    op.create_table(
        "throughput",
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("dispatcher_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("partials", sa.BigInteger(), nullable=False),
        sa.Column("busy_seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dispatcher_id"], ["dispatcher.id"], name=op.f("fk_throughput_dispatcher_id")
        ),
        sa.PrimaryKeyConstraint("at", "dispatcher_id", name=op.f("pk_throughput")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempt",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("dispatcher_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("worker", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("cpu_seconds", sa.Float(), nullable=True),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'exception', 'timeout', 'memory_limit', 'crashed', 'lost', "
            "'unserializable', 'cancelled', 'released')",
            name=op.f("ck_attempt_outcome"),
        ),
        sa.CheckConstraint(
            "(outcome IS NULL) = (finished_at IS NULL)", name=op.f("ck_attempt_ended_is_finished")
        ),
        sa.ForeignKeyConstraint(["dispatcher_id"], ["dispatcher.id"], name=op.f("fk_attempt_dispatcher_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_attempt_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_attempt")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('state', 'partial', 'progress', 'log')", name=op.f("ck_event_kind")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_event_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "seq", name=op.f("pk_event")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "label",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_label_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "key", name=op.f("pk_label")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("label", schema=None) as batch_op:
        batch_op.create_index("ix_label_key_value_job_id", ["key", "value", "job_id"], unique=False)
    op.bulk_insert(
        sa.table("tally", sa.column("state", sa.String), sa.column("jobs", sa.BigInteger)),
        [{"state": s, "jobs": 0} for s in ("queued", "running", "succeeded", "failed", "cancelled")],
    )
    for statement in (
        """CREATE TRIGGER tally_insert AFTER INSERT ON job BEGIN
             UPDATE tally SET jobs = jobs + 1 WHERE state = NEW.state; END""",
        """CREATE TRIGGER tally_update AFTER UPDATE OF state ON job WHEN OLD.state <> NEW.state BEGIN
             UPDATE tally SET jobs = jobs - 1 WHERE state = OLD.state;
             UPDATE tally SET jobs = jobs + 1 WHERE state = NEW.state; END""",
        """CREATE TRIGGER tally_delete AFTER DELETE ON job BEGIN
             UPDATE tally SET jobs = jobs - 1 WHERE state = OLD.state; END""",
    ):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("there is no schema before the first: restore a backup instead")

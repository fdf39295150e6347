"""Map jobs: many items in one job."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("job", sa.Column("item_count", sa.BigInteger(), nullable=True))
    op.drop_index("ix_job_ready", "job")
    for name, condition, columns in (
        ("ix_job_ready", "IS NULL", ["queue", "ready_rank", "id", "task"]),
        ("ix_job_ready_map", "IS NOT NULL", ["ready_rank", "id", "task", "queue"]),
    ):
        ready = sa.text(f"ready_rank IS NOT NULL AND item_count {condition}")
        op.create_index(name, "job", columns, sqlite_where=ready, postgresql_where=ready)
    op.drop_index("ix_job_state", "job")
    op.create_index("ix_job_state", "job", ["state", "id", "task", "queue"])
    op.add_column("event", sa.Column("item", sa.BigInteger(), nullable=True))
    op.add_column("event", sa.Column("item_count", sa.BigInteger(), nullable=True))
    of_items = sa.text("item IS NOT NULL")
    op.create_index(
        "ix_event_item",
        "event",
        ["job_id", "item", "item_count"],
        sqlite_where=of_items,
        postgresql_where=of_items,
    )
    op.create_table(
        "map_job",
        sa.Column("job_id", _ID, autoincrement=False, nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("reduce_task", sa.String(length=200), nullable=True),
        sa.Column("reduce_params", sa.Text(), nullable=True),
        sa.Column("max_failed", sa.BigInteger(), nullable=True),
        sa.Column("max_parallel", sa.Integer(), nullable=True),
        sa.Column("chunk_size", sa.BigInteger(), nullable=True),
        sa.Column("done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("before", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("since", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "(reduce_task IS NULL) = (reduce_params IS NULL)", name=op.f("ck_map_job_reduce_is_whole")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_map_job_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_map_job")),
    )
    op.create_table(
        "item",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("retries_used", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crash_retries_used", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.CheckConstraint("state IN ('queued', 'failed')", name=op.f("ck_item_state")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_item_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_item")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "chunk",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("item_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_chunk_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "first", name=op.f("pk_chunk")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    raise RuntimeError("the values of map jobs cannot be taken back: restore a backup instead")

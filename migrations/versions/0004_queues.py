"""Queues that pause; jobs counted by queue."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATES = "'queued', 'running', 'succeeded', 'failed', 'cancelled'"
_ONE_MORE = """INSERT INTO tally (queue, state, jobs) VALUES (NEW.queue, NEW.state, 1)
                 ON CONFLICT (queue, state) DO UPDATE SET jobs = jobs + 1"""
_ONE_LESS = "UPDATE tally SET jobs = jobs - 1 WHERE queue = OLD.queue AND state = OLD.state"


def upgrade() -> None:
    op.create_table(
        "paused_queue",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_paused_queue")),
    )
    for trigger in ("tally_insert", "tally_update", "tally_delete"):
        op.execute(f"DROP TRIGGER {trigger}")
    op.drop_table("tally")
    op.create_table(
        "tally",
        sa.Column("queue", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(f"state IN ({_STATES})", name=op.f("ck_tally_state")),
        sa.PrimaryKeyConstraint("queue", "state", name=op.f("pk_tally")),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO tally SELECT queue, state, count(*) FROM job GROUP BY queue, state")
    op.execute(
        f"""CREATE TRIGGER tally_update AFTER UPDATE OF state ON job WHEN OLD.state <> NEW.state
              BEGIN {_ONE_LESS}; {_ONE_MORE}; END"""
    )
    op.execute(f"CREATE TRIGGER tally_delete AFTER DELETE ON job BEGIN {_ONE_LESS}; END")
    op.drop_index("ix_job_ready", "job")
    ready = sa.text("ready_rank IS NOT NULL")
    op.create_index(
        "ix_job_ready",
        "job",
        ["ready_rank", "id", "task", "queue"],
        sqlite_where=ready,
        postgresql_where=ready,
    )


def downgrade() -> None:
    raise RuntimeError("the counts by queue cannot be taken back: restore a backup instead")

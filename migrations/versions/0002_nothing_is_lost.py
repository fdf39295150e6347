"""Idempotency keys; jobs that are being removed; indexes for what expires and for the dispatchers that live."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "idempotency_key",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_idempotency_key_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_key")),
    )
    op.create_index("ix_idempotency_key_job_id", "idempotency_key", ["job_id"])
    op.create_table(
        "removal",
        sa.Column(
            "job_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_removal_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_removal")),
    )
    final = sa.text("finished_at IS NOT NULL")
    op.create_index(
        "ix_job_expiry", "job", ["state", "finished_at"], sqlite_where=final, postgresql_where=final
    )
    alive = sa.text("ended_at IS NULL")
    op.create_index("ix_dispatcher_alive", "dispatcher", ["id"], sqlite_where=alive, postgresql_where=alive)


def downgrade() -> None:
    op.drop_index("ix_dispatcher_alive", "dispatcher")
    op.drop_index("ix_job_expiry", "job")
    op.execute("DELETE FROM job WHERE id IN (SELECT job_id FROM removal)")  # of which only a part is there
    op.drop_table("removal")
    op.drop_table("idempotency_key")

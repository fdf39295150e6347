"""Tokens; an idempotency key belongs to one."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BEFORE = "idempotency_key_before"
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "token",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("scope", sa.String(length=6), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger()),
        sa.CheckConstraint("scope IN ('read', 'submit', 'admin')", name=op.f("ck_token_scope")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("digest", name=op.f("uq_token_digest")),
        sqlite_autoincrement=True,
    )
    in_force = sa.text("revoked_at IS NULL")
    op.create_index(
        "ix_token_name", "token", ["name"], unique=True, sqlite_where=in_force, postgresql_where=in_force
    )
    # SQLite cannot change a primary key: what is there moves into a table of its own.
    op.drop_index("ix_idempotency_key_job_id", "idempotency_key")
    op.rename_table("idempotency_key", _BEFORE)
    op.create_table(
        "idempotency_key",
        sa.Column("owner", _ID, nullable=False),
        *_columns(),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotency_key")),
    )
    _move("owner, key", "0, key")


def downgrade() -> None:
    op.execute("DELETE FROM idempotency_key WHERE owner <> 0")
    op.drop_index("ix_idempotency_key_job_id", "idempotency_key")
    op.rename_table("idempotency_key", _BEFORE)
    op.create_table(
        "idempotency_key", *_columns(), sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_key"))
    )
    _move("key", "key")
    op.drop_index("ix_token_name", "token")
    op.drop_table("token")


def _columns() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_idempotency_key_job_id"), ondelete="CASCADE"
        ),
    ]


def _move(into: str, out_of: str) -> None:
    rest = "digest, job_id, jobs"
    op.execute(f"INSERT INTO idempotency_key ({into}, {rest}) SELECT {out_of}, {rest} FROM {_BEFORE}")  # noqa: S608
    op.drop_table(_BEFORE)
    op.create_index("ix_idempotency_key_job_id", "idempotency_key", ["job_id"])

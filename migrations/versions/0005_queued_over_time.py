"""How many jobs were queued, in each sample."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("throughput", sa.Column("queued", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("throughput", "queued")

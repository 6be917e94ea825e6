"""What places answered when machines were asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "outcomes",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("cloud", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=256), nullable=False),
        sa.Column("zone", sa.String(length=256), nullable=True),
        sa.Column("instance_type", sa.String(length=256), nullable=False),
        sa.Column("market", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("nodes", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("outcomes_at", "outcomes", ["at"], unique=False)


def downgrade() -> None:
    """Take it away."""
    op.drop_index("outcomes_at", table_name="outcomes")
    op.drop_table("outcomes")

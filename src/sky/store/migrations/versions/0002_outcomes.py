"""What places answered when machines were asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: As in `store.schema` at the time.
_counted = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _words(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length=length).with_variant(sa.String(), "postgresql")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "outcomes",
        sa.Column("seq", _counted, autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("cloud", _words(64), nullable=False),
        sa.Column("region", _words(256), nullable=False),
        sa.Column("zone", _words(256), nullable=True),
        sa.Column("instance_type", _words(256), nullable=False),
        sa.Column("market", _words(16), nullable=False),
        sa.Column("kind", _words(16), nullable=False),
        sa.Column("nodes", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("outcomes_at", "outcomes", ["at"], unique=False)


def downgrade() -> None:
    """Take it away."""
    op.drop_index("outcomes_at", table_name="outcomes")
    op.drop_table("outcomes")

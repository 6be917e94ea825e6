"""What is billed, line by line."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

#: As in `store.schema` at the time.
_counted = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _words(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length=length).with_variant(sa.String(), "postgresql")


def upgrade() -> None:
    """Add the table. Clusters that are on record by now are entered with their next commit."""
    op.create_table(
        "ledger",
        sa.Column("number", _counted, autoincrement=True, nullable=False),
        sa.Column("kind", _words(16), nullable=False),
        sa.Column("resource", _words(256), nullable=False),
        sa.Column("mark", _words(64), nullable=False),
        sa.Column("cluster_id", _words(40), nullable=False),
        sa.Column("cluster_name", _words(256), nullable=False),
        sa.Column("owner", _words(256), nullable=False),
        sa.Column("workspace", _words(256), nullable=False),
        sa.Column("cloud", _words(64), nullable=False),
        sa.Column("region", _words(256), nullable=False),
        sa.Column("zone", _words(256), nullable=True),
        sa.Column("instance_type", _words(256), nullable=False),
        sa.Column("market", _words(16), nullable=False),
        sa.Column("price_hourly", sa.Float(), nullable=False),
        sa.Column("began", sa.Float(), nullable=False),
        sa.Column("ended", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("ledger_cluster", "ledger", ["cluster_id"], unique=False)
    op.create_index("ledger_ended", "ledger", ["ended"], unique=False)


def downgrade() -> None:
    """Take it away; `intervals` of clusters went on beside it."""
    op.drop_index("ledger_ended", table_name="ledger")
    op.drop_index("ledger_cluster", table_name="ledger")
    op.drop_table("ledger")

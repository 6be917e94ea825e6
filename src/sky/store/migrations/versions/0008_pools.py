"""Pools and their workers; the pool that a managed job takes its workers from."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _words(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length=length).with_variant(sa.String(), "postgresql")


def upgrade() -> None:
    """Add the tables. Jobs from before have clusters of their own."""
    op.add_column("managed_jobs", sa.Column("pool_id", _words(40), nullable=True))
    op.create_index("managed_jobs_pool", "managed_jobs", ["pool_id", "stage"], unique=False)
    op.create_table(
        "pools",
        sa.Column("id", _words(40), nullable=False),
        sa.Column("name", _words(64), nullable=False),
        sa.Column("stage", _words(32), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("token", _words(40), nullable=True),
        sa.Column("lease_until", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    living = sa.text("ended_at IS NULL")
    op.create_index("pools_name", "pools", ["name"], unique=True, sqlite_where=living, postgresql_where=living)
    op.create_index("pools_due", "pools", ["due_at"], unique=False)
    op.create_table(
        "pool_workers",
        sa.Column("id", _words(40), nullable=False),
        sa.Column("pool_id", _words(40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", _words(32), nullable=False),
        sa.Column("claim", _words(64), nullable=True),
        sa.Column("condemned", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("claim"),
    )
    op.create_index("pool_workers_pool", "pool_workers", ["pool_id"], unique=False)


def downgrade() -> None:
    """Take them away."""
    op.drop_index("pool_workers_pool", table_name="pool_workers")
    op.drop_table("pool_workers")
    op.drop_index("pools_due", table_name="pools")
    op.drop_index("pools_name", table_name="pools")
    op.drop_table("pools")
    op.drop_index("managed_jobs_pool", table_name="managed_jobs")
    op.drop_column("managed_jobs", "pool_id")

"""Budgets and promises against them, schedules, notifications to be delivered; whose a line of the ledger is."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _words(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length=length).with_variant(sa.String(), "postgresql")


def _ordered(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length=length).with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables. Lines from before count for their user and workspace, for no label and for no job."""
    op.add_column("ledger", sa.Column("labels", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("ledger", sa.Column("origin", _words(64), server_default=sa.text("''"), nullable=False))
    op.create_index("ledger_origin", "ledger", ["origin"], unique=False)
    op.add_column("managed_jobs", sa.Column("max_cost", sa.Float(), nullable=True))
    limited = sa.text("max_cost IS NOT NULL AND ended_at IS NULL")
    op.create_index("managed_jobs_limited", "managed_jobs", ["id"], sqlite_where=limited, postgresql_where=limited)
    op.create_table(
        "budgets",
        sa.Column("name", _ordered(64), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "reservations",
        sa.Column("id", _words(64), nullable=False),
        sa.Column("request_id", _words(64), nullable=False),
        sa.Column("owner", _words(256), nullable=False),
        sa.Column("workspace", _words(256), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("amount", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("reservations_request", "reservations", ["request_id"], unique=False)
    op.create_table(
        "schedules",
        sa.Column("id", _words(40), nullable=False),
        sa.Column("name", _words(128), nullable=False),
        sa.Column("user_name", _words(128), nullable=False),
        sa.Column("workspace", _words(64), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user_name", "workspace", "name"),
    )
    op.create_index("schedules_due", "schedules", ["next_at"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", _words(128), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("outbox_due", "outbox", ["next_at"], unique=False)


def downgrade() -> None:
    """Take them away."""
    for index, table in (
        ("outbox_due", "outbox"),
        ("schedules_due", "schedules"),
        ("reservations_request", "reservations"),
    ):
        op.drop_index(index, table_name=table)
    for table in ("outbox", "schedules", "reservations", "budgets"):
        op.drop_table(table)
    op.drop_index("managed_jobs_limited", table_name="managed_jobs")
    op.drop_column("managed_jobs", "max_cost")
    op.drop_index("ledger_origin", table_name="ledger")
    op.drop_column("ledger", "origin")
    op.drop_column("ledger", "labels")

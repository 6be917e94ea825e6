"""Members of managed jobs that belong together, and which managed jobs wait for which."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _words(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length=length).with_variant(sa.String(), "postgresql")


def upgrade() -> None:
    """Add a column that jobs from before leave empty, and the table."""
    op.add_column("managed_jobs", sa.Column("parent_id", _words(40), nullable=True))
    op.create_index("managed_jobs_parent", "managed_jobs", ["parent_id"], unique=False)
    op.create_table(
        "managed_waits",
        sa.Column("waiter_id", _words(40), nullable=False),
        sa.Column("for_id", _words(40), nullable=False),
        sa.PrimaryKeyConstraint("waiter_id", "for_id"),
    )
    op.create_index("managed_waits_for", "managed_waits", ["for_id"], unique=False)


def downgrade() -> None:
    """Take them away. Members stay, as jobs that nobody lists."""
    op.drop_index("managed_waits_for", table_name="managed_waits")
    op.drop_table("managed_waits")
    op.drop_index("managed_jobs_parent", table_name="managed_jobs")
    op.drop_column("managed_jobs", "parent_id")

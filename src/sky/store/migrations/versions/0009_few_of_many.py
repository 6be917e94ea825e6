"""Indexes of the jobs that have not ended, which are few among all, and of the clusters that have."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the indexes."""
    still = sa.text("phase != 'DONE'")
    op.create_index("jobs_open", "jobs", ["cluster_id"], sqlite_where=still, postgresql_where=still)
    ended = sa.text("ended_at IS NOT NULL")
    op.create_index("clusters_ended", "clusters", ["ended_at"], sqlite_where=ended, postgresql_where=ended)


def downgrade() -> None:
    """Take them away."""
    op.drop_index("clusters_ended", table_name="clusters")
    op.drop_index("jobs_open", table_name="jobs")

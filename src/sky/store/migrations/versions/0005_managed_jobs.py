"""Managed jobs, and whose a cluster is that one of them has."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _words(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length=length).with_variant(sa.String(), "postgresql")


def upgrade() -> None:
    """Add the table, and a column to clusters that those from before leave empty."""
    op.create_table(
        "managed_jobs",
        sa.Column("id", _words(40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key", _words(128), nullable=False),
        sa.Column("request_id", _words(64), nullable=False),
        sa.Column("name", _words(256), nullable=False),
        sa.Column("user_name", _words(128), nullable=False),
        sa.Column("workspace", _words(64), nullable=False),
        sa.Column("status", _words(32), nullable=False),
        sa.Column("stage", _words(32), nullable=False),
        sa.Column("turn", sa.Float(), nullable=False),
        sa.Column("cluster_id", _words(40), nullable=True),
        sa.Column("job_key", _words(64), nullable=True),
        sa.Column("seen_phase", _words(32), nullable=False),
        sa.Column("seen_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("token", _words(40), nullable=True),
        sa.Column("lease_until", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("number"),
        sa.UniqueConstraint("key"),
    )
    op.create_index("managed_jobs_due", "managed_jobs", ["due_at"], unique=False)
    op.create_index("managed_jobs_turn", "managed_jobs", ["stage", "turn"], unique=False)
    op.create_index("managed_jobs_request", "managed_jobs", ["request_id"], unique=False)
    op.add_column("clusters", sa.Column("owner", _words(64), nullable=True))
    op.create_index("clusters_owner", "clusters", ["owner"], unique=False)


def downgrade() -> None:
    """Take it away. Clusters of managed jobs stay, as anybody's."""
    op.drop_index("clusters_owner", table_name="clusters")
    op.drop_column("clusters", "owner")
    op.drop_index("managed_jobs_request", table_name="managed_jobs")
    op.drop_index("managed_jobs_turn", table_name="managed_jobs")
    op.drop_index("managed_jobs_due", table_name="managed_jobs")
    op.drop_table("managed_jobs")

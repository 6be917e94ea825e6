"""Which managed jobs tell anybody of their changes; indexes of pools and parents have those alone that are in one."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_SOME = {"managed_jobs_pool": ["pool_id", "stage"], "managed_jobs_parent": ["parent_id"]}


def upgrade() -> None:
    """Of jobs that are on record it stays unknown; they are read to see."""
    op.add_column("managed_jobs", sa.Column("notifies", sa.Boolean(), nullable=True))
    for name, columns in _SOME.items():
        some = sa.text(f"{columns[0]} IS NOT NULL")
        op.drop_index(name, table_name="managed_jobs")
        op.create_index(name, "managed_jobs", columns, sqlite_where=some, postgresql_where=some)


def downgrade() -> None:
    """As it was."""
    for name, columns in _SOME.items():
        op.drop_index(name, table_name="managed_jobs")
        op.create_index(name, "managed_jobs", columns)
    op.drop_column("managed_jobs", "notifies")

"""Users, their tokens, workspaces, and the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

#: As in `store.schema` at the time.
_counted = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _words(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length=length).with_variant(sa.String(), "postgresql")


def _ordered(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length=length).with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "users",
        sa.Column("name", _ordered(128), nullable=False),
        sa.Column("role", _words(16), nullable=False),
        sa.Column("kind", _words(16), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("made_by", _words(128), nullable=False),
        sa.Column("preferred", _words(64), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", _words(40), nullable=False),
        sa.Column("kind", _words(16), nullable=False),
        sa.Column("user_name", _words(128), nullable=False),
        sa.Column("name", _words(128), nullable=False),
        sa.Column("hash", _words(64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("made_by", _words(128), nullable=False),
        sa.Column("role", _words(16), nullable=True),
        sa.Column("workspaces", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("lifetime_s", sa.Float(), nullable=True),
        sa.Column("renew_until", sa.Float(), nullable=True),
        sa.Column("used_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tokens_user", "tokens", ["user_name"], unique=False)
    op.create_table(
        "workspaces",
        sa.Column("name", _ordered(64), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "audit",
        sa.Column("seq", _counted, autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("call", _words(40), nullable=False),
        sa.Column("user_name", _words(128), nullable=False),
        sa.Column("via", _words(16), nullable=False),
        sa.Column("address", _words(64), nullable=False),
        sa.Column("operation", _words(128), nullable=False),
        sa.Column("target", _words(512), nullable=False),
        sa.Column("workspace", _words(64), nullable=False),
        sa.Column("request_id", _words(128), nullable=False),
        sa.Column("outcome", _words(128), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("token", _words(40), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("audit_user", "audit", ["user_name"], unique=False)
    op.create_index("audit_at", "audit", ["at"], unique=False)


def downgrade() -> None:
    """Take them away."""
    for name in ("audit", "workspaces", "tokens", "users"):
        op.drop_table(name)

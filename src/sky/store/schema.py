"""The tables. Columns hold what is searched by; the rest of each noun is a JSON document in `doc`.

`due_at` alone says whether a row wants attention: letters and standing orders set it to the time they came.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.types import TypeEngine

#: Alembic's name for the newest migration; a fresh database is created as of it. Kept equal by a test.
REVISION = "0010"
#: The lock of a shared database under which the schema is made or changed: any number that no other program takes.
SCHEMA_LOCK = 0x5C4EA7

METADATA = MetaData()

#: Counted up by the database; SQLite counts to the same bound in what it calls an integer.
_COUNTED = BigInteger().with_variant(Integer(), "sqlite")


def _words(length: int) -> TypeEngine[str]:
    """Text with a usual length. PostgreSQL would enforce it, SQLite does not: so neither does."""
    return String(length).with_variant(String(), "postgresql")


def _ordered(length: int) -> TypeEngine[str]:
    """The same, compared by its code points on either database, so that an index finds what begins alike."""
    return String(length).with_variant(String(collation="C"), "postgresql")


def _lease() -> list[Column[object]]:
    return [
        Column("version", Integer, nullable=False),
        Column("due_at", Float),
        Column("token", _words(40)),
        Column("lease_until", Float, nullable=False, server_default=text("0")),
        Column("doc", Text, nullable=False),
    ]


CLUSTERS = Table(
    "clusters",
    METADATA,
    Column("id", _words(40), primary_key=True),
    Column("name", _words(256), nullable=False),
    Column("phase", _words(32), nullable=False),
    Column("living", Boolean, nullable=False),
    Column("request_id", _words(64)),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    *_lease(),
    Column("owner", _words(64)),
)
_LIVING = text("living")
#: In the words of the index of living names: SQLite would read every row there ever was for `living = 1`.
ALIVE = text("clusters.living")
Index("clusters_living_name", CLUSTERS.c.name, unique=True, sqlite_where=_LIVING, postgresql_where=_LIVING)
Index("clusters_due", CLUSTERS.c.due_at)
Index("clusters_request", CLUSTERS.c.request_id)
Index("clusters_owner", CLUSTERS.c.owner)
_ENDED = text("ended_at IS NOT NULL")
Index("clusters_ended", CLUSTERS.c.ended_at, sqlite_where=_ENDED, postgresql_where=_ENDED)

JOBS = Table(
    "jobs",
    METADATA,
    Column("id", _words(40), primary_key=True),
    Column("cluster_id", _words(40), nullable=False),
    Column("job_id", Integer),
    Column("request_id", _words(64), unique=True, nullable=False),
    Column("phase", _words(32), nullable=False),
    Column("created_at", Float, nullable=False),
    *_lease(),
)
Index("jobs_number", JOBS.c.cluster_id, JOBS.c.job_id)
Index("jobs_due", JOBS.c.due_at)
#: Which jobs have not ended, as the condition of an index that has those alone.
OPEN_JOBS = "phase != 'DONE'"
Index("jobs_open", JOBS.c.cluster_id, sqlite_where=text(OPEN_JOBS), postgresql_where=text(OPEN_JOBS))

MANAGED_JOBS = Table(
    "managed_jobs",
    METADATA,
    Column("id", _words(40), primary_key=True),
    Column("number", Integer, unique=True, nullable=False),
    Column("key", _words(128), unique=True, nullable=False),
    Column("request_id", _words(64), nullable=False),
    Column("name", _words(256), nullable=False),
    Column("user_name", _words(128), nullable=False),
    Column("workspace", _words(64), nullable=False),
    Column("status", _words(32), nullable=False),
    Column("stage", _words(32), nullable=False),
    Column("turn", Float, nullable=False),
    Column("cluster_id", _words(40)),
    Column("job_key", _words(64)),
    Column("seen_phase", _words(32), nullable=False),
    Column("seen_version", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    *_lease(),
    Column("max_cost", Float),
    Column("parent_id", _words(40)),
    Column("pool_id", _words(40)),
    Column("notifies", Boolean),
)
_MEMBER, _POOLED = text("parent_id IS NOT NULL"), text("pool_id IS NOT NULL")
Index("managed_jobs_parent", MANAGED_JOBS.c.parent_id, sqlite_where=_MEMBER, postgresql_where=_MEMBER)
Index(
    "managed_jobs_limited",
    MANAGED_JOBS.c.id,
    sqlite_where=text("max_cost IS NOT NULL AND ended_at IS NULL"),
    postgresql_where=text("max_cost IS NOT NULL AND ended_at IS NULL"),
)
Index("managed_jobs_due", MANAGED_JOBS.c.due_at)
Index("managed_jobs_turn", MANAGED_JOBS.c.stage, MANAGED_JOBS.c.turn)
Index("managed_jobs_request", MANAGED_JOBS.c.request_id)
Index(
    "managed_jobs_pool",
    MANAGED_JOBS.c.pool_id,
    MANAGED_JOBS.c.stage,
    sqlite_where=_POOLED,
    postgresql_where=_POOLED,
)

POOLS = Table(
    "pools",
    METADATA,
    Column("id", _words(40), primary_key=True),
    Column("name", _words(64), nullable=False),
    Column("stage", _words(32), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    *_lease(),
)
_NOT_ENDED = text("ended_at IS NULL")
Index("pools_name", POOLS.c.name, unique=True, sqlite_where=_NOT_ENDED, postgresql_where=_NOT_ENDED)
Index("pools_due", POOLS.c.due_at)

#: Workers of pools as their pools committed them last, and the keys of the jobs that have them.
WORKERS = Table(
    "pool_workers",
    METADATA,
    Column("id", _words(40), primary_key=True),
    Column("pool_id", _words(40), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", _words(32), nullable=False),
    Column("claim", _words(64), unique=True),
    Column("condemned", Boolean, nullable=False, server_default=false()),
)
Index("pool_workers_pool", WORKERS.c.pool_id)

MANAGED_WAITS = Table(
    "managed_waits",
    METADATA,
    Column("waiter_id", _words(40), primary_key=True),
    Column("for_id", _words(40), primary_key=True),
)
Index("managed_waits_for", MANAGED_WAITS.c.for_id)

REQUESTS = Table(
    "requests",
    METADATA,
    Column("id", _ordered(64), primary_key=True),
    Column("name", _words(64), nullable=False),
    Column("cluster_name", _words(256)),
    Column("status", _words(32), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    *_lease(),
)
Index("requests_created", REQUESTS.c.created_at)
Index("requests_due", REQUESTS.c.due_at)

LETTERS = Table(
    "letters",
    METADATA,
    Column("id", _COUNTED, primary_key=True, autoincrement=True),
    Column("entity", _words(16), nullable=False),
    Column("entity_id", _words(64), nullable=False),
    Column("posted_at", Float, nullable=False),
    Column("doc", Text, nullable=False),
)
Index("letters_entity", LETTERS.c.entity, LETTERS.c.entity_id)

ORDERS = Table(
    "orders",
    METADATA,
    Column("key", _words(128), primary_key=True),
    Column("entity", _words(16), nullable=False),
    Column("entity_id", _words(64), nullable=False),
    Column("position", Integer, nullable=False),
    Column("doc", Text, nullable=False),
)
Index("orders_entity", ORDERS.c.entity, ORDERS.c.entity_id)

STORIES = Table(
    "stories",
    METADATA,
    Column("seq", _COUNTED, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("entity", _words(16), nullable=False),
    Column("entity_id", _words(64), nullable=False),
    Column("name", _words(256), nullable=False),
    Column("kind", _words(64), nullable=False),
    Column("before", _words(32), nullable=False),
    Column("after", _words(32), nullable=False),
    Column("text", Text, nullable=False),
)
Index("stories_entity", STORIES.c.entity, STORIES.c.entity_id)
Index("stories_name", STORIES.c.entity, STORIES.c.name)

OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("seq", _COUNTED, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("cloud", _words(64), nullable=False),
    Column("region", _words(256), nullable=False),
    Column("zone", _words(256)),
    Column("instance_type", _words(256), nullable=False),
    Column("market", _words(16), nullable=False),
    Column("kind", _words(16), nullable=False),
    Column("nodes", Integer, nullable=False),
    Column("reason", Text, nullable=False),
)
Index("outcomes_at", OUTCOMES.c.at)

USERS = Table(
    "users",
    METADATA,
    Column("name", _ordered(128), primary_key=True),
    Column("role", _words(16), nullable=False),
    Column("kind", _words(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("made_by", _words(128), nullable=False),
    Column("preferred", _words(64)),
    Column("disabled", Boolean, nullable=False),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("id", _words(40), primary_key=True),
    Column("kind", _words(16), nullable=False),
    Column("user_name", _words(128), nullable=False),
    Column("name", _words(128), nullable=False),
    Column("hash", _words(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("made_by", _words(128), nullable=False),
    Column("role", _words(16)),
    Column("workspaces", Text),
    Column("expires_at", Float),
    Column("lifetime_s", Float),
    Column("renew_until", Float),
    Column("used_at", Float),
    Column("revoked_at", Float),
)
Index("tokens_user", TOKENS.c.user_name)

WORKSPACES = Table(
    "workspaces",
    METADATA,
    Column("name", _ordered(64), primary_key=True),
    Column("doc", Text, nullable=False),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("seq", _COUNTED, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("call", _words(40), nullable=False),
    Column("user_name", _words(128), nullable=False),
    Column("via", _words(16), nullable=False),
    Column("address", _words(64), nullable=False),
    Column("operation", _words(128), nullable=False),
    Column("target", _words(512), nullable=False),
    Column("workspace", _words(64), nullable=False),
    Column("request_id", _words(128), nullable=False),
    Column("outcome", _words(128), nullable=False),
    Column("detail", Text, nullable=False),
    Column("token", _words(40), nullable=False),
)
Index("audit_user", AUDIT.c.user_name)
Index("audit_at", AUDIT.c.at)

LEDGER = Table(
    "ledger",
    METADATA,
    Column("number", _COUNTED, primary_key=True, autoincrement=True),
    Column("kind", _words(16), nullable=False),
    Column("resource", _words(256), nullable=False),
    Column("mark", _words(64), nullable=False),
    Column("cluster_id", _words(40), nullable=False),
    Column("cluster_name", _words(256), nullable=False),
    Column("owner", _words(256), nullable=False),
    Column("workspace", _words(256), nullable=False),
    Column("cloud", _words(64), nullable=False),
    Column("region", _words(256), nullable=False),
    Column("zone", _words(256)),
    Column("instance_type", _words(256), nullable=False),
    Column("market", _words(16), nullable=False),
    Column("price_hourly", Float, nullable=False),
    Column("began", Float, nullable=False),
    Column("ended", Float),
    Column("reason", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("labels", Text, nullable=False, server_default=text("''")),
    Column("origin", _words(64), nullable=False, server_default=text("''")),
)
Index("ledger_origin", LEDGER.c.origin)
Index("ledger_cluster", LEDGER.c.cluster_id)
Index("ledger_ended", LEDGER.c.ended)

BUDGETS = Table(
    "budgets",
    METADATA,
    Column("name", _ordered(64), primary_key=True),
    Column("doc", Text, nullable=False),
)

#: What has been promised to somebody and is not spent yet; `id` is the origin of lines of the ledger.
RESERVATIONS = Table(
    "reservations",
    METADATA,
    Column("id", _words(64), primary_key=True),
    Column("request_id", _words(64), nullable=False),
    Column("owner", _words(256), nullable=False),
    Column("workspace", _words(256), nullable=False),
    Column("labels", Text, nullable=False),
    Column("amount", Float, nullable=False),
    Column("created_at", Float, nullable=False),
)
Index("reservations_request", RESERVATIONS.c.request_id)

SCHEDULES = Table(
    "schedules",
    METADATA,
    Column("id", _words(40), primary_key=True),
    Column("name", _words(128), nullable=False),
    Column("user_name", _words(128), nullable=False),
    Column("workspace", _words(64), nullable=False),
    Column("next_at", Float),
    Column("version", Integer, nullable=False),
    Column("doc", Text, nullable=False),
    UniqueConstraint("user_name", "workspace", "name"),
)
Index("schedules_due", SCHEDULES.c.next_at)

#: Notifications to be delivered, and for a while those that were.
OUTBOX = Table(
    "outbox",
    METADATA,
    Column("id", _words(128), primary_key=True),
    Column("at", Float, nullable=False),
    Column("next_at", Float),
    Column("tries", Integer, nullable=False),
    Column("doc", Text, nullable=False),
)
Index("outbox_due", OUTBOX.c.next_at)

VALUES = Table(
    "state_values",
    METADATA,
    Column("key", _ordered(128), primary_key=True),
    Column("value", Text, nullable=False),
)

"""The tables. Columns hold what is searched by; the rest of each noun is a JSON document in `doc`.

`due_at` alone says whether a row wants attention: letters and standing orders set it to the time they came.
"""

from sqlalchemy import Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text, text

#: Alembic's name for the newest migration; a fresh database is created as of it. Kept equal by a test.
REVISION = "0003"

METADATA = MetaData()


def _lease() -> list[Column[object]]:
    return [
        Column("version", Integer, nullable=False),
        Column("due_at", Float),
        Column("token", String(40)),
        Column("lease_until", Float, nullable=False, server_default=text("0")),
        Column("doc", Text, nullable=False),
    ]


CLUSTERS = Table(
    "clusters",
    METADATA,
    Column("id", String(40), primary_key=True),
    Column("name", String(256), nullable=False),
    Column("phase", String(32), nullable=False),
    Column("living", Boolean, nullable=False),
    Column("request_id", String(64)),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    *_lease(),
)
Index("clusters_living_name", CLUSTERS.c.name, unique=True, sqlite_where=text("living"))
Index("clusters_due", CLUSTERS.c.due_at)
Index("clusters_request", CLUSTERS.c.request_id)

JOBS = Table(
    "jobs",
    METADATA,
    Column("id", String(40), primary_key=True),
    Column("cluster_id", String(40), nullable=False),
    Column("job_id", Integer),
    Column("request_id", String(64), unique=True, nullable=False),
    Column("phase", String(32), nullable=False),
    Column("created_at", Float, nullable=False),
    *_lease(),
)
Index("jobs_number", JOBS.c.cluster_id, JOBS.c.job_id)
Index("jobs_due", JOBS.c.due_at)

REQUESTS = Table(
    "requests",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("cluster_name", String(256)),
    Column("status", String(32), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    *_lease(),
)
Index("requests_created", REQUESTS.c.created_at)
Index("requests_due", REQUESTS.c.due_at)

LETTERS = Table(
    "letters",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("entity", String(16), nullable=False),
    Column("entity_id", String(64), nullable=False),
    Column("posted_at", Float, nullable=False),
    Column("doc", Text, nullable=False),
)
Index("letters_entity", LETTERS.c.entity, LETTERS.c.entity_id)

ORDERS = Table(
    "orders",
    METADATA,
    Column("key", String(128), primary_key=True),
    Column("entity", String(16), nullable=False),
    Column("entity_id", String(64), nullable=False),
    Column("position", Integer, nullable=False),
    Column("doc", Text, nullable=False),
)
Index("orders_entity", ORDERS.c.entity, ORDERS.c.entity_id)

STORIES = Table(
    "stories",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("entity", String(16), nullable=False),
    Column("entity_id", String(64), nullable=False),
    Column("name", String(256), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("before", String(32), nullable=False),
    Column("after", String(32), nullable=False),
    Column("text", Text, nullable=False),
)
Index("stories_entity", STORIES.c.entity, STORIES.c.entity_id)
Index("stories_name", STORIES.c.entity, STORIES.c.name)

OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("cloud", String(64), nullable=False),
    Column("region", String(256), nullable=False),
    Column("zone", String(256)),
    Column("instance_type", String(256), nullable=False),
    Column("market", String(16), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("nodes", Integer, nullable=False),
    Column("reason", Text, nullable=False),
)
Index("outcomes_at", OUTCOMES.c.at)

USERS = Table(
    "users",
    METADATA,
    Column("name", String(128), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("made_by", String(128), nullable=False),
    Column("preferred", String(64)),
    Column("disabled", Boolean, nullable=False),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("id", String(40), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("user_name", String(128), nullable=False),
    Column("name", String(128), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("made_by", String(128), nullable=False),
    Column("role", String(16)),
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
    Column("name", String(64), primary_key=True),
    Column("doc", Text, nullable=False),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("call", String(40), nullable=False),
    Column("user_name", String(128), nullable=False),
    Column("via", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("operation", String(128), nullable=False),
    Column("target", String(512), nullable=False),
    Column("workspace", String(64), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("outcome", String(128), nullable=False),
    Column("detail", Text, nullable=False),
    Column("token", String(40), nullable=False),
)
Index("audit_user", AUDIT.c.user_name)
Index("audit_at", AUDIT.c.at)

VALUES = Table(
    "state_values",
    METADATA,
    Column("key", String(128), primary_key=True),
    Column("value", Text, nullable=False),
)

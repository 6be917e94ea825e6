"""The call that reads the audit log."""

from sky.core.errors import ClientError
from sky.core.policy.rights import Right
from sky.server.api import Api
from sky.server.asgi import Call, Reply, Route
from sky.server.audit import joined
from sky.server.routes.requests import number, one
from sky.wire.codec import encode
from sky.wire.openapi import Operation
from sky.wire.users import AuditRecord, audit_record

#: Calls that are told at a time.
MOST = 10_000


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""

    async def read(call: Call) -> Reply:
        query = call.query()
        limit = min(number(query, "limit", 100), MOST)
        if limit == 0:
            raise ClientError("limit: at least 1")
        lines = await api.plane.audit.read(
            # Each call has written two lines; the oldest that is told may then lack the time at which it began.
            limit=2 * limit,
            before=number(query, "before", 0) or None,
            user=one(query, "user") or None,
            since=float(number(query, "since", 0)) or None,
        )
        return Reply(encode([audit_record(line) for line in joined(lines, limit)]))

    queries = (("limit", "integer"), ("before", "integer"), ("user", "string"), ("since", "integer"))
    return [
        api.plain(
            Operation(
                "GET",
                "/audit",
                "Calls that changed something, newest first",
                answer=list[AuditRecord],
                query=queries,
                right=Right.ADMIN,
                audited=False,
            ),
            read,
        )
    ]

"""Calls about uploaded content: which is missing, and here it is."""

from sky.core.policy.rights import Right
from sky.server.api import Api
from sky.server.asgi import Call, Reply, Route
from sky.wire.codec import decode, encode
from sky.wire.openapi import Operation
from sky.wire.packs import MOST_PACK
from sky.wire.uploads import MissingAnswer, MissingBody


def routes(api: Api) -> list[Route]:
    """The routes of this noun. They are not audited: what is uploaded does nothing until a launch names it."""

    async def missing(call: Call) -> Reply:
        body = decode(MissingBody, await call.body())
        return Reply(encode(MissingAnswer(missing=await api.blobs.missing(body.hashes))))

    async def put(call: Call) -> Reply:
        name = call.params["hash"]
        # Refuse a bad name before the body is read.
        api.blobs.path(name)
        await api.blobs.put(name, api.quota.counted(call.user, call.pieces()))
        return Reply()

    async def put_pack(call: Call) -> Reply:
        pack = await call.body(limit=2 * MOST_PACK)
        api.quota.take(call.user, len(pack))
        await api.blobs.put_pack(pack)
        return Reply()

    return [
        api.plain(
            Operation(
                "POST",
                "/api/uploads/missing",
                "Which content is not here yet",
                body=MissingBody,
                answer=MissingAnswer,
                right=Right.USE,
                audited=False,
            ),
            missing,
        ),
        api.plain(
            Operation(
                "POST",
                "/api/uploads/pack",
                "Upload many small files in one piece",
                raw_body=True,
                right=Right.USE,
                audited=False,
            ),
            put_pack,
        ),
        api.plain(
            Operation(
                "PUT",
                "/api/uploads/{hash}",
                "Upload content under the hash of what is in it",
                raw_body=True,
                right=Right.USE,
                audited=False,
            ),
            put,
        ),
    ]

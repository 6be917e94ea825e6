"""Calls of those who look after a server: does it live, is it ready, what does it count, its keys, its back-up."""

from pathlib import Path

from sky.core.errors import ClientError
from sky.core.policy.rights import Right
from sky.server.api import Api
from sky.server.asgi import Call, Reply, Route
from sky.server.dump import write_dump
from sky.wire.codec import decode, encode
from sky.wire.openapi import Operation
from sky.wire.upkeep import FileBody, Readiness, RotateBody, RotatedKey, WrittenFile

_TEXT = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]

#: Seconds for which a call waits until all is sealed anew; who wants to know the end asks again.
_ROTATE_S = 40.0


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""

    async def alive(call: Call) -> Reply:
        return Reply(encode(Readiness(ready=True)))

    async def ready(call: Call) -> Reply:
        trouble = await api.plane.upkeep.trouble()
        if api.draining:
            trouble.append("the server is about to end")
        # Strangers learn no more than whether it is: the words may name a database.
        told = Readiness(ready=not trouble, trouble=trouble if call.local else [])
        return Reply(encode(told), 503 if trouble else 200)

    async def metrics(call: Call) -> Reply:
        return Reply((await api.metrics_text()).encode(), 200, list(_TEXT))

    async def rotate(call: Call) -> Reply:
        asked = decode(RotateBody, await call.body())
        told = await api.plane.upkeep.rotate_key(_ROTATE_S, going_on=asked.going_on)
        return Reply(encode(RotatedKey(key=told.key, rows=told.rows, over=told.over)))

    async def backup(call: Call) -> Reply:
        path = _new_file(decode(FileBody, await call.body()))
        await api.plane.upkeep.backup(path)
        return Reply(encode(WrittenFile(path=str(path), bytes=path.stat().st_size)))

    async def dump(call: Call) -> Reply:
        path = _new_file(decode(FileBody, await call.body()))
        await write_dump(api, path)
        return Reply(encode(WrittenFile(path=str(path), bytes=path.stat().st_size)))

    return [
        api.plain(Operation("GET", "/healthz", "Does the process live", answer=Readiness, right=Right.PUBLIC), alive),
        api.plain(Operation("GET", "/readyz", "Can it do its work", answer=Readiness, right=Right.PUBLIC), ready),
        api.plain(
            Operation(
                "GET",
                "/metrics",
                "What it counts, for Prometheus",
                media="text/plain",
                right=Right.ADMIN,
                audited=False,
            ),
            metrics,
        ),
        api.plain(
            Operation(
                "POST",
                "/api/rotate_key",
                "Seal the records with a new key",
                body=RotateBody,
                answer=RotatedKey,
                right=Right.OWNER,
            ),
            rotate,
        ),
        api.plain(
            Operation(
                "POST",
                "/api/backup",
                "Copy the records to a file",
                body=FileBody,
                answer=WrittenFile,
                right=Right.OWNER,
            ),
            backup,
        ),
        api.plain(
            Operation(
                "POST",
                "/api/debug_dump",
                "Write what helps to find a fault",
                body=FileBody,
                answer=WrittenFile,
                right=Right.OWNER,
            ),
            dump,
        ),
    ]


def _new_file(body: FileBody) -> Path:
    path = Path(body.path)
    if not path.is_absolute() or "\0" in body.path:
        raise ClientError(f"path: {body.path[:200]!r} is not an absolute path")
    if path.exists():
        raise ClientError(f"{path} is there already; name a file that is not.")
    if not path.parent.is_dir():
        raise ClientError(f"{path.parent} is no directory.")
    return path

"""How the head reaches the agents of its cluster, itself included: one way of asking, whoever it is.

Addresses are `unix:/path` on nodes that share a machine. Between machines it will be `tls://host:port`, which is
refused with a clear message until it is built. Called by `gang.py` and `head.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Dict, Optional

from .connection import Connection, ConnectionLost, Reply, connect_unix
from .fields import Refused

Handle = Callable[[str, Dict[str, Any], bytes], Awaitable[Reply]]


class Peer:
    """One agent of the cluster, by its address; connects on first use and again after a loss."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._connection: Optional[Connection] = None
        self._gate = asyncio.Lock()

    async def call(self, verb: str, args: Dict[str, Any], body: bytes = b"", timeout: float = 30.0) -> Reply:
        """Ask once; ConnectionLost when the peer cannot be reached or does not answer in time."""
        connection = await self._connected()
        return await connection.call(verb, args, body, timeout)

    async def _connected(self) -> Connection:
        async with self._gate:
            if self._connection is None or self._connection.closed:
                scheme, _, rest = self.address.partition(":")
                if scheme != "unix":
                    raise Refused(
                        "NotSupported", "peers at %r are not supported yet; only unix:/path is" % self.address
                    )
                try:
                    self._connection = await connect_unix(rest)
                except OSError as error:
                    raise ConnectionLost("cannot connect to %s: %s" % (self.address, error)) from None
            return self._connection

    async def close(self) -> None:
        """Close the connection if there is one."""
        if self._connection is not None:
            await self._connection.close()


class Myself(Peer):
    """The node's own agent: the same verbs without the detour over a socket."""

    def __init__(self, handle: Handle) -> None:
        super().__init__("self:")
        self._handle = handle

    async def call(self, verb: str, args: Dict[str, Any], body: bytes = b"", timeout: float = 30.0) -> Reply:
        """Carry the verb out here."""
        return await self._handle(verb, args, body)

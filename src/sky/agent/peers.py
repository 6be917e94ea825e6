"""How the head reaches the agents of its cluster, itself included: one way of asking, whoever it is.

Addresses are `unix:/path` on nodes that share a machine and `tls://host:port` between machines (`tls.py`). Called by
`gang.py` and `head.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Dict, Optional

from .connection import Connection, ConnectionLost, Reply, connect_unix
from .fields import Refused
from .signals import Signal

if TYPE_CHECKING:
    from .tls import Wire

Handle = Callable[[str, Dict[str, Any], bytes], Awaitable[Reply]]


class Peer:
    """One agent of the cluster, by its address; connects on first use and again after a loss.

    `wire` is the cluster's identity, which addresses of other machines need.
    """

    def __init__(self, address: str, wire: Optional[Wire] = None) -> None:
        self.address = address
        #: Fires when it is spoken to again, whoever among us asked.
        self.reached = Signal()
        self._wire = wire
        self._connection: Optional[Connection] = None
        self._gate = asyncio.Lock()
        self._cut_until = 0.0

    async def call(self, verb: str, args: Dict[str, Any], body: bytes = b"", timeout: float = 30.0) -> Reply:
        """Ask once; ConnectionLost when the peer cannot be reached or does not answer in time."""
        connection = await self._connected()
        return await connection.call(verb, args, body, timeout)

    async def _connected(self) -> Connection:
        async with self._gate:
            if asyncio.get_running_loop().time() < self._cut_until:
                raise ConnectionLost("cannot connect to %s: cut off by `sky chaos`" % self.address)
            if self._connection is None or self._connection.closed:
                try:
                    self._connection = await self._connect()
                except OSError as error:
                    raise ConnectionLost("cannot connect to %s: %s" % (self.address, error)) from None
                self.reached.fire()
            return self._connection

    async def _connect(self) -> Connection:
        scheme, _, rest = self.address.partition(":")
        if scheme == "unix":
            return await connect_unix(rest)
        if self._wire is None:
            raise Refused("NotSupported", "the peer at %r needs 'tls' in node.json" % self.address[:200])
        from .tls import split  # noqa: PLC0415 - in memory already, where there is a wire

        return await self._wire.connect(*split(self.address))

    async def cut(self, seconds: float) -> None:
        """Break the line, and let nobody through for so many seconds."""
        self._cut_until = asyncio.get_running_loop().time() + seconds
        await self.close()

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

"""The socket below an SSH connection, which sends in one go what was written in one turn of the loop.

The library writes every packet by itself, and a small one before each. Sending is most of what an idle connection
costs, and much of what a busy one does. Used by `ssh_link.py` in the place of a tunnel, which the library takes from
its caller.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

#: Seconds for a machine to answer at all. The kernel asks again after one and three seconds, then ever more rarely: a
#: new attempt finds a machine that is back sooner than an old one.
_CONNECT_S = 4.0
#: Bytes that are not held back until the end of the turn.
_ENOUGH = 1 << 18


class Direct:
    """Connects straight to the server."""

    async def create_connection(
        self, session_factory: Callable[[], Any], remote_host: str, remote_port: int
    ) -> tuple[Any, Any]:
        """Connect; the transport and the library's session."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                transport, protocol = await loop.create_connection(
                    lambda: _Protocol(session_factory()), remote_host, remote_port
                )
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, "no answer") from None
        return transport, protocol.session


class _Protocol(asyncio.Protocol):
    """The session as asyncio knows protocols."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.session.connection_made(_Gathering(transport))

    def data_received(self, data: bytes) -> None:
        self.session.data_received(data)

    def eof_received(self) -> bool | None:
        kept: bool | None = self.session.eof_received()
        return kept

    def connection_lost(self, exc: Exception | None) -> None:
        self.session.connection_lost(exc)


class _Gathering:
    """A transport that sends what it gathered once the loop comes round."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._gathered: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._gathered:
            self._loop.call_soon(self._send)
        self._gathered.append(data)
        self._size += len(data)
        if self._size > _ENOUGH:
            self._send()

    def _send(self) -> None:
        if self._gathered:
            data = b"".join(self._gathered) if len(self._gathered) > 1 else self._gathered[0]
            self._gathered.clear()
            self._size = 0
            self._transport.write(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def abort(self) -> None:
        # The last word, why the connection ends, is worth sending all the same.
        self._send()
        self._transport.abort()

    def is_closing(self) -> bool:
        return bool(self._transport.is_closing())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

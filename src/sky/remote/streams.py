"""A channel of an SSH connection as the pair of reader and writer that `sky.agent.connection` takes.

Made by `ssh.py`. Bytes go into asyncio's own reader as they come, so that reading costs no more than on a socket.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

import asyncssh

#: Bytes that may wait here until they are read, and until they are sent.
_READ_AHEAD = 1 << 20
_WRITE_AHEAD = 1 << 20
_GOODBYE_S = 1.0


class Stream(asyncssh.SSHClientSession[bytes], asyncssh.SSHTCPSession[bytes], asyncssh.SSHUNIXSession[bytes]):
    """A session of any kind. `reader` and the object itself, as the writer, are the two ends."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader(limit=_READ_AHEAD)
        self.complaint = b""
        self._channel: Any = None
        self._room = asyncio.Event()
        self._room.set()
        self._gone = asyncio.Event()
        self._error: Exception | None = None

    async def past(self, mark: str) -> None:
        """Read until a mark has come, of which what a login says first is no part. EOFError when it never does."""
        try:
            await self.reader.readuntil(mark.encode())
        except asyncio.LimitOverrunError:
            raise EOFError("it says too much and never what was to come") from None

    # Called by the connection

    def connection_made(self, chan: Any) -> None:
        """The channel is there."""
        self._channel = chan
        chan.set_write_buffer_limits(high=_WRITE_AHEAD)
        self.reader.set_transport(cast(asyncio.Transport, chan))

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """What is on the error channel is kept for the message, its beginning at least."""
        if datatype is None:
            self.reader.feed_data(data)
        elif len(self.complaint) < 2000:
            self.complaint += data[:2000]

    def eof_received(self) -> bool:
        """No more to read; the channel is closed by that."""
        self.reader.feed_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, of the channel or of all."""
        self._error = OSError(f"the connection broke: {exc}") if exc is not None else None
        if self._error is not None:
            self.reader.set_exception(self._error)
        elif not self.reader.at_eof():
            self.reader.feed_eof()
        self._gone.set()
        self._room.set()

    def pause_writing(self) -> None:
        """The node does not keep up."""
        self._room.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._room.set()

    # Called by whoever writes

    def write(self, data: bytes) -> None:
        """Queue bytes; `drain` waits until there is room for more."""
        if self._channel is None or self._gone.is_set() or self._channel.is_closing():
            raise OSError("the connection is closed")
        self._channel.write(data)

    async def drain(self) -> None:
        """Wait while too much is queued. OSError when the connection broke."""
        await self._room.wait()
        if self._gone.is_set():
            raise self._error or OSError("the connection is closed")

    def write_eof(self) -> None:
        """Say that nothing follows."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write_eof()

    def close(self) -> None:
        """Begin to close."""
        if self._channel is not None:
            self._channel.close()

    def abort(self) -> None:
        """Close without sending what is queued."""
        if self._channel is not None:
            self._channel.abort()

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._gone.is_set() or self._channel is None or self._channel.is_closing()

    async def wait_closed(self) -> None:
        """Wait until it is closed; not for long, where the other side may be cut off."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._gone.wait()

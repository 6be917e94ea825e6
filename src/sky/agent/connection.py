"""The asking end of the wire: one connection, many requests in flight.

Used by the head's agent to reach its peers (`peers.py`) and by `sky.remote.agent_client` for everything.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Dict, Optional, Protocol, Tuple

from .frames import FrameError, Header, encode, read_frame

Reply = Tuple[Dict[str, Any], bytes]

#: Bytes of a body from which on it is not copied to be one with its header.
_JOINED = 1 << 16


class CallRefused(Exception):
    """The agent answered with an error: `kind` is its type name, the text says what was wrong."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ConnectionLost(Exception):
    """The connection ended, or the answer did not come in time; whether the request was carried out is unknown."""


class Writer(Protocol):
    """Where requests go: the end of a stream, on whatever it runs."""

    def write(self, data: bytes) -> None:
        """Queue bytes."""

    async def drain(self) -> None:
        """Wait while too much is queued; OSError when the stream broke."""

    def close(self) -> None:
        """Begin to close."""

    def abort(self) -> None:
        """Close without sending what is queued."""

    async def wait_closed(self) -> None:
        """Wait until it is closed."""


class Connection:
    """A multiplexed client connection over a byte stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: Dict[int, asyncio.Future[Reply]] = {}
        self._ids = itertools.count(1)
        self._broken: Optional[str] = None
        self._pump = asyncio.ensure_future(self._receive())

    @property
    def closed(self) -> bool:
        """True once no further call can succeed."""
        return self._broken is not None

    @property
    def near(self) -> bool:
        """Whether the agent is on this machine, so that bytes cost next to nothing."""
        return isinstance(self._writer, SocketWriter)

    async def call(self, verb: str, args: Dict[str, Any], body: bytes = b"", timeout: Optional[float] = None) -> Reply:
        """Ask and wait for the answer: (ok object, body). Raises CallRefused or ConnectionLost."""
        if self._broken is not None:
            raise ConnectionLost(self._broken)
        number = next(self._ids)
        frame = encode({"id": number, "verb": verb, "args": args}, body, joined=len(body) < _JOINED)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._writer.write(frame)
            if len(body) >= _JOINED:
                self._writer.write(body)
            await self._writer.drain()
            # Not wait_for: before Python 3.12 that one forgets a cancellation which arrives together with the answer.
            await asyncio.wait((answer,), timeout=timeout)
            if not answer.done():
                raise asyncio.TimeoutError
            return answer.result()
        except asyncio.TimeoutError:
            raise ConnectionLost("no answer to %r within %s s" % (verb, timeout)) from None
        except OSError as error:
            self._fail("the connection broke: %s" % error)
            raise ConnectionLost("the connection broke: %s" % error) from None
        finally:
            self._waiting.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def close(self) -> None:
        """Close the stream; calls in flight end with ConnectionLost."""
        self._fail("the connection was closed")
        self._pump.cancel()
        self._writer.close()
        try:
            await asyncio.gather(self._pump, self._writer.wait_closed(), return_exceptions=True)
        except asyncio.CancelledError:
            self._writer.abort()
            raise

    async def _receive(self) -> None:
        reason = "the agent closed the connection"
        try:
            while True:
                frame = await read_frame(self._reader)
                if frame is None:
                    break
                self._settle(*frame)
        except (FrameError, OSError) as error:
            reason = "the connection broke: %s" % error
        finally:
            self._fail(reason)
            self._writer.close()

    def _settle(self, header: Header, body: bytes) -> None:
        answer = self._waiting.get(header.get("id", 0))
        if answer is None or answer.done():
            return
        error = header.get("error")
        if isinstance(error, dict):
            answer.set_exception(CallRefused(str(error.get("type", "Error")), str(error.get("message", ""))))
        else:
            ok = header.get("ok")
            answer.set_result((ok if isinstance(ok, dict) else {}, body))

    def _fail(self, reason: str) -> None:
        if self._broken is None:
            self._broken = reason
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionLost(self._broken))


class SocketWriter:
    """A `Writer` on a socket."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.write = writer.write
        self.drain = writer.drain
        self.close = writer.close
        self.wait_closed = writer.wait_closed
        self.abort = writer.transport.abort


async def connect_unix(path: str, limit: int = 1 << 20) -> Connection:
    """Connect to the Unix socket at `path`; OSError when nobody listens there."""
    reader, writer = await asyncio.open_unix_connection(path, limit=limit)
    return Connection(reader, SocketWriter(writer))

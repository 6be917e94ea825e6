"""The sockets that a server listens on, and the bounds on clients that are slow to ask or to listen.

Called by `server.process`.
"""

import asyncio
import errno
import socket
from contextlib import suppress
from pathlib import Path

from uvicorn.protocols.http.h11_impl import H11Protocol

from sky.kit.paths import private_dir

#: Seconds from the first byte of a request's head to its last.
HEAD_S = 15.0
#: Seconds in which the reader of an answer that piles up must take some of it.
READER_S = 60.0


def listen_unix(path: Path) -> socket.socket:
    """A listening socket that only its owner can reach. The caller holds the instance lock: what is there is stale."""
    private_dir(path.parent)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(0o600)
    except OSError:
        sock.close()
        raise
    return sock


def listen_tcp(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound TCP socket; `shared` with other servers that say so too, among whom the kernel deals out connections.

    Raises ValueError, in words for the user, for an address that cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends small pieces at once; without, each answer waits 40 ms for the other side.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OSError as refused:
        sock.close()
        why = "it is in use" if refused.errno == errno.EADDRINUSE else str(refused)
        raise ValueError(f"Cannot listen on {host}:{port}: {why}. Choose another with --host and --port.") from None
    return sock


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with bounds on the time that a head may take to come, and an answer not to be read."""

    _head_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect_head()
        else:
            self._head_came()

    def pause_writing(self) -> None:
        """Called when an answer piles up because its reader is slow."""
        super().pause_writing()
        self._watch_reader(self._piled_up())

    def resume_writing(self) -> None:
        """Called when the reader has caught up."""
        super().resume_writing()
        self._reader_came()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        self._reader_came()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        # Not renewed by more bytes, or a byte now and then would hold the connection for ever.
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self._too_slow)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _piled_up(self) -> int:
        return self.transport.get_write_buffer_size()

    def _watch_reader(self, before: int) -> None:
        self._reader_came()
        self._reader_timer = self.loop.call_later(READER_S, self._look_at_reader, before)

    def _look_at_reader(self, before: int) -> None:
        now = self._piled_up()
        if now < before:
            self._watch_reader(now)
        else:
            # Not a byte was taken all the while. Closing would wait for it to be; streams are resumed by offset.
            self.transport.abort()

    def _reader_came(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        with suppress(OSError):
            self.transport.close()

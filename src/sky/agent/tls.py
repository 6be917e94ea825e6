"""The wire between machines: TLS on which both ends show the cluster's one certificate, and accept no other.

Imported by `peers.py` and `server.py` only on nodes whose node.json has `tls`: the library behind it costs three
megabytes and twenty milliseconds. No byte is parsed before both ends have proved that they hold the certificate's key.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from contextlib import suppress
from typing import Any, Awaitable, Callable, Dict, Tuple

from .bounds import within
from .connection import Connection, SocketWriter
from .fields import Refused, bad
from .node import Tls

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_LIMIT = 1 << 20
_CONNECT_WITHIN = 4.0
_HANDSHAKE_WITHIN = 10.0
#: Strangers that may be in the middle of their handshake; one more, and the one that has taken longest is sent away.
_STRANGERS = 64
_ACCEPT_AGAIN = 0.5
#: Seconds: a silent peer is asked after the first, then every so often; given up when so many have stayed unanswered.
_KEEP_ALIVE = (2, 1, 3)
_UNACKNOWLEDGED_MS = 6000


class Wire:
    """The cluster's identity, ready for use on either end."""

    def __init__(self, tls: Tls, folder: str) -> None:
        try:
            self._shown = ssl.PEM_cert_to_DER_cert(tls.cert)
            self._asking = self._context(ssl.PROTOCOL_TLS_CLIENT, tls, folder)
            self._answering = self._context(ssl.PROTOCOL_TLS_SERVER, tls, folder)
        except ssl.SSLError as error:
            raise bad("node.json: the certificate and key in 'tls' cannot be used: %s" % error.reason) from None
        except ValueError as error:
            raise bad("node.json: the certificate in 'tls' cannot be read: %s" % error) from None

    @staticmethod
    def _context(side: Any, tls: Tls, folder: str) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=tls.cert)
        # The library reads keys from files only: one that nobody else can read, for as long as that takes.
        path = os.path.join(folder, "tls.%d" % os.getpid())
        with suppress(FileNotFoundError):
            os.unlink(path)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii", errors="replace") as file:
                file.write(tls.cert + "\n" + tls.key)
            context.load_cert_chain(path)
        finally:
            os.unlink(path)
        return context

    async def connect(self, host: str, port: int) -> Connection:
        """Connect to a peer; OSError when it cannot be reached, in time, or is not of this cluster."""
        try:
            reader, writer = await within(
                _CONNECT_WITHIN, asyncio.open_connection(host, port, limit=_LIMIT, ssl=self._asking)
            )
        except asyncio.TimeoutError:
            raise OSError("no connection within %g s" % _CONNECT_WITHIN) from None
        except ssl.SSLError as error:
            raise OSError("it does not show this cluster's certificate (%s)" % error.reason) from None
        if not self._ours(writer):
            writer.transport.abort()
            raise OSError("it shows another certificate than this cluster's")
        _keep_alive(writer.get_extra_info("socket"))
        return Connection(reader, SocketWriter(writer))

    def _ours(self, writer: asyncio.StreamWriter) -> bool:
        """Exactly this certificate: the library would also take one that was signed with it."""
        channel = writer.get_extra_info("ssl_object")
        return channel is not None and channel.getpeercert(binary_form=True) == self._shown

    def listen(self, host: str, port: int, serve: Serve) -> Listener:
        """Start to listen, so that peers can connect from now on; Refused as PortTaken when that is impossible."""
        return Listener(_bind(host, port), self._answering, self._ours, serve)


class Listener:
    """Lets peers in and keeps strangers at the door, few and not for long."""

    def __init__(
        self,
        opened: socket.socket,
        context: ssl.SSLContext,
        ours: Callable[[asyncio.StreamWriter], bool],
        serve: Serve,
    ) -> None:
        self._socket = opened
        self._context = context
        self._ours = ours
        self._serve = serve
        self._strangers: Dict[asyncio.Future[None], socket.socket] = {}
        self._accepting = asyncio.ensure_future(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                channel, _ = await loop.sock_accept(self._socket)
            except OSError as error:
                # No handle left, or a caller that hung up: neither ends the listening.
                print("agent: a peer could not be let in: %s" % error, file=sys.stderr, flush=True)
                await asyncio.sleep(_ACCEPT_AGAIN)
                continue
            if len(self._strangers) >= _STRANGERS:
                with suppress(OSError):
                    next(iter(self._strangers.values())).shutdown(socket.SHUT_RDWR)
            task = asyncio.ensure_future(self._admit(channel))
            self._strangers[task] = channel
            task.add_done_callback(self._strangers.pop)

    async def _admit(self, channel: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        channel.setblocking(False)
        reader = asyncio.StreamReader(limit=_LIMIT)
        protocol = asyncio.StreamReaderProtocol(reader, self._greet)
        try:
            _keep_alive(channel)
            await loop.connect_accepted_socket(
                lambda: protocol, channel, ssl=self._context, ssl_handshake_timeout=_HANDSHAKE_WITHIN
            )
        except OSError:
            channel.close()  # a stranger, or one that took too long

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._ours(writer):
            await self._serve(reader, writer)
        else:
            writer.transport.abort()

    async def close(self) -> None:
        """Let nobody in any more."""
        self._accepting.cancel()
        for task in list(self._strangers):
            task.cancel()
        await asyncio.gather(self._accepting, *self._strangers, return_exceptions=True)
        self._socket.close()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(128)
    except OSError as error:
        opened.close()
        raise Refused("PortTaken", "cannot listen on %s port %d: %s" % (host, port, error.strerror)) from None
    opened.setblocking(False)
    return opened


def _keep_alive(channel: Any) -> None:
    """A peer whose machine is gone says nothing: the kernel finds out, whether or not something is being sent."""
    idle, every, count = _KEEP_ALIVE
    with suppress(OSError, AttributeError):  # another kernel's names
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)


def split(address: str) -> Tuple[str, int]:
    """Host and port of `tls://host:port` (an IPv6 address stands in brackets)."""
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme != "tls" or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise Refused("NotSupported", "%r is no address of a peer; unix:/path and tls://host:port are" % address[:200])
    return host.strip("[]"), int(port)

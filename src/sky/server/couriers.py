"""Carries notifications to web addresses and commands; given to `engine.notifications` by `assembly`.

Web addresses come from users: none leads into this server's own network unless the administrator says so, and the
address that was looked at is the one that is connected to. Redirects are not followed at all.
"""

import asyncio
import hashlib
import hmac
import http.client
import ipaddress
import json
import os
import signal
import socket
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

from sky.core.model.notifications import Sink
from sky.kit.clock import Clock

#: Seconds that an address has to answer, and that a command has to end.
ANSWER_S, COMMAND_S = 10.0, 30.0
#: Bytes of an answer, or of a command's complaint, that are read.
_MOST = 4096
_SIDE_BY_SIDE = 8


class NotTaken(OSError):
    """A sink did not take its parcel; the text says why and holds nothing of the address but its host."""


class Couriers:
    """See `engine.notifications.Courier`. `section` gives a section of the configuration as it is now."""

    def __init__(self, clock: Clock, section: Callable[[str], Mapping[str, object]]) -> None:
        self._clock = clock
        self._section = section
        # Of its own: an address that hangs must hold up nothing else of the server.
        self._threads = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="courier")

    async def deliver(self, sink: Sink, id: str, payload: Mapping[str, object]) -> None:
        """Bring news to a sink. Raises NotTaken."""
        body = json.dumps(payload, sort_keys=True).encode()
        if sink.command:
            await _tell_command(sink.command, id, body)
            return
        private = sink.trusted or bool(self._section("notifications").get("allow_private"))
        headers = headers_of(sink, id, body, int(self._clock.now()))
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, post, sink.webhook, headers, body, private)

    async def close(self) -> None:
        """Let go of the threads; what is under way has its time-out."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def headers_of(sink: Sink, id: str, body: bytes, now: int) -> dict[str, str]:
    """Headers of a delivery. The signature is the HMAC-SHA256 of `TIMESTAMP.BODY` with the sink's secret, in hex."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "altostratus",
        "X-Sky-Delivery": id,
        "X-Sky-Timestamp": str(now),
    }
    if sink.secret:
        signed = hmac.new(sink.secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
        headers["X-Sky-Signature"] = f"sha256={signed}"
    return headers


def post(url: str, headers: Mapping[str, str], body: bytes, private: bool) -> None:
    """One POST to an address. Raises NotTaken."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise NotTaken("the address cannot be read") from None
    if parts.scheme not in ("http", "https") or not host or parts.username:
        raise NotTaken("the address is none of http or https, or has a login in it")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection = _connection(parts.scheme, host, _address(host, port, private), port)
        try:
            connection.request("POST", path, body, dict(headers))
            answer = connection.getresponse()
            answer.read(_MOST)
        finally:
            connection.close()
    except NotTaken:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise NotTaken(f"{host} does not answer: {type(error).__name__}: {str(error)[:200]}") from None
    if 300 <= answer.status < 400:
        raise NotTaken(f"{host} answers with a redirect ({answer.status}), which is not followed")
    if not 200 <= answer.status < 300:
        raise NotTaken(f"{host} answers {answer.status}")


def _address(host: str, port: int, private: bool) -> str:
    """An address of the host. Raises NotTaken for one that is not on the public net, unless that is allowed."""
    found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not found:
        raise NotTaken(f"{host} has no address")
    for each in found:
        at = ipaddress.ip_address(each.partition("%")[0])
        inner = getattr(at, "ipv4_mapped", None) or at
        if not private and (not inner.is_global or inner.is_multicast):
            raise NotTaken(
                f"{host} is on a private network ({each}); an admin may allow that: notifications.allow_private"
            )
    return found[0]


def _connection(scheme: str, host: str, address: str, port: int) -> http.client.HTTPConnection:
    """A connection to exactly this address; certificates are of the host."""
    plain = socket.create_connection((address, port), ANSWER_S)
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    if scheme == "https":
        try:
            connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
        # It says 443 where the plain one would leave out 80.
        connection.default_port = 443
    else:
        connection.sock = plain
    return connection


async def _tell_command(words: tuple[str, ...], id: str, body: bytes) -> None:
    """Run a command with the news on its input and nothing of this process's environment but where programs are."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**kept, "SKY_DELIVERY": id},
            start_new_session=True,
        )
    except OSError as error:
        raise NotTaken(f"the command {words[0]!r} cannot be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(COMMAND_S):
            await process.communicate(body)
    except TimeoutError:
        raise NotTaken(f"the command {words[0]!r} did not end within {COMMAND_S:.0f} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        raise NotTaken(f"the command {words[0]!r} ended with {process.returncode}")

"""One SSH connection to each node, shared by all that is said to it: made on demand, watched, and made again.

`fleet` has one `SshLinks`; `ssh.SshChannel` is how the rest of this room uses a link. Host keys are always verified,
and neither the user's own SSH configuration nor an agent has a say. Imported only once a node is reached by SSH: the
library takes a tenth of a second to load.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from .errors import LinkDown, LoginRefused
from .keys import KeyRing
from .known_nodes import KnownNodes
from .tcp import Direct
from .ways import Way, command_of

#: Seconds for a connection to stand, login included.
_CONNECT_S = 15.0
#: The kernel notices a machine that is gone, at no cost to this process: seconds until the first question, between
#: questions, and how many stay unanswered.
_PROBE_AFTER_S, _PROBE_EVERY_S, _PROBES = 2, 1, 3
#: The protocol's own question takes a turn of the loop for each node. It is there for machines whose kernel answers
#: while nothing else does, and for those that the kernel does not see, behind another: seconds between questions, of
#: which one may stay unanswered, so that the end is known after twice as many.
_ASK_EVERY_S, _ASK_BEHIND_S, _UNANSWERED = 8.0, 4.5, 1
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0
#: What runs fastest on processors of today comes first.
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
)
#: By type of host key, how it may sign. Certificates are no part: there is no authority that would be trusted.
_SIGNATURES = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}

Secret = Callable[[str, str], str | None]


@dataclass(slots=True)
class Place:
    """What was found on a node: see `ssh.SshChannel.settle`. `python` is empty where there is none.

    `login` is the home of whoever logs in, `home` the node's own. `socket` is where its agent listens, or would;
    `listening` whether something did when we looked.
    """

    login: str
    home: str
    socket: str
    python: str
    root: bool
    machine: str
    libc: str
    listening: bool


class SshLinks:
    """The links of one server, by way. Each is closed when the last that uses it lets go."""

    def __init__(self, keys: KeyRing, secret: Secret | None = None) -> None:
        self.keys = keys
        self.known = KnownNodes(keys.known_nodes())
        self.secret = secret
        self._links: dict[Way, SshLink] = {}

    def __len__(self) -> int:
        return len(self._links)

    def link(self, way: Way, user: str) -> SshLink:
        """The link of a way; `user` holds it until it says `release`."""
        if way not in self._links:
            self._links[way] = SshLink(self, way)
        link = self._links[way]
        link.users.add(user)
        return link

    async def release(self, user: str, *, but: Collection[Way] = ()) -> None:
        """Close what nobody else uses, `but` what the user still wants."""
        for way, link in list(self._links.items()):
            if way in but:
                continue
            link.users.discard(user)
            if not link.users and self._links.get(way) is link:
                del self._links[way]
                await link.close()

    async def close(self) -> None:
        """Close all."""
        links, self._links = list(self._links.values()), {}
        await asyncio.gather(*(link.close() for link in links))


class SshLink:
    """One connection. `connection` gives it, `users` hold it; the rest is what was learnt of the node.

    `forwards` says whether its SSH server forwards sockets, None as long as that is open; `silent_since` when it said
    first that it could not.
    """

    def __init__(self, links: SshLinks, way: Way) -> None:
        self.way = way
        self.users: set[str] = set()
        self.places: dict[str, Place] = {}
        self.forwards: bool | None = None
        self.silent_since: float | None = None
        self._links = links
        self._connection: asyncssh.SSHClientConnection | None = None
        self._connecting: asyncio.Task[asyncssh.SSHClientConnection] | None = None
        self._failures = 0
        self._not_before = 0.0
        self._closed = False

    async def connection(self) -> asyncssh.SSHClientConnection:
        """The connection, made if there is none. LinkDown when it may come yet, LoginRefused when it will not."""
        if self._connection is not None:
            return self._connection
        if self._closed:
            raise LinkDown(f"the connection to {self.way} was closed")
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), name=f"connecting to {self.way}")
            # Whoever asked may be gone by the time it fails.
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._connecting)

    def hurry(self) -> None:
        """The machine is expected to come up just now: do not wait long between tries."""
        self._failures = min(self._failures, 2)

    async def close(self) -> None:
        """Close the connection, and give up making one."""
        self._closed = True
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            try:
                async with asyncio.timeout(1.0):
                    await connection.wait_closed()
            except TimeoutError:
                connection.abort()
        if self.way.via is not None:
            await self._links.release(self._name)

    @property
    def _name(self) -> str:
        return f"gate:{self.way}"

    async def _connect(self) -> asyncssh.SSHClientConnection:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._not_before - loop.time()))
        client = _Client(self._links.known, self.way, self._lost)
        try:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    connection = await self._open(client)
            except TimeoutError:
                raise LinkDown(f"cannot reach {self.way}: no answer within {_CONNECT_S:g} s") from None
            except (OSError, asyncssh.Error, ValueError) as error:
                raise self._named(error, client) from error
        except BaseException:
            pause = min(_FIRST_PAUSE_S * 2**self._failures, _LONGEST_PAUSE_S)
            self._failures = min(self._failures + 1, 10)
            self._not_before = loop.time() + pause * random.uniform(0.5, 1.5)  # noqa: S311 - to spread, not to hide
            raise
        self._failures, self._not_before = 0, 0.0
        if client.gone:
            raise LinkDown(f"{self.way} closed the connection")
        self._connection = connection
        _watch(connection)
        return connection

    async def _open(self, client: _Client) -> asyncssh.SSHClientConnection:
        way, options = self.way, self._options()
        if way.via is not None:
            options["tunnel"] = await self._links.link(way.via, self._name).connection()
        elif way.proxy:
            options["proxy_command"] = ["/bin/sh", "-c", command_of(way)]
        else:
            options["tunnel"] = Direct()
        known = client.expected.partition(" ")[0]
        types = sorted(_SIGNATURES, key=lambda each: each != known)
        made: asyncssh.SSHClientConnection
        made, _ = await asyncssh.create_connection(
            lambda: client,
            way.host,
            way.port,
            username=way.user,
            server_host_key_algs=[name for each in types for name in _SIGNATURES[each]],
            # No list of its own, so that every key comes before `_Client`; an empty one would mean the user's.
            known_hosts=([], [], []),
            config=None,
            agent_path=None,
            agent_forwarding=False,
            gss_kex=False,
            gss_auth=False,
            host_based_auth=False,
            compression_algs=["none"],
            encryption_algs=list(_CIPHERS),
            keepalive_interval=_ASK_BEHIND_S if way.via or way.proxy else _ASK_EVERY_S,
            keepalive_count_max=_UNANSWERED,
            connect_timeout=_CONNECT_S,
            login_timeout=_CONNECT_S,
            **options,
        )
        return made

    def _options(self) -> dict[str, Any]:
        """How to log in: with a key, and a password where there is one."""
        way = self.way
        path = Path(way.identity).expanduser() if way.identity else self._links.keys.identity()
        password = self._links.secret(way.cloud, way.secret) if way.secret and self._links.secret else None
        return {"client_keys": _identity(path), "password": password}

    def _named(self, error: Exception, client: _Client) -> Exception:
        """The failure in this room's words: what may pass, and what will not until somebody does something."""
        way = self.way
        if client.problem:
            return LoginRefused(client.problem)
        if isinstance(error, LinkDown | LoginRefused):
            return error
        if isinstance(error, asyncssh.PermissionDenied):
            with_what = way.identity or "this installation's key"
            tried = f"{with_what} and the password" if way.secret else with_what
            return LoginRefused(f"{way} let nobody in with {tried}: authentication failed ({error.reason})")
        if isinstance(error, asyncssh.HostKeyNotVerifiable | asyncssh.KeyExchangeFailed | asyncssh.ProtocolError):
            return LoginRefused(f"{way} cannot be talked to: {error.reason}")
        if isinstance(error, asyncssh.Error):
            reason = error.reason
        else:
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if isinstance(number, int) and number > 0 else str(error)
        return LinkDown(f"cannot reach {way}: {reason or type(error).__name__}")

    def _lost(self) -> None:
        self._connection = None


class _Client(asyncssh.SSHClient):
    """Judges the host key, and tells when the connection is gone."""

    def __init__(self, known: KnownNodes, way: Way, lost: Callable[[], None]) -> None:
        self._known = known
        self._way = way
        self._tell = lost
        self.expected = way.host_key or known.key(way.known_as) or ""
        self.problem = ""
        self.gone = False

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Exactly the key that is expected, or the first one ever."""
        shown = " ".join(key.export_public_key("openssh").decode().split()[:2])
        expected = self.expected or self._known.pin(self._way.known_as, shown)
        if shown.split() == expected.split()[:2]:
            return True
        self.problem = self._refusal(expected, key)
        return False

    def _refusal(self, expected: str, key: asyncssh.SSHKey) -> str:
        way, shown = self._way, key.get_fingerprint()
        with suppress(asyncssh.KeyImportError, ValueError):
            expected = asyncssh.import_public_key(expected).get_fingerprint()
        if way.host_key:
            return (
                f"{way} shows the host key {shown}, and not {expected} which it was made with: "
                "something else answers at this address, and it is not logged in to"
            )
        return (
            f"the host key of {way} has changed: it was {expected} and is {shown} now. Either the machine was set up "
            f"anew, or something else answers at its address. If you know it to be right, remove the line that begins "
            f"with {way.known_as} from {self._known.path} and try again"
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """The link makes a new one when it is asked."""
        self.gone = True
        self._tell()


def _identity(path: Path) -> Sequence[asyncssh.SSHKeyPair]:
    try:
        return asyncssh.load_keypairs(str(path))
    except asyncssh.KeyEncryptionError:
        raise LoginRefused(
            f"the key {path} is protected by a passphrase, which nobody can type here: give a key without one "
            "(ssh-keygen -p removes it from a copy)"
        ) from None
    except asyncssh.KeyImportError as error:
        # Asked for a passphrase where there is none, the library says so in words alone.
        if "passphrase" in str(error).lower():
            raise LoginRefused(
                f"the key {path} is protected by a passphrase, which nobody can type here: give a key without one "
                "(ssh-keygen -p removes it from a copy)"
            ) from None
        raise LoginRefused(f"the key {path} cannot be used: {error}") from None
    except OSError as error:
        raise LoginRefused(f"the key {path} cannot be read: {error.strerror}") from None


def _watch(connection: asyncssh.SSHClientConnection) -> None:
    """Let the kernel find out that the other machine is gone. Not there for connections through another program."""
    line = connection.get_extra_info("socket")
    if not isinstance(getattr(line, "fileno", lambda: None)(), int) or line.family not in (
        socket.AF_INET,
        socket.AF_INET6,
    ):
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _PROBE_AFTER_S),
        ("TCP_KEEPINTVL", _PROBE_EVERY_S),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", 1000 * (_PROBE_AFTER_S + _PROBE_EVERY_S * _PROBES)),
    ):
        if (option := getattr(socket, name, None)) is not None:
            line.setsockopt(socket.IPPROTO_TCP, option, value)

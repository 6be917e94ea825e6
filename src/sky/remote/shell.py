"""Commands on machines that a provider reaches itself: those of a pool, the login node of a batch system.

Made by `server.assembly`, one for each such cloud. It keeps a connection per machine while that is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any

from sky.core.errors import AgentUnreachable, NotSupportedError
from sky.core.ports import Ran

from .keys import KeyRing

if TYPE_CHECKING:
    import asyncssh

_CONNECT_S = 10.0
#: A machine that says nothing for twice this long is taken for gone, in seconds.
_KEEPALIVE_S = 4.0
_MOST_OUTPUT = 8 << 20
_PINNED = "known_machines"


class Shells:
    """All of a server's; `secret` finds a password by cloud and the name that a `reach` has for it."""

    def __init__(self, keys: KeyRing, folder: Path, secret: Callable[[str, str], str | None]) -> None:
        """`folder` is where keys of machines are pinned."""
        self._keys = keys
        self._pins = _Pins(folder / _PINNED)
        self._secret = secret
        self._open: list[SshShell] = []

    def of(self, cloud: str) -> SshShell:
        """The one that a cloud's provider is given."""
        made = SshShell(self._keys, self._pins, lambda name: self._secret(cloud, name))
        self._open.append(made)
        return made

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(each.close() for each in self._open))


class SshShell:
    """See `core.ports.Shell`."""

    def __init__(self, keys: KeyRing, pins: _Pins, secret: Callable[[str], str | None]) -> None:
        self._keys = keys
        self._pins = pins
        self._secret = secret
        self._links: dict[tuple[tuple[str, str], ...], asyncio.Task[list[asyncssh.SSHClientConnection]]] = {}

    async def run(
        self, reach: Mapping[str, str], argv: Sequence[str], *, input: bytes = b"", timeout: float = 30.0
    ) -> Ran:
        """See `core.ports.Shell`."""
        where = f"{reach.get('user', '')}@{reach['host']}:{reach.get('port', '22')}"
        library = _library()
        try:
            async with asyncio.timeout(timeout):
                link = await self._link(reach, min(timeout, _CONNECT_S))
                return await _bounded(link, join(argv), input)
        except TimeoutError:
            raise AgentUnreachable(f"{where} did not answer within {timeout:g} s") from None
        except (OSError, library.Error) as error:
            # The library's own text may quote what the other side sent, at any length.
            raise AgentUnreachable(f"{where} cannot be reached: {_said(error)[:500]}") from None

    async def close(self) -> None:
        """Close all connections."""
        links, self._links = list(self._links.values()), {}
        for link in links:
            link.cancel()
        for ended in await asyncio.gather(*links, return_exceptions=True):
            if not isinstance(ended, BaseException):
                for each in reversed(ended):
                    each.abort()
                    await each.wait_closed()

    async def _link(self, reach: Mapping[str, str], within: float) -> asyncssh.SSHClientConnection:
        way = tuple(sorted((key, value) for key, value in reach.items() if key in _WAY))
        link = self._links.get(way)
        if link is None or (link.done() and (link.cancelled() or link.exception() or link.result()[-1].is_closed())):
            if link is not None and not link.cancelled() and not link.exception():
                for hop in link.result():
                    hop.abort()
            link = self._links[way] = asyncio.ensure_future(self._connect(reach, within))
            # Nobody may be there to hear of its failure.
            link.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return (await asyncio.shield(link))[-1]

    async def _connect(self, reach: Mapping[str, str], within: float) -> list[asyncssh.SSHClientConnection]:
        """The connection, after those of the hops that lead to it."""
        password = self._secret(reach["secret"]) if reach.get("secret") else None
        identity = reach.get("identity") or ("" if password else str(self._keys.identity()))
        opened: list[asyncssh.SSHClientConnection] = []
        more: dict[str, Any] = {"client_keys": [identity] if identity else None, "password": password}
        if command := reach.get("proxy_command"):
            filled = command.replace("%h", reach["host"]).replace("%p", reach.get("port", "22"))
            more["proxy_command"] = ["/bin/sh", "-c", filled.replace("%r", reach.get("user", ""))]
        try:
            async with asyncio.timeout(within):
                for hop in filter(None, reach.get("jump", "").split(",")):
                    user, _, place = hop.rpartition("@")
                    host, _, port = place.rpartition(":")
                    opened.append(await self._one(host, port, user, "", {"client_keys": more["client_keys"]}, opened))
                opened.append(
                    await self._one(
                        reach["host"], reach.get("port", "22"), reach.get("user", ""), reach.get("host_key", ""), more,
                        opened,
                    )
                )  # fmt: skip
        except BaseException:
            for each in opened:
                each.abort()
            raise
        return opened

    async def _one(
        self,
        host: str,
        port: str,
        user: str,
        key: str,
        more: Mapping[str, Any],
        through: Sequence[asyncssh.SSHClientConnection],
    ) -> asyncssh.SSHClientConnection:
        library, pins = _library(), self._pins

        class Known(library.SSHClient):  # type: ignore[name-defined,misc]
            """Knows a machine by the key that it was created with, or by the one that it showed at first."""

            def validate_host_public_key(self, host: str, addr: str, port: int, shown: Any) -> bool:
                text = " ".join(shown.export_public_key("openssh").decode().split()[:2])
                return text == " ".join(key.split()[:2]) if key else pins.holds(f"{host}:{port}", text)

        made: asyncssh.SSHClientConnection = await library.connect(
            host,
            int(port),
            username=user or (),
            tunnel=through[-1] if through else (),
            client_factory=Known,
            known_hosts=([], [], []),
            config=[],
            agent_path=None,
            gss_host=None,
            keepalive_interval=_KEEPALIVE_S,
            keepalive_count_max=2,
            login_timeout=_CONNECT_S,
            **more,
        )
        return made


#: Keys of a `reach` that make two ways different.
_WAY = ("host", "port", "user", "host_key", "identity", "secret", "jump", "proxy_command")


class _Pins:
    """Keys of machines by their address, as each was shown first; a file of lines `host:port key`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def holds(self, address: str, key: str) -> bool:
        """Whether this is the machine's key; one that was never met is taken at its word."""
        with suppress(FileNotFoundError):
            for line in self._path.read_text().splitlines():
                known, _, pinned = line.partition(" ")
                if known == address:
                    return pinned == key
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(f"{address} {key}\n")
        return True


async def _bounded(link: asyncssh.SSHClientConnection, command: str, input: bytes) -> Ran:
    """Run a command; output beyond the bound is read and thrown away."""
    # A command that takes no input may be over before its input could be said to have ended.
    stdin = {} if input else {"stdin": asyncio.subprocess.DEVNULL}
    async with link.create_process(command, encoding=None, **stdin) as process:
        if input:
            with suppress(BrokenPipeError, ConnectionError):
                process.stdin.write(input)
                process.stdin.write_eof()
        out, err = await asyncio.gather(_all(process.stdout), _all(process.stderr))
        ended = await process.wait()
    rc = ended.returncode if ended.exit_signal is None else 128
    return Ran(255 if rc is None else rc, out, err)


async def _all(stream: Any) -> bytes:
    parts, size = [], 0
    while part := await stream.read(65536):
        if size < _MOST_OUTPUT:
            parts.append(part)
            size += len(part)
    return b"".join(parts)[:_MOST_OUTPUT]


def _said(error: Exception) -> str:
    if type(error).__name__ == "HostKeyNotVerifiable":
        return (
            "its host key is not the one that it had before; if the machine was made anew, remove its line from"
            f" {_PINNED} in the server's folder of keys"
        )
    return str(error) or type(error).__name__


def _library() -> Any:
    try:
        # Loading it takes a sixth of a second, which a server of this machine alone need not wait for.
        import asyncssh  # noqa: PLC0415
    except ImportError:
        raise NotSupportedError(
            "machines elsewhere are reached by SSH, whose library is not installed; "
            "install it with: pip install 'altostratus[ssh]'"
        ) from None
    return asyncssh

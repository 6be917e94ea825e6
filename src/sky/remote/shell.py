"""Commands on machines that a provider reaches itself: those of a pool, the login node of a batch system.

Made by `server.assembly`, one for each such cloud. A connection is kept while it is used, and a while longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sky.core.errors import AgentUnreachable, NotSupportedError
from sky.core.ports import Ran

from .errors import LoginRefused
from .keys import KeyRing
from .ways import way_of

if TYPE_CHECKING:
    from .ssh_link import SshLinks

#: Seconds for which a connection that nobody uses is kept.
_IDLE_S = 60.0


class Shells:
    """All of a server's; `secret` finds a password by cloud and the name that a `reach` has for it."""

    def __init__(self, keys: KeyRing, secret: Callable[[str, str], str | None]) -> None:
        self._keys = keys
        self._secret = secret
        self._links: SshLinks | None = None
        self._idle: dict[str, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def of(self, cloud: str) -> SshShell:
        """The one that a cloud's provider is given."""
        return SshShell(self, cloud)

    def links(self) -> SshLinks:
        """The connections. Raises NotSupportedError where the SSH library is not installed."""
        if self._links is None:
            try:
                # Takes a tenth of a second, which a server of this machine alone need not wait for.
                from .ssh_link import SshLinks  # noqa: PLC0415
            except ImportError:
                raise NotSupportedError(
                    "machines elsewhere are reached by SSH, whose library is not installed; "
                    "install it with: pip install 'altostratus[ssh]'"
                ) from None
            self._links = SshLinks(self._keys, self._secret)
        return self._links

    def used(self, user: str) -> None:
        """A connection is being used."""
        if (timer := self._idle.pop(user, None)) is not None:
            timer.cancel()

    def unused(self, user: str) -> None:
        """Nobody needs a connection just now."""
        self.used(user)
        self._idle[user] = asyncio.get_running_loop().call_later(_IDLE_S, self._let_go, user)

    def _let_go(self, user: str) -> None:
        self._idle.pop(user, None)
        task = asyncio.ensure_future(self.links().release(user))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all connections."""
        for timer in self._idle.values():
            timer.cancel()
        self._idle.clear()
        if self._links is not None:
            await self._links.close()
        await asyncio.gather(*self._closing, return_exceptions=True)


class SshShell:
    """See `core.ports.Shell`."""

    def __init__(self, shells: Shells, cloud: str) -> None:
        self._shells = shells
        self._cloud = cloud
        self._busy: dict[str, int] = {}

    async def run(
        self, reach: Mapping[str, str], argv: Sequence[str], *, input: bytes = b"", timeout: float = 30.0
    ) -> Ran:
        """See `core.ports.Shell`."""
        links = self._shells.links()
        import asyncssh  # noqa: PLC0415 - loaded by now, with the links

        from .ssh import SshChannel  # noqa: PLC0415 - as above

        way = way_of(reach, self._cloud)
        user = f"shell:{way}"
        self._shells.used(user)
        self._busy[user] = self._busy.get(user, 0) + 1
        try:
            channel = SshChannel(links.link(way, user), where=str(way))
            return Ran(*await channel.run(argv, input=input, timeout=timeout))
        except TimeoutError:
            raise AgentUnreachable(f"{way} did not answer within {timeout:g} s") from None
        except LoginRefused:
            raise
        except (OSError, asyncssh.Error) as error:
            raise AgentUnreachable(str(error)[:500]) from None
        finally:
            self._busy[user] -= 1
            if not self._busy[user]:
                del self._busy[user]
                self._shells.unused(user)

"""What this room needs of a node: run a command there, and reach its agent. Channels are `local.py` and `ssh.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sky.agent.connection import Connection

if TYPE_CHECKING:
    from .starting import Order, Outcome


class Completed(NamedTuple):
    """A command that has ended; `rc` is 128 + N when signal N ended it."""

    rc: int
    stdout: bytes
    stderr: bytes


class Channel(Protocol):
    """A way to a node."""

    where: str
    """How messages call the node."""
    python: str
    """The Python (3.8 or newer) that runs the agent there: a path, or a name looked up on the node."""

    async def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, input: bytes = b"", timeout: float = 60.0
    ) -> Completed:
        """Run a command to its end. TimeoutError when it takes longer than `timeout` seconds; it is killed then."""
        ...

    async def settle(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A node's configuration, completed by what only the node itself knows. Sets `python`."""
        ...

    async def start(self, order: Order) -> Outcome:
        """Have an agent answer on the node, by one command if it has a Python; see `starting.py`. Sets `python`."""
        ...

    async def open_agent(self) -> Connection:
        """A new connection to the node's agent; OSError when none listens."""
        ...

"""What this room needs of a node: run a command there, and reach its agent. Channels are `local.py` and `ssh.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from sky.agent.connection import Connection


class Completed(NamedTuple):
    """A command that has ended; `rc` is 128 + N when signal N ended it."""

    rc: int
    stdout: bytes
    stderr: bytes


class Order(NamedTuple):
    """The agent that is wanted: `version` of `archive`, as of `config`, which the node completes.

    It has `seconds` to come up; one that is there already is given `answers` seconds to answer.
    """

    config: Mapping[str, Any]
    version: str
    archive: bytes
    seconds: float
    answers: float

    @property
    def env(self) -> dict[str, str]:
        """Whatever belongs to a node carries its id in the environment: so all of it can be found and ended."""
        return {"SKY_NODE_ID": str(self.config["node_id"])}

    def __repr__(self) -> str:
        return f"Order({self.config.get('node_id')!r}, {self.version!r})"  # the configuration has the cluster's key


class Outcome(NamedTuple):
    """How it went: `found` and `started` are good; `ended` with the exit code `rc`, `late`, `failed`, `foreign` (the
    agent of another node answers there, which `said` names) are not. `said` is what the agent said last."""

    how: str
    rc: int | None = None
    said: str = ""
    problem: str = ""


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

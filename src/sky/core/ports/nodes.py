"""The way to the nodes of clusters and to their agents. Adapters: `server.fleet`, and `remote.shell` of `Shell`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sky.core.model.clusters import Autostop, Cluster
from sky.core.model.faults import NodeFault


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Bytes of a log from `offset` on; `next` is where to go on; `ended` once nothing can follow."""

    data: bytes
    next: int
    ended: bool


class AgentClient(Protocol):
    """The head's agent. Raises `AgentUnreachable` and `AgentRefused` of `core.errors`."""

    async def ping(self) -> Collection[int]:
        """Ranks of the other nodes that the head hears nothing of, if it answers."""
        ...

    async def submit(self, key: str, spec: Mapping[str, object]) -> tuple[int, str | None]:
        """Queue a job once; its number and its log directory."""
        ...

    async def jobs(self, job_ids: Sequence[int] | None = None) -> list[Mapping[str, object]]: ...

    async def cancel(self, job_ids: Sequence[int]) -> None: ...

    async def events(self, since: int, wait: float) -> tuple[list[Mapping[str, object]], int]:
        """Events after `since` and the next position; waits up to `wait` seconds for the first."""
        ...

    async def read_log(
        self, job_id: int, *, offset: int | None, tail: int | None, wait: float, which: str, rank: int | None
    ) -> LogPiece: ...

    async def set_autostop(self, autostop: Autostop) -> None: ...


class Fleet(Protocol):
    """The way to the nodes of clusters."""

    async def bring_up(self, cluster: Cluster, *, ran: bool = False) -> None:
        """The agent answers on every node when this returns. Raises AgentUnreachable with the node and the reason.

        Nodes that are new may take minutes to answer; one whose agent `ran` is given up after seconds.
        """
        ...

    async def head(self, cluster: Cluster) -> AgentClient: ...

    def connections(self) -> int:
        """Connections to machines elsewhere that are held now."""
        ...

    async def ask(self, cluster: Cluster, ranks: Collection[int]) -> None:
        """Ask the agents of these nodes for a sign of life. Raises AgentUnreachable with the first that gives none."""
        ...

    async def strike(self, cluster: Cluster, fault: NodeFault) -> int:
        """Let something go wrong on a node of the user's own machines; how many processes or lines it is about.

        Raises AgentRefused where there is nothing to strike, and AgentUnreachable.
        """
        ...

    async def announce(self, cluster: Cluster, seconds: float) -> None:
        """Give all nodes the notice that their tasks will be ended in so many seconds, as a cloud gives its own.

        Raises AgentUnreachable and AgentRefused once all were told that can be.
        """
        ...

    async def hooks(self, cluster: Cluster, event: str, scripts: Sequence[tuple[str, float]]) -> Sequence[str]:
        """Run scripts (with their limits in seconds) on the head before it is stopped (`stop`) or goes (`down`).

        Once for each time that the cluster is; how each ended, in words. Raises AgentUnreachable and AgentRefused.
        """
        ...

    async def quiesce(self, cluster: Cluster) -> None:
        """End the jobs' processes and the agents on every node that answers, before it is stopped or ended."""
        ...

    async def end_work(self, cluster: Cluster) -> None:
        """End all jobs on all of its nodes, also those that wait; none begins before the agents are brought up anew.

        Raises AgentUnreachable or AgentRefused with the first node of which that is not known.
        """
        ...

    async def sync(self, cluster: Cluster, manifest: str, destination: str) -> str:
        """Bring uploaded content to the same path on every node; words for the user about what travelled."""
        ...

    async def clone(self, cluster: Cluster, url: str, ref: str | None, env: Mapping[str, str]) -> str:
        """Check a git repository out as the working directory on every node; the commit that it is at.

        `env` are the variables and secrets of the task; those of git count.
        """
        ...

    async def fetch(self, cluster: Cluster, url: str, destination: str, env: Mapping[str, str]) -> str:
        """Have every node fetch a file from the web to the same path; words for the user about what travelled.

        `destination` is a folder if it ends in `/`; `env` may say how the web is reached. Raises AgentRefused.
        """
        ...

    async def introduce(self, cluster: Cluster, hosts: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Tell every node addresses with their names. Raises AgentUnreachable and AgentRefused with the node."""
        ...

    async def forget(self, cluster_id: str) -> None:
        """Close connections to a cluster's nodes."""
        ...


class Ran(NamedTuple):
    """A command that has ended; `rc` is 128 + N when signal N ended it. Outputs are bounded, the rest is cut off."""

    rc: int
    stdout: bytes
    stderr: bytes


class Shell(Protocol):
    """Commands on machines that a place does not start itself: those of a pool, the login node of a batch system."""

    async def run(
        self, reach: Mapping[str, str], argv: Sequence[str], *, input: bytes = b"", timeout: float = 30.0
    ) -> Ran:
        """Run a command to its end, by SSH. `reach` as `Instance.reach` has it.

        Raises AgentUnreachable with the reason when the machine cannot be reached, or takes longer than `timeout`.
        """
        ...

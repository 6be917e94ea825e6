"""What can happen to a cluster, and what can be ordered for it: the words of its table in `clusters.py`."""

from dataclasses import dataclass

from sky.core.model.clusters import Autostop, Instance, Site, Stray
from sky.core.model.offers import Placement

# --- events: facts in the past tense ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SideRefusal:
    """One of several placements that were tried side by side, and was refused.

    `doubtful`: the place could not even be asked whether anything was begun there.
    """

    placement: Placement
    scope: str
    reason: str
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class NodesCreated:
    """Every node of the placement exists (or runs again, after a stop).

    Of several placements tried side by side, `placement` at `site` was had first; `refused` are those that were not to
    be had. Nothing is left of the others but `left`, which could not be ended. `identity` is the account that owns the
    nodes.
    """

    instances: tuple[Instance, ...]
    placement: Placement | None = None
    site: Site | None = None
    identity: str | None = None
    refused: tuple[SideRefusal, ...] = ()
    left: tuple[Stray, ...] = ()


@dataclass(frozen=True, slots=True)
class ProvisionRefused:
    """The provider would not give the placement; nothing of it is left but `left`. `others` were tried at its side."""

    scope: str
    reason: str
    others: tuple[SideRefusal, ...] = ()
    left: tuple[Stray, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """Where the cluster could be had by now, best first."""

    placements: tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class Swept:
    """Something that was made for the cluster was found without an owner, and removed. `cloud`: machines, there."""

    what: str
    cloud: str = ""


@dataclass(frozen=True, slots=True)
class NotPlanned:
    """No new plan could be made."""

    reason: str


@dataclass(frozen=True, slots=True)
class NodesRemoved:
    """The nodes that a smaller cluster does not need are gone; those that it keeps are listed."""

    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class AgentsReady:
    """The agent answers on every node. `autostop`: what the head, and its place, were told of it on that way."""

    autostop: Autostop | None = None


@dataclass(frozen=True, slots=True)
class BootstrapFailed:
    """The agent could not be brought up on some node."""

    reason: str


@dataclass(frozen=True, slots=True)
class StartAsked:
    """Somebody wants the cluster up. `force` brings the agents up anew on a cluster that is."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class ResizeAsked:
    """Somebody wants another number of nodes."""

    num_nodes: int


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants the cluster stopped, its disks kept."""


@dataclass(frozen=True, slots=True)
class DownAsked:
    """Somebody wants the cluster gone. `purge` drops the record even if the provider fails."""

    purge: bool = False


@dataclass(frozen=True, slots=True)
class AutostopAsked:
    """Somebody set when an idle cluster stops."""

    autostop: Autostop


@dataclass(frozen=True, slots=True)
class AutostopConfigured:
    """The node knows when to stop by itself."""


@dataclass(frozen=True, slots=True)
class AutostopFailed:
    """The node could not be told when to stop, or (`heard`) its place not what becomes of it then."""

    reason: str
    heard: bool = False


@dataclass(frozen=True, slots=True)
class AutostopBegan:
    """The node said that it is about to stop by itself."""

    down: bool


@dataclass(frozen=True, slots=True)
class NodesStopped:
    """No node runs any more; those that exist are listed. `said`: how the hooks that ran before have ended."""

    instances: tuple[Instance, ...]
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodesTerminated:
    """Nothing of the cluster exists any more. `said`: how the hooks that ran before have ended."""

    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TeardownFailed:
    """Stopping or terminating failed."""

    reason: str


@dataclass(frozen=True, slots=True)
class NodesObserved:
    """What the provider lists now, and whether the head's agent answers (None: not asked)."""

    instances: tuple[Instance, ...]
    agent_answers: bool | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class LookFailed:
    """Neither the provider nor the head could be asked."""

    reason: str


@dataclass(frozen=True, slots=True)
class AgentSilent:
    """The watcher lost the head's agent; it may be back already."""

    reason: str


@dataclass(frozen=True, slots=True)
class StraysEnded:
    """At these places nothing runs any more that was begun there for nothing."""

    sites: tuple[Site, ...]


@dataclass(frozen=True, slots=True)
class NoticeHeard:
    """The place announced to a node that it takes the machine away, in so many seconds; `what` is its word."""

    rank: int
    what: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """What it was made for leaves it to its user."""


@dataclass(frozen=True, slots=True)
class HookEnded:
    """What was done on a node because of `event` (preemption, stop, down) has ended, or was begun; `said` is how."""

    event: str
    rank: int
    said: str


@dataclass(frozen=True, slots=True)
class RepairAsked:
    """The nodes of these ranks are gone, and are to be made anew beside the others, whose work ends.

    `number` counts the repairs of the cluster: one that was begun before is not begun again.
    """

    ranks: tuple[int, ...]
    number: int


@dataclass(frozen=True, slots=True)
class WorkEnded:
    """On the nodes that stay nothing of any job runs, and none will begin, before those of `ranks` are made anew."""

    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WorkNotEnded:
    """It is not known whether everything has ended on the nodes that were to stay."""

    reason: str


@dataclass(frozen=True, slots=True)
class Due:
    """It is time to look again."""


# --- orders: imperatives ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Provision:
    """Create the nodes of this placement, ending first what the cluster has at `instead_of`.

    Those of `beside` are tried at the same time: the first to be had is kept, and the rest ended.
    """

    placement: Placement
    instead_of: Site | None = None
    beside: tuple[Placement, ...] = ()


@dataclass(frozen=True, slots=True)
class Replan:
    """After `delay` seconds, look anew where the cluster could be had."""

    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Resize:
    """Make the nodes that are missing to a number, or end those that are beyond it."""

    num_nodes: int


@dataclass(frozen=True, slots=True)
class EndWork:
    """End all jobs on the nodes that stay when those of `ranks` are replaced."""

    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """Make the nodes of these ranks anew where the others are."""

    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Resume:
    """Start the stopped nodes again."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Bring the agent up on every node. `ran`: it did run there, so its machine answers soon or not at all."""

    ran: bool = False


@dataclass(frozen=True, slots=True)
class ConfigureAutostop:
    """Tell the head, after `delay` seconds, when to stop by itself, and its place what becomes of machines that do.

    `heard`: the head knows; its idle time is not to begin anew.
    """

    autostop: Autostop
    delay: float = 0.0
    heard: bool = False


@dataclass(frozen=True, slots=True)
class StopNodes:
    """End the nodes' processes and stop the machines, disks kept."""


@dataclass(frozen=True, slots=True)
class TerminateNodes:
    """Remove everything that the cluster has at its provider, after `delay` seconds."""

    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Observe:
    """Ask the provider what exists and the head whether it answers."""


@dataclass(frozen=True, slots=True)
class EndStrays:
    """End what is left at places that were tried for nothing."""


EVENTS: tuple[type, ...] = (
    NodesCreated, ProvisionRefused, AgentsReady, BootstrapFailed, StartAsked, StopAsked, DownAsked, AutostopAsked,
    AutostopConfigured, AutostopFailed, AutostopBegan, NodesStopped, NodesTerminated, TeardownFailed, NodesObserved,
    LookFailed, AgentSilent, Due, ResizeAsked, NodesRemoved, NoticeHeard, HookEnded, StraysEnded,
    Planned, NotPlanned, Released, Swept, RepairAsked, WorkEnded, WorkNotEnded,
)  # fmt: skip
ORDERS: tuple[type, ...] = (
    Provision, Resize, Resume, Bootstrap, ConfigureAutostop, StopNodes, TerminateNodes, Observe, EndStrays,
    Replan, EndWork, Replace,
)  # fmt: skip

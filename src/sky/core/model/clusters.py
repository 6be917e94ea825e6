"""A cluster: nodes that were asked for together, and what is known of them. Driven by `core.lifecycle.clusters`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sky.core.model.offers import Placement
from sky.core.model.statuses import ClusterStatus
from sky.core.model.tasks import DEFAULT_HOOK_TIMEOUT_SECONDS, hooks_for
from sky.kit.frozen import replace


class Phase(StrEnum):
    """What is really going on; finer than the status shown, and the key of the lifecycle table."""

    PROVISIONING = "PROVISIONING"
    BOOTSTRAPPING = "BOOTSTRAPPING"
    UP = "UP"
    DEGRADED = "DEGRADED"
    AUTOSTOPPING = "AUTOSTOPPING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    RESUMING = "RESUMING"
    RESIZING = "RESIZING"
    REPAIRING = "REPAIRING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"


SHOWN: Mapping[Phase, ClusterStatus] = {
    Phase.PROVISIONING: ClusterStatus.INIT,
    Phase.BOOTSTRAPPING: ClusterStatus.INIT,
    Phase.UP: ClusterStatus.UP,
    Phase.DEGRADED: ClusterStatus.INIT,
    Phase.AUTOSTOPPING: ClusterStatus.AUTOSTOPPING,
    Phase.STOPPING: ClusterStatus.INIT,
    Phase.STOPPED: ClusterStatus.STOPPED,
    Phase.RESUMING: ClusterStatus.INIT,
    Phase.RESIZING: ClusterStatus.INIT,
    Phase.REPAIRING: ClusterStatus.INIT,
    Phase.TERMINATING: ClusterStatus.INIT,
    Phase.TERMINATED: ClusterStatus.STOPPED,
}


class InstanceState(StrEnum):
    """A machine as its provider reports it."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    TERMINATED = "TERMINATED"


@dataclass(frozen=True, slots=True)
class Instance:
    """One machine of a provider.

    `id` is the node's, `<cluster id>-<rank>`; `machine` is what the provider calls it.
    `since` is when its state began, where the provider tells: seconds since the epoch.
    `ip` is the address among the nodes, `external_ip` the one from outside where there is another. `reach` says how to
    get a byte to it, and is read by `remote` alone: text to text, no secret among it. By `kind`:

    - `local`: `home`, `socket`, `keeper`, `devices`;
    - `ssh`: `host`, `port`, `user`; `host_key` (a public key as in `known_hosts`, or empty: pinned at first use);
      `identity` (a key file; empty: this installation's key); `secret` (what `Unlocks` knows the password by);
      `jump` (`user@host:port`, several with commas) or `proxy_command`; `home` (a folder under the user's home that
      is the node's alone; empty: the home itself);
    - `slurm`: as `ssh`, for the login node, and `job`, `node`; `home` may be an absolute path; `tmp` (a folder of the
      node's machine for what is temporary).
    """

    id: str
    cluster_id: str
    rank: int
    state: InstanceState
    ip: str
    reach: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None
    machine: str = ""
    external_ip: str | None = None
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Autostop:
    """When an idle cluster stops or goes. `idle_minutes` below zero means never."""

    idle_minutes: float = -1
    down: bool = False
    wait_for: str = "jobs_and_ssh"
    hooks: tuple[Mapping[str, object], ...] = ()

    @property
    def enabled(self) -> bool:
        return self.idle_minutes >= 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A placement that was refused, with its price: kept for the user, for the next choice and for the ledger."""

    place: str
    instance_type: str
    scope: str
    reason: str
    time: float
    price_hourly: float = 0.0
    use_spot: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """Where machines of a cluster may be: a place, and the mark that they carry there."""

    cloud: str
    region: str
    mark: str


@dataclass(frozen=True, slots=True)
class Stray:
    """What a place tried for nothing may still run for a cluster: it could not be ended when another place had won.

    It may cost `price_hourly` (USD) from `since` on. `identity` is the account that it would belong to.
    """

    site: Site
    since: float
    price_hourly: float
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as recorded.

    `version` grows by one with every committed step and keys the orders of that step. `candidates` are the placements
    still to be tried, best first; the one in use is `placement`. Times are seconds since the epoch.

    `sites` are where machines may be right now: one for a cluster that stands, several while places are tried side by
    side (`hedge` at most). `identity` is the account that the machines were made under. `layers` is what client and
    task lay over the server's configuration. `clone_of` is the image that its disks are made from, until it is up.
    `resize_to` is the number of nodes that it is being brought to. `rounds` are the placements to begin again with
    where the user asked to retry until up and no new plan can be made; `wrong` are those (place, type, spot) for which
    the request is not fit. `strays` are ended again and again until they are gone.
    `beside` are placements that were tried at the side of others, the newest. `entered`: what the cluster costs is in
    the ledger (`core.model.ledger`); else, as of those from before there was one, in `intervals` alone. `owner` is what
    it was made for and is ended by, `managed:<id>` of a managed job; None for the user themselves. `planned` are the
    best offers of its plan, for its receipt to compare with. `repairs` counts how often nodes of it were replaced,
    `heads` how often its head was among them. `swept` are clouds where the sweep ended machines
    of it of which this record did not know. `marked` counts the marks that places were asked under.
    """

    id: str
    name: str
    user: str
    workspace: str
    phase: Phase
    version: int
    created_at: float
    status_at: float
    num_nodes: int
    resources: str = "-"
    resources_config: Mapping[str, object] = field(default_factory=dict)
    request_id: str | None = None
    command: str = ""
    task_config: Mapping[str, object] = field(default_factory=dict)
    placement: Placement | None = None
    candidates: tuple[Placement, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    instances: tuple[Instance, ...] = ()
    autostop: Autostop = Autostop()
    launched_at: float | None = None
    ended_at: float | None = None
    reason: str | None = None
    ever_up: bool = False
    purge: bool = False
    strikes: int = 0
    retry_until_up: bool = False
    intervals: tuple[tuple[float, float | None, float], ...] = ()
    sites: tuple[Site, ...] = ()
    identity: str | None = None
    layers: Mapping[str, object] = field(default_factory=dict)
    hedge: int = 1
    clone_of: str | None = None
    resize_to: int | None = None
    rounds: tuple[Placement, ...] = ()
    strays: tuple[Stray, ...] = ()
    wrong: tuple[tuple[str, str, bool], ...] = ()
    beside: tuple[Placement, ...] = ()
    entered: bool = False
    owner: str | None = None
    planned: tuple[Placement, ...] = ()
    repairs: int = 0
    heads: int = 0
    swept: tuple[str, ...] = ()
    marked: int = 0

    def hooks(self, event: str) -> tuple[tuple[str, float], ...]:
        """Scripts that the task of its launch wants run before the event, each with its limit in seconds."""
        config = self.task_config.get("config")
        found = hooks_for(config, event) if isinstance(config, Mapping) else ()
        return tuple((str(each["run"]), float(each.get("timeout") or DEFAULT_HOOK_TIMEOUT_SECONDS)) for each in found)

    def autostop_with_hooks(self, autostop: Autostop) -> Autostop:
        """What its head is told: when it goes by itself, and what it runs before."""
        event = "down" if autostop.down else "stop"
        said = tuple({"run": run, "timeout": timeout} for run, timeout in self.hooks(event))
        return replace(autostop, hooks=(*autostop.hooks, *said)) if autostop.enabled and said else autostop

    @property
    def where(self) -> tuple[Site, ...]:
        """Everywhere that machines of it may be."""
        return (*self.standing, *(each.site for each in self.strays))

    @property
    def standing(self) -> tuple[Site, ...]:
        """Where machines of it are that it uses, or may be had."""
        if self.sites or self.placement is None or not self.instances:
            return self.sites
        # Recorded before sites were.
        return (Site(self.placement.offer.cloud, self.placement.offer.region, self.id),)

    @property
    def site(self) -> Site | None:
        """Where the machines are that it uses, or is to use."""
        return self.standing[0] if self.standing else None

    @property
    def billed(self) -> tuple[tuple[float, float | None, float], ...]:
        """What costs money: `intervals`, and what may still run where it was tried for nothing."""
        return (*((each.since, None, each.price_hourly) for each in self.strays), *self.intervals)

    @property
    def status(self) -> ClusterStatus:
        """The status shown to users."""
        return SHOWN[self.phase]

    @property
    def alive(self) -> bool:
        """Whether the record still stands for something that exists or is wanted."""
        return self.phase is not Phase.TERMINATED

    @property
    def head(self) -> Instance | None:
        """The node of rank 0, where the job queue lives."""
        return next((instance for instance in self.instances if instance.rank == 0), None)

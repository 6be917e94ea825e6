"""Places with compute: the required contract of a provider, and the optional ones. Adapters: `providers`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from sky.core.model.clusters import Instance
from sky.core.model.ledger import Span
from sky.core.model.machines import Login, MachineSpec
from sky.core.model.offers import Offer, Placement
from sky.core.model.place_rules import PlaceRules


@dataclass(frozen=True, slots=True)
class Access:
    """Whether a place can be used by this user, and if not, why and what to do.

    `credentials` says whether the user's were found, which a place may have and still not be usable; `None` where the
    place takes none, or nobody looked.
    """

    cloud: str
    enabled: bool
    reason: str = ""
    hint: str = ""
    account: str | None = None
    capabilities: tuple[str, ...] = ()
    credentials: bool | None = None


def _unheard(text: str) -> None:
    """Progress that nobody asked for."""


@dataclass(frozen=True, slots=True)
class CreateAsk:
    """What to create. `key` is the same when the call is repeated, and must then give the same machines.

    `cluster_id` is the mark that the machines carry, `labels` are the system's own (the user's are in `machine`).
    `ranks` are the nodes to make, all of the placement's if empty; a cluster that grows keeps the others. `config` is
    the place's section of the configuration as it stands for this launch. `say` takes lines of progress for the user.
    `pinned`: the task names this very zone, so that there is nothing to be gained by giving up on it soon.
    """

    key: str
    cluster_id: str
    cluster_name: str
    placement: Placement
    labels: Mapping[str, str] = field(default_factory=dict)
    machine: MachineSpec = field(default_factory=MachineSpec)
    ranks: tuple[int, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    say: Callable[[str], None] = _unheard
    pinned: bool = False

    @property
    def wanted(self) -> tuple[int, ...]:
        """Ranks of the nodes to make."""
        return self.ranks or tuple(range(self.placement.num_nodes))


class Compute(Protocol):
    """The required contract of a provider.

    `cluster_id` is the mark of `CreateAsk`. `regions` says where to look, in the provider's own names; None is
    everywhere that the account reaches, which may take many calls. Machines of other installations are never seen.

    Promises: listing may lag behind creating; ids are never used twice; `create` is idempotent by key, returns when
    all nodes run, and leaves nothing behind when it raises or is cancelled (a cancelled one may need a `terminate`);
    `terminate` of what is gone succeeds, and removes all that was made for the cluster alone. Failures are the
    `ProviderFailure`s of `core.errors`, each with the scope that it condemns.
    """

    async def check(self) -> Access: ...

    async def offers(self) -> Sequence[Offer]:
        """What only the place itself can tell that it sells; nothing where the catalog knows."""
        ...

    async def create(self, ask: CreateAsk) -> Sequence[Instance]:
        """Make nodes; all that the cluster has then, by rank."""
        ...

    async def list(
        self, cluster_id: str | None = None, *, regions: Collection[str] | None = None
    ) -> Sequence[Instance]: ...

    async def terminate(
        self, cluster_id: str, *, regions: Collection[str] | None = None, ranks: Collection[int] | None = None
    ) -> None:
        """End the nodes of these ranks, or (None) the cluster with all that was made for it."""
        ...


@runtime_checkable
class Stoppable(Protocol):
    """Optional: machines can be stopped with their disks kept."""

    async def stop(self, cluster_id: str, *, regions: Collection[str] | None = None) -> Sequence[Instance]: ...

    async def start(self, cluster_id: str, *, regions: Collection[str] | None = None) -> Sequence[Instance]: ...


@runtime_checkable
class StopsSome(Protocol):
    """Optional, beside `Stoppable`: some of the place's machines cannot be stopped, only ended."""

    def unstoppable(
        self, offer: Offer, config: Mapping[str, object] | None = None, made: Sequence[Instance] = ()
    ) -> str | None:
        """Why machines of an offer cannot be stopped; None where they can.

        `made` are those that a cluster has; while there are none, `config` is what they would be made by (as of
        `CreateAsk`; None: the place's own).
        """
        ...


@runtime_checkable
class EndsItself(Protocol):
    """Optional: a machine that shuts itself down can be gone with its disk instead of stopped."""

    async def end_on_shutdown(self, cluster_id: str, ends: bool, *, regions: Collection[str] | None = None) -> None:
        """What becomes of each machine of a cluster that is shut down from inside, from now on. May be repeated."""
        ...


@runtime_checkable
class KeepsSize(Protocol):
    """Optional: some of the place's clusters have the number of nodes for good that they were made with."""

    def unresizable(self, num_nodes: int, wanted: int) -> str | None:
        """Why a cluster cannot have another number of nodes; None where it can."""
        ...


@runtime_checkable
class ReplacesNodes(Protocol):
    """Optional: nodes that are gone can be made anew beside the others of their cluster, by `CreateAsk.ranks`."""

    def irreplaceable(self, placement: Placement, config: Mapping[str, object]) -> str:
        """Why that cannot be done for a placement, `config` as of `CreateAsk`; empty where it can."""
        ...


@runtime_checkable
class Identified(Protocol):
    """Optional: the place knows who is asking. A cluster is touched under the identity that made it, or not at all."""

    async def identity(self) -> str:
        """The account, in a form that is the same tomorrow. Cheap to ask for again. Raises CredentialsRejected."""
        ...


@runtime_checkable
class Regional(Protocol):
    """Optional: each region has to be asked by itself, so that looking everywhere takes many calls."""

    async def regions(self) -> Sequence[str]:
        """Regions that the account can use."""
        ...


@runtime_checkable
class OpensPorts(Protocol):
    """Optional: ports can be opened while a cluster lives."""

    async def open_ports(
        self, cluster_id: str, ports: Sequence[str], *, regions: Collection[str] | None = None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class DiskImage:
    """What there is of an image that was made of a cluster's disk, for the ask of this key."""

    name: str
    key: str
    region: str = ""


@runtime_checkable
class ClonesDisks(Protocol):
    """Optional: the disk of a stopped cluster's head can be the image of another cluster. Images cost money."""

    async def image_of(self, cluster_id: str, key: str, *, regions: Collection[str] | None = None) -> str:
        """Make an image and return its name for `MachineSpec.clone_of`, once it is ready; the same again for a key.

        It outlives the cluster, until it is removed.
        """
        ...

    async def images(self, *, regions: Collection[str] | None = None) -> Sequence[DiskImage]:
        """All that there is of images of this installation, parts of one that was not removed whole among it."""
        ...

    async def remove_image(self, name: str, *, regions: Collection[str] | None = None) -> None:
        """Remove an image and what it is made of; machines that came of it stay. What is gone is no failure."""
        ...


@dataclass(frozen=True, slots=True)
class Remnant:
    """Something with our mark that is no machine: `kind` in the provider's word, `region` where it is asked for.

    `since` is when it was made (seconds since the epoch), None where the provider does not tell. `used`: a machine
    holds it, so that it goes when that does.
    """

    kind: str
    name: str
    mark: str
    region: str = ""
    since: float | None = None
    used: bool = False


@runtime_checkable
class Remnants(Protocol):
    """Optional: what was made for clusters beside their machines, and is not gone, can be listed and removed."""

    async def remnants(self, *, regions: Collection[str] | None = None) -> Sequence[Remnant]:
        """Disks, addresses, rules, groups of this installation, each with the mark of its cluster."""
        ...

    async def remove_remnant(self, remnant: Remnant) -> None:
        """Remove one of these. What is gone is no failure; what is used raises ProviderFailure."""
        ...


class Extras(NamedTuple):
    """USD per hour of what a machine has beside itself: its disk, a public address. None is not known."""

    disk_hourly: float | None = None
    address_hourly: float | None = None


@runtime_checkable
class PricesExtras(Protocol):
    """Optional: the place knows what disks and addresses cost, from a source that it names."""

    def extras(self, offer: Offer, machine: MachineSpec) -> Extras:
        """Of one machine of an offer with this equipment."""
        ...


@runtime_checkable
class Metered(Protocol):
    """Optional: the place remembers when machines of this installation ran, also those that are gone."""

    async def spans(self, *, regions: Collection[str] | None = None) -> Sequence[Span]:
        """Times that were charged for, those of the last hour at least; of a machine perhaps only the last time."""
        ...


@runtime_checkable
class Quotas(Protocol):
    """Optional: how much of an offer the account may still have is known before it is asked for."""

    async def room(self, offer: Offer) -> int | None:
        """Nodes of this offer that the quota leaves; None where that cannot be told. Raises nothing, answers soon."""
        ...


@runtime_checkable
class Unlocks(Protocol):
    """Optional: keeps secrets that reaching a node takes, so that no record needs to hold them."""

    def secret(self, name: str) -> str | None:
        """The secret that `Instance.reach["secret"]` names, as it is now."""
        ...


@dataclass(frozen=True, slots=True)
class MachineReport:
    """A machine of the user's as it stands: what it has, and what of that is free. Memory in GiB.

    `state` is `up`, `silent` (it does not answer) or `wrong` (it answers, and cannot be used); `detail` says why.
    """

    pool: str
    machine: str
    state: str
    detail: str = ""
    cpus: float = 0.0
    free_cpus: float = 0.0
    memory_gb: float = 0.0
    free_memory_gb: float = 0.0
    accelerators: Mapping[str, float] = field(default_factory=dict)
    free_accelerators: Mapping[str, float] = field(default_factory=dict)
    holders: tuple[str, ...] = ()


@runtime_checkable
class KeepsMachines(Protocol):
    """Optional: the place is made of machines that the user named, which have to be looked at to be known."""

    async def look(self, pool: str | None = None, text: str | None = None) -> Sequence[MachineReport]:
        """Look at the machines of a pool (None: all); `text` defines pools first, as the user's file would.

        Raises InvalidSkyPilotConfigError.
        """
        ...

    async def forget(self, pool: str | None = None, *, force: bool = False) -> Sequence[str]:
        """Know nothing of a pool's machines any more; names of pools. Raises NotSupportedError while clusters use it.

        `force`: also then; what runs there goes on.
        """
        ...


@runtime_checkable
class Closes(Protocol):
    """Optional: holds threads or connections that are to end with the server."""

    async def close(self) -> None: ...


class Keys(Protocol):
    """Makes the keys of clusters out of one secret of this installation: the same again after a crash."""

    def login(self, cluster_id: str) -> Login:
        """Raises NotSupportedError where the SSH library is not installed."""
        ...


class Providers(Protocol):
    """The providers that this server may use."""

    def names(self) -> Sequence[str]:
        """Places where machines can be rented."""
        ...

    def places(self) -> Sequence[str]:
        """All places that are known, whether machines can be rented there or not."""
        ...

    def offered(self, cloud: str) -> frozenset[str] | None:
        """The features that a place is known to have, `None` where nothing is known. Raises NotSupportedError."""
        ...

    def likely(self, cloud: str) -> bool:
        """Whether anything says that the place is used: credentials or settings are there, or it takes none."""
        ...

    def rules(self, cloud: str) -> PlaceRules:
        """What a place wants of labels and images; nothing where nothing is known."""
        ...

    async def check(self, cloud: str) -> Access:
        """Whether a place can be used, with the reason if not. Raises nothing."""
        ...

    def compute(self, cloud: str) -> Compute:
        """Raises NotSupportedError for a cloud that is not here."""
        ...

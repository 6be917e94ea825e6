"""The protocols through which the engine acts. Adapters live in `store`, `providers` and `server`; the sim has its own.

Everything is asynchronous so that an adapter may wait; the SQLite store never does.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Protocol, TypeVar, runtime_checkable

from sky.core.catalog.overrides import Overrides
from sky.core.lifecycle.machine import Step
from sky.core.model.catalog import (
    CloudSummary,
    Egress,
    InstanceType,
    Listing,
    Place,
    Quarantined,
    Query,
    Refreshed,
    Row,
    Source,
)
from sky.core.model.clusters import Autostop, Cluster, Instance
from sky.core.model.events import Entry
from sky.core.model.jobs import Job
from sky.core.model.offers import Offer, Placement
from sky.core.model.outcomes import Outcome
from sky.core.model.place_rules import PlaceRules
from sky.core.model.requests import Request

E = TypeVar("E")


class LeaseLost(Exception):
    """The row was committed by somebody else since it was claimed; whatever was decided on it is void."""


# --- store -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Letter:
    """An event posted to an entity from outside its own loop, in order of arrival."""

    id: int
    event: object


@dataclass(frozen=True, slots=True)
class StandingOrder:
    """An order on record whose outcome is not; `key` is the same at every repeat."""

    key: str
    order: object


@dataclass(frozen=True, slots=True)
class Claim(Generic[E]):
    """A row held under a lease: nobody else may commit it until `expires` (seconds since the epoch)."""

    entity: E
    token: str
    expires: float
    orders: tuple[StandingOrder, ...] = ()
    letters: tuple[Letter, ...] = ()


class Rows(Protocol[E]):
    """Leased rows of one noun."""

    async def get(self, id: str) -> E | None: ...

    async def claim(
        self, now: float, lease_s: float, token: str, limit: int, *, but_not: Collection[str] = ()
    ) -> list[Claim[E]]:
        """Rows that are due, have letters or standing orders, and that nobody holds.

        `but_not` are those that the caller is busy with: after a jump of the clock their leases seem to have run out.
        """
        ...

    async def reload(self, claim: Claim[E]) -> Claim[E]:
        """The same claim with the letters that have arrived since."""
        ...

    async def renew(self, claim: Claim[E], expires: float) -> Claim[E]:
        """Hold on for longer. Raises LeaseLost."""
        ...

    async def commit(
        self,
        claim: Claim[E],
        step: Step[E],
        event: object,
        *,
        now: float,
        due_at: float | None,
        letters: Iterable[int] = (),
        done: str | None = None,
    ) -> Claim[E]:
        """Write entity, version + 1, the event and the orders in one transaction; consume letters and the done order.

        Guarded by token and version: raises LeaseLost if the row has moved on.
        """
        ...

    async def release(self, claim: Claim[E]) -> None:
        """Let go of the row; harmless if it is lost already."""
        ...

    async def post(self, id: str, event: object, now: float, *, once: str | None = None) -> int:
        """Leave a letter, under the name `once` at most once; the row becomes claimable. The letter's number."""
        ...

    async def heeded(self, letter: int) -> bool:
        """Whether a letter has been read, and what followed from it is on record."""
        ...


class ClusterRows(Rows[Cluster], Protocol):
    """Clusters."""

    async def open(self, step: Step[Cluster], now: float) -> tuple[Cluster, bool]:
        """Record a new cluster with its first orders; if a living one has the name, that one and False."""
        ...

    async def by_name(self, name: str) -> Cluster | None:
        """The living cluster of this name."""
        ...

    async def living(self) -> list[Cluster]: ...

    async def since(self, ended_after: float) -> list[Cluster]:
        """Living clusters, and those that ended after a time, newest first."""
        ...

    async def by_request(self, request_id: str) -> Cluster | None:
        """The newest cluster that this request opened, living or not."""
        ...


class JobRows(Rows[Job], Protocol):
    """Jobs on clusters."""

    async def open(self, step: Step[Job], now: float) -> tuple[Job, bool]:
        """Record a new job with its first orders; if its request has one on record, that one and False."""
        ...

    async def by_number(self, cluster_id: str, job_id: int) -> Job | None: ...

    async def of_cluster(self, cluster_id: str) -> list[Job]:
        """All jobs of a cluster, newest first."""
        ...

    async def bereft(self) -> list[Job]:
        """Jobs that have not ended although their cluster was stopped or is gone."""
        ...

    async def by_request(self, request_id: str) -> Job | None: ...


class RequestRows(Rows[Request], Protocol):
    """Requests."""

    async def open(self, request: Request, now: float) -> tuple[Request, bool]:
        """Record a request; if its id is on record, that one and False."""
        ...

    async def find(self, prefix: str) -> list[Request]:
        """Requests whose id begins so; at most ten."""
        ...

    async def recent(self, *, finished: bool, cluster_name: str | None, limit: int | None) -> list[Request]:
        """Newest first."""
        ...


class Stories(Protocol):
    """The event log."""

    async def read(self, entity: str, id_or_name: str, *, after: int = 0, limit: int = 1000) -> list[Entry]: ...

    async def last_of_each(self, entity: str, ids: Sequence[str]) -> Mapping[str, Entry]: ...


class Outcomes(Protocol):
    """What places answered when machines were asked for."""

    @property
    def revision(self) -> int:
        """Changes when this process added one: what was learnt from them before is out of date."""
        ...

    async def add(self, outcome: Outcome) -> None: ...

    async def since(self, at: float) -> Sequence[Outcome]:
        """Those from a time on (seconds since the epoch), oldest first; at most some tens of thousands."""
        ...


class Store(Protocol):
    """Everything that is remembered."""

    @property
    def clusters(self) -> ClusterRows: ...
    @property
    def jobs(self) -> JobRows: ...
    @property
    def requests(self) -> RequestRows: ...
    @property
    def stories(self) -> Stories: ...
    @property
    def outcomes(self) -> Outcomes: ...

    async def get_value(self, key: str) -> str | None:
        """A small named value (a watcher's position, a check's outcome)."""
        ...

    async def set_value(self, key: str, value: str) -> None: ...

    async def forget(self, requests_before: float, clusters_before: float) -> list[str]:
        """Delete a batch of what ended before these times; ids of the requests among it, empty when none is left."""
        ...

    async def manifests_in_use(self) -> Collection[str]:
        """Manifests of uploads that requests or jobs may still ask for."""
        ...

    async def close(self) -> None: ...


# --- providers -------------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class CreateAsk:
    """What to create. `key` is the same when the call is repeated, and must then give the same machines."""

    key: str
    cluster_id: str
    cluster_name: str
    placement: Placement
    labels: Mapping[str, str] = field(default_factory=dict)


class Compute(Protocol):
    """The required contract of a provider.

    Promises: listing may lag behind creating; ids are never used twice; `create` is idempotent by key and leaves
    nothing behind when it raises; `terminate` of what is gone succeeds. Failures are the `ProviderFailure`s of
    `core.errors`, each with the scope that it condemns.
    """

    async def check(self) -> Access: ...

    async def offers(self) -> Sequence[Offer]: ...

    async def create(self, ask: CreateAsk) -> Sequence[Instance]: ...

    async def list(self, cluster_id: str | None = None) -> Sequence[Instance]: ...

    async def terminate(self, cluster_id: str) -> None: ...


@runtime_checkable
class Stoppable(Protocol):
    """Optional: machines can be stopped with their disks kept."""

    async def stop(self, cluster_id: str) -> Sequence[Instance]: ...

    async def start(self, cluster_id: str) -> Sequence[Instance]: ...


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

    def rules(self, cloud: str) -> PlaceRules:
        """What a place wants of labels and images; nothing where nothing is known."""
        ...

    async def check(self, cloud: str) -> Access:
        """Whether a place can be used, with the reason if not. Raises nothing."""
        ...

    def compute(self, cloud: str) -> Compute:
        """Raises NotSupportedError for a cloud that is not here."""
        ...


# --- the catalog -----------------------------------------------------------------------------------------------------


class Catalog(Protocol):
    """One generation of what places sell, as `store.catalog` reads it. Questions are answered in line, not awaited."""

    @property
    def generation(self) -> str:
        """Its name, different for each content."""
        ...

    def offers(self, query: Query) -> Iterator[Offer]:
        """What has a price, cheapest first, found lazily: taking the first twenty costs about as much as the first."""
        ...

    def listings(self, query: Query) -> Iterator[Listing]:
        """One for each type and region, also without a price; by accelerator, count, price."""
        ...

    def types(self, name: str, cloud: str | None = None) -> list[InstanceType]:
        """The types of this name."""
        ...

    def type_names(self, cloud: str | None = None) -> Sequence[str]:
        """The names of all types, each once: what a misspelt one is compared with."""
        ...

    def places(self, cloud: str | None = None) -> list[Place]:
        """Regions and zones in which something is sold, by name."""
        ...

    def accelerators(self) -> Mapping[str, str]:
        """Every known spelling in lower case to the canonical name."""
        ...

    def egress(self) -> Sequence[Egress]: ...

    def sources(self) -> Sequence[Source]: ...

    def quarantined(self) -> Sequence[Quarantined]: ...

    def summary(self) -> Sequence[CloudSummary]:
        """What it holds of each cloud, by name."""
        ...


class Catalogs(Protocol):
    """The catalog as it is now, what the user lays over it, and the way to a newer one."""

    def current(self) -> Catalog:
        """The newest generation; cheap to ask for again. Raises CatalogMissing when there is none."""
        ...

    def overrides(self) -> Overrides:
        """The user's own prices, places, reservations and refusals, as the files are now.

        Raises InvalidSkyPilotConfigError with the file and the place in it.
        """
        ...

    def refreshable(self) -> Sequence[str]:
        """Clouds that have something to be asked for prices."""
        ...

    async def refresh(
        self,
        clouds: Sequence[str] | None,
        if_older_s: float | None,
        say: Callable[[str], None],
        *,
        accept: bool = False,
    ) -> Sequence[Refreshed]:
        """Ask for new prices of some clouds (None: of all that can be asked), side by side, and swap them in.

        Clouds whose prices are younger than `if_older_s` seconds are left alone. One cloud's failure is its own.
        `accept`: take also what differs too much from the prices before.
        """
        ...


class Reply(Protocol):
    """An answer to a `Web.get`, read as a stream; leaving the context closes it."""

    @property
    def unchanged(self) -> bool:
        """The server says that the document is the one that was known."""
        ...

    @property
    def etag(self) -> str | None: ...

    @property
    def last_modified(self) -> str | None: ...

    def lines(self) -> Iterator[str]:
        """Lines of text, decoded, without their ends; gzip is undone."""
        ...

    def json(self) -> object:
        """The whole document, within the bound on its size."""
        ...

    def __enter__(self) -> "Reply": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Web(Protocol):
    """Asks the world outside on behalf of a price source: bounded in size and time, conditional where it can be."""

    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        known: Source | None = None,
        at_most: int = 64 * 2**20,
    ) -> Reply:
        """GET, or POST where there is a `body`. `at_most` bytes, counted after decompression.

        Raises ProviderDown, Throttled, CredentialsRejected or RequestInvalid, with the URL and what was said.
        """
        ...


@dataclass(frozen=True, slots=True)
class PriceAsk:
    """What a price source is asked with: the time, the documents known from last time by URL, its configuration.

    `config` is the section of the cloud in the user's configuration; `endpoint` under it replaces the public one.
    """

    now: float
    known: Mapping[str, Source] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)


class PriceSource(Protocol):
    """What a provider's manifest names for prices: called in a thread of its own, streams rows as they are read.

    Raises the `ProviderFailure`s of `core.errors`; rows that were yielded before then count for nothing.
    """

    def __call__(self, web: Web, ask: PriceAsk) -> Iterator[Row]: ...


# --- nodes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Bytes of a log from `offset` on; `next` is where to go on; `ended` once nothing can follow."""

    data: bytes
    next: int
    ended: bool


class AgentClient(Protocol):
    """The head's agent. Raises `AgentUnreachable` and `AgentRefused` of `core.errors`."""

    async def ping(self) -> None: ...

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

    async def bring_up(self, cluster: Cluster) -> None:
        """The agent answers on every node when this returns. Raises AgentUnreachable with the node and the reason."""
        ...

    async def head(self, cluster: Cluster) -> AgentClient: ...

    async def quiesce(self, cluster: Cluster) -> None:
        """End the jobs' processes and the agents on every node that answers, before it is stopped or ended."""
        ...

    async def sync(self, cluster: Cluster, manifest: str, destination: str) -> str:
        """Bring uploaded content to the same path on every node; words for the user about what travelled."""
        ...

    async def clone(self, cluster: Cluster, url: str, ref: str | None, env: Mapping[str, str]) -> str:
        """Check a git repository out as the working directory on every node; the commit that it is at."""
        ...

    async def forget(self, cluster_id: str) -> None:
        """Close connections to a cluster's nodes."""
        ...


# --- wake-ups --------------------------------------------------------------------------------------------------------


class Watch(Protocol):
    """Notices changes of a topic since the last look; none is missed between two looks."""

    async def changed(self, timeout: float) -> bool:
        """True when notified since the last call, False after `timeout` seconds."""
        ...


class Wakeups(Protocol):
    """Hints that something changed; polling is the truth behind them."""

    def notify(self, topic: str) -> None: ...

    def watch(self, topic: str) -> Watch: ...


class Progress(Protocol):
    """Where a request's talk for the user goes; kept with the request, read back by offset."""

    def say(self, request_id: str, text: str) -> None: ...

    def follow(self, request_id: str, offset: int) -> AsyncIterator[tuple[bytes, int]]: ...

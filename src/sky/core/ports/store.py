"""What is remembered: leased rows of every noun, their stories, and what places answered. Adapter: `store`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sky.core.lifecycle.machine import Step
from sky.core.model.audit import AuditLine
from sky.core.model.budgets import Budget, Reservation, Standing
from sky.core.model.clusters import Cluster
from sky.core.model.events import Entry
from sky.core.model.jobs import Job
from sky.core.model.ledger import Booking, Line, Question, Settlement
from sky.core.model.managed_jobs import ManagedJob
from sky.core.model.notifications import Parcel
from sky.core.model.outcomes import Outcome
from sky.core.model.requests import Request
from sky.core.model.schedules import Schedule
from sky.core.model.users import Token, User
from sky.core.model.vitals import Counts, Spent
from sky.core.policy.admission import UnderWay, Waiting
from sky.core.ports.pools import PoolRows
from sky.core.ports.rows import Rows


class ClusterRows(Rows[Cluster], Protocol):
    """Clusters."""

    async def open(self, step: Step[Cluster], now: float) -> tuple[Cluster, bool]:
        """Record a new cluster with its first orders; if a living one has the name, that one and False."""
        ...

    async def by_name(self, name: str) -> Cluster | None:
        """The living cluster of this name."""
        ...

    async def living(self) -> list[Cluster]: ...

    async def living_of(self, ids: Collection[str]) -> list[Cluster]:
        """Those among them that live, in no order."""
        ...

    async def owned_by(self, owner: str) -> list[Cluster]:
        """Those that live and were made for this owner, in no order."""
        ...

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

    async def bereft(self, clusters: Collection[str] | None = None) -> list[Job]:
        """Jobs, of these clusters or of all, that have not ended although their cluster was stopped or is gone."""
        ...

    async def by_request(self, request_id: str) -> Job | None: ...


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which managed jobs are asked for; what is None asks for all. Times are of their submission, in seconds."""

    numbers: Sequence[int] | None = None
    users: Sequence[str] | None = None
    workspaces: Sequence[str] | None = None
    statuses: Sequence[str] | None = None
    unfinished: bool = False
    name: str | None = None
    after: float | None = None
    before: float | None = None
    limit: int | None = None
    #: Members in the place of those that only lead them.
    with_clusters: bool = False
    #: The id of a pool.
    pool: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """The newest of the jobs that were asked for, and how many of them there are by status."""

    jobs: Sequence[ManagedJob]
    counts: Mapping[str, int]


class ManagedJobRows(Rows[ManagedJob], Protocol):
    """Managed jobs."""

    async def open(self, steps: Sequence[Step[ManagedJob]], now: float) -> list[ManagedJob]:
        """Record the jobs of one request, with their numbers; if it has any on record, those."""
        ...

    async def by_number(self, number: int) -> ManagedJob | None: ...

    async def of_request(self, request_id: str) -> list[ManagedJob]: ...

    async def of_parent(self, id: str) -> list[ManagedJob]:
        """The members of a parent, in their order."""
        ...

    async def attached(self, id: str) -> list[str]:
        """Ids of those that were launched into a group and have not ended."""
        ...

    async def leading(self) -> list[str]:
        """Ids of parents that have not ended."""
        ...

    async def waits_over(self, most: int) -> list[str]:
        """Ids of those that wait for a job that has ended, or that is not on record any more."""
        ...

    async def listed(self, query: JobQuery) -> Listed:
        """Newest first."""
        ...

    async def waiting(self, most: int) -> list[Waiting]:
        """Those that wait for clusters of their own, in the order of their turn."""
        ...

    async def waiting_in(self, pool_id: str, most: int) -> list[Waiting]:
        """Those that wait for a worker of a pool, for the first time or again, in the order of their turn."""
        ...

    async def placing_in(self, pool_id: str) -> int:
        """How many were told that it is their turn in a pool, and have no worker yet."""
        ...

    async def before(self, turn: float, pool_id: str | None = None) -> int:
        """How many wait whose turn is earlier: for clusters of their own, or for a worker of a pool."""
        ...

    async def under_way(self) -> UnderWay: ...

    async def moved(self, most: int) -> list[str]:
        """Ids of those whose cluster, or job there, is not as it was when it was looked at last."""
        ...

    async def logged(self, ids: Collection[str] | None = None) -> list[tuple[str, str]]:
        """Ids of those, of all or among these, that may have a job on a cluster, each with that cluster's."""
        ...

    async def silent(self, ids: Collection[str]) -> set[str]:
        """Those among them of which it is known that they name nobody who is to be told of their changes."""
        ...

    async def limited(self) -> list[ManagedJob]:
        """Those that have not ended and may cost only so much."""
        ...

    async def stray_clusters(self) -> list[tuple[str, str]]:
        """Living clusters that were some managed job's and are not needed by it any more, each with the job's id."""
        ...


class RequestRows(Rows[Request], Protocol):
    """Requests."""

    async def unended(self) -> int:
        """How many have not ended."""
        ...

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


class LedgerRows(Protocol):
    """What is billed. Lines are written by commits of clusters, each together with the step that it follows from."""

    async def lines(self, asked: Question) -> Sequence[Line]:
        """Lines that are asked for, oldest first; of very many the newest."""
        ...

    async def of_clusters(self, ids: Iterable[str]) -> Sequence[Line]:
        """All lines of these clusters, oldest first."""
        ...

    async def of_origin(self, origin: str) -> Sequence[Line]:
        """All lines of what was made for one thing, oldest first."""
        ...

    async def book(self, booking: Booking) -> None:
        """Begin and end lines that follow from no commit; what is on record already is not begun again."""
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Bring lines that have ended in line with what a provider remembers."""
        ...


class BudgetRows(Protocol):
    """Budgets, and what is promised against them. Adapter: `store.budgets`."""

    async def put(self, budget: Budget) -> None:
        """Record a budget, in the place of one of its name."""
        ...

    async def remove(self, name: str) -> bool:
        """Forget a budget; whether there was one."""
        ...

    async def all(self) -> list[Budget]: ...

    async def standings(self, now: float) -> list[Standing]:
        """How every budget stands, by the ledger."""
        ...

    async def spent_by(self, origins: Iterable[str], now: float, since: float = 0.0) -> Mapping[str, float]:
        """USD that each of these has cost since a time; those that cost nothing are left out."""
        ...

    async def reserve(self, wanted: Sequence[Reservation], now: float) -> None:
        """Promise all of these, or none: raises BudgetExceededError. What the request was promised before is void."""
        ...

    async def release(self, ids: Iterable[str]) -> None: ...

    async def tidy(self, now: float) -> None:
        """Forget promises to what has ended, or never was."""
        ...


class ScheduleRows(Protocol):
    """Schedules. Adapter: `store.schedules`."""

    async def add(self, schedule: Schedule) -> bool:
        """Record one; False if its user has one of this name in the workspace."""
        ...

    async def get(self, id: str) -> Schedule | None: ...

    async def all(self) -> list[Schedule]: ...

    async def due(self, now: float, most: int) -> list[Schedule]:
        """Those that are to be looked at."""
        ...

    async def next_at(self) -> float | None:
        """When the next one is to be looked at."""
        ...

    async def change(self, seen: Schedule, after: Schedule) -> Schedule | None:
        """Write what became of one that is on record as it was seen; None if somebody else was first."""
        ...

    async def remove(self, id: str) -> bool: ...


class Outbox(Protocol):
    """Notifications on their way. Adapter: `store.outbox`."""

    async def mark(self) -> int:
        """Up to which line the stories were read; the newest, where nobody read any before."""
        ...

    async def changes(self, after: int, most: int) -> list[Entry]:
        """Lines of managed jobs that tell of another status, oldest first."""
        ...

    async def put(self, parcels: Sequence[Parcel], mark: int | None = None) -> None:
        """Keep parcels that are not known yet; `mark` is how far the stories were read for them."""
        ...

    async def due(self, now: float, most: int) -> list[Parcel]: ...

    async def settle(self, parcel: Parcel, next_at: float | None, tries: int, said: str) -> None:
        """What became of a try: delivered or given up (`next_at` None), or to be tried again."""
        ...

    async def forget(self, before: float) -> None:
        """Delete what was delivered, or given up, of before a time."""
        ...


class Duties(Protocol):
    """What one of several servers does for all of them, each under a lease by the store's clock."""

    async def hold(self, names: Sequence[str], holder: str, now: float, lease_s: float) -> frozenset[str]:
        """Take duties that are free, or keep them; those that are the holder's until `lease_s` from now."""
        ...

    async def let_go(self, name: str, holder: str) -> None:
        """Give a duty up; harmless if it is somebody else's by now."""
        ...

    async def held(self, prefix: str, now: float) -> Sequence[str]:
        """Names of the duties that begin so and that somebody has now, in order."""
        ...

    async def tidy(self, prefix: str, now: float) -> None:
        """Forget duties that begin so and that nobody has any more."""
        ...


class Users(Protocol):
    """People, service accounts, the tokens that stand for them, and workspaces that were made by calls."""

    @property
    def revision(self) -> int:
        """Changes when this process changed anything: what was read before is out of date."""
        ...

    async def get(self, name: str) -> User | None: ...

    async def all(self) -> list[User]:
        """By name."""
        ...

    async def add(self, user: User) -> bool:
        """Record a user, unless the name is taken; whether it was done."""
        ...

    async def change(self, user: User) -> bool:
        """Change a user who is on record under the name; whether there is one."""
        ...

    async def remove(self, name: str) -> bool:
        """Forget a user and all of their tokens; whether there was one."""
        ...

    async def token(self, id: str) -> Token | None: ...

    async def tokens(self, user: str | None = None) -> list[Token]:
        """Tokens (of one user), newest first; those that were revoked or have run out, too."""
        ...

    async def add_token(self, token: Token) -> bool:
        """Record a new token; False if there is one of its id."""
        ...

    async def change_token(self, token: Token) -> bool:
        """Change a token that is on record and was not revoked before; whether there is one.

        Whose it is, what it may do, how long it lives, whether it is revoked: nothing else of it changes.
        """
        ...

    async def used(self, id: str, at: float) -> None:
        """Note when a token was last used."""
        ...

    async def sweep(self, before: float) -> int:
        """Delete tokens that opened nothing any more by then; how many."""
        ...

    async def workspaces(self) -> Mapping[str, Mapping[str, object]]:
        """The configuration of workspaces that were made here, by name."""
        ...

    async def put_workspace(self, name: str, config: Mapping[str, object] | None) -> None:
        """Record the configuration of a workspace, or forget it (None)."""
        ...


class Audit(Protocol):
    """The audit log. Nobody changes it; what is older than its retention is forgotten."""

    async def add(self, line: AuditLine) -> None: ...

    async def read(
        self, *, limit: int, before: int | None = None, user: str | None = None, since: float | None = None
    ) -> list[AuditLine]:
        """Newest first, two lines per call at most; of lines below the number `before`, if it is given."""
        ...

    async def forget(self, before: float) -> int:
        """Delete a batch of lines from before a time; how many, 0 when none is left."""
        ...


class Store(Protocol):
    """Everything that is remembered."""

    async def connect(self) -> None:
        """Before anything else is asked. Raises OSError or RuntimeError if it cannot be used."""
        ...

    @property
    def clusters(self) -> ClusterRows: ...
    @property
    def jobs(self) -> JobRows: ...
    @property
    def requests(self) -> RequestRows: ...
    @property
    def managed_jobs(self) -> ManagedJobRows: ...
    @property
    def pools(self) -> PoolRows: ...
    @property
    def stories(self) -> Stories: ...
    @property
    def outcomes(self) -> Outcomes: ...
    @property
    def ledger(self) -> LedgerRows: ...
    @property
    def budgets(self) -> BudgetRows: ...
    @property
    def schedules(self) -> ScheduleRows: ...
    @property
    def outbox(self) -> Outbox: ...
    @property
    def duties(self) -> Duties: ...
    @property
    def users(self) -> Users: ...
    @property
    def audit(self) -> Audit: ...

    async def durable(self) -> None:
        """Return once what was committed before outlives a power failure: before anybody is told of it."""
        ...

    async def get_value(self, key: str) -> str | None:
        """A small named value (a watcher's position, a check's outcome)."""
        ...

    async def set_value(self, key: str, value: str) -> None: ...

    async def set_values(self, values: Mapping[str, str]) -> None:
        """Several of them at once, all or none."""
        ...

    async def forget(self, requests_before: float, clusters_before: float) -> list[str]:
        """Delete a batch of what ended before these times; ids of the requests among it, empty when none is left."""
        ...

    async def forget_managed_jobs(self, before: float) -> list[int]:
        """Delete a batch of managed jobs that ended before then; their numbers, none when none is left."""
        ...

    async def manifests_in_use(self) -> Collection[str]:
        """Manifests of uploads that requests or jobs may still ask for."""
        ...

    async def reseal(self) -> int:
        """Seal anew what is not sealed with the key in use; how many rows."""
        ...

    async def backup(self, path: str) -> None:
        """Copy everything as of one moment into a new file. Raises NotSupportedError, FileExistsError."""
        ...

    async def counts(self, now: float) -> Counts:
        """How much there is of everything."""
        ...

    async def rows(self, most: int) -> Mapping[str, list[dict[str, object]]]:
        """The newest rows of each noun, and lines of their stories, without anything that a user said."""
        ...

    def spent(self) -> tuple[Spent, Spent]:
        """What reads, and what writes, have taken."""
        ...

    async def close(self) -> None: ...

"""What the HTTP side asks of the control plane. `engine` has the real one; tests bring a small one."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sky.core.model.clusters import Cluster
from sky.core.model.dags import DagSpec
from sky.core.model.events import Entry
from sky.core.model.jobs import Job
from sky.core.model.ledger import Entry as LedgerEntry
from sky.core.model.ledger import Line, Question
from sky.core.model.managed_jobs import ManagedJob
from sky.core.model.offers import Offer, Placement
from sky.core.model.pools import Pool, Standing, Worker
from sky.core.model.requests import Request
from sky.core.model.vitals import Rotation, Vitals
from sky.core.model.workspaces import DEFAULT, Workspace
from sky.core.policy.rights import Reach
from sky.core.ports import Access, Audit, Catalogs, JobQuery, Listed, LogPiece, MachineReport, Users
from sky.engine.money import Money
from sky.engine.plans import Answer, Questions, Said
from sky.engine.workspaces import Workspaces
from sky.kit.clock import Clock
from sky.kit.signals import Signals


class Plans(Protocol):
    """See `engine.plans.Planner`."""

    async def optimize(self, dag: DagSpec, questions: Questions) -> list[Answer]: ...

    async def types(
        self, dag: DagSpec, *, all_infra: bool, said: Said | None = None, workspace: Workspace | None = None
    ) -> list[list[Placement]]: ...


class Upkeep(Protocol):
    """See `engine.upkeep.Upkeep`."""

    async def trouble(self) -> list[str]: ...

    async def notice(self) -> str: ...
    async def vitals(self) -> Vitals: ...

    async def rotate_key(self, wait_s: float, *, going_on: bool = False) -> Rotation: ...

    async def backup(self, path: Path) -> None: ...

    async def rows(self, most: int) -> Mapping[str, Iterable[Mapping[str, object]]]: ...


class ManagedReads(Protocol):
    """See `engine.managed_reads.ManagedReads`."""

    async def listed(self, query: JobQuery) -> Listed: ...

    async def get(self, id: str) -> ManagedJob | None: ...

    async def by_number(self, number: int) -> ManagedJob | None: ...

    async def story(self, job: ManagedJob) -> list[Entry]: ...

    async def why(self, job: ManagedJob) -> str: ...

    async def why_tasks(self, job: ManagedJob) -> list[str]: ...

    async def wait(self, job: ManagedJob, at: int | None, timeout: float) -> ManagedJob:
        """The job once it, or its task at a position, has ended; or as it is after `timeout` seconds."""
        ...

    def log(
        self, job: ManagedJob, at: int, *, follow: bool, tail: int = 0, offset: int | None = None
    ) -> AsyncIterator[LogPiece]: ...


class PoolReads(Protocol):
    """See `engine.pool_reads.PoolReads`."""

    async def living(self) -> list[Pool]: ...

    async def by_name(self, name: str) -> Pool | None: ...

    async def standing(self, pool: Pool) -> Standing: ...

    async def users(self, standing: Standing) -> Mapping[str, int]:
        """Numbers of the jobs that have workers, by worker."""
        ...

    def story(self, pool: Pool, *, follow: bool, tail: int, offset: int) -> AsyncIterator[LogPiece]: ...

    def log(
        self, pool: Pool, worker: Worker, *, follow: bool, tail: int, offset: int | None
    ) -> AsyncIterator[LogPiece]: ...


class ControlPlane(Protocol):
    """The engine behind the routes. Signals topics used here: `clusters` and `request:<id>`."""

    @property
    def signals(self) -> Signals: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def catalogs(self) -> Catalogs: ...
    @property
    def planner(self) -> Plans: ...
    @property
    def users(self) -> Users: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def workspaces(self) -> Workspaces: ...

    def section(self, name: str) -> Mapping[str, object]:
        """A section of the configuration as it is now."""
        ...

    def configuration(self) -> Mapping[str, object]:
        """All of the configuration as it is now."""
        ...

    @property
    def upkeep(self) -> Upkeep: ...
    @property
    def managed(self) -> ManagedReads: ...
    @property
    def pools(self) -> PoolReads: ...
    @property
    def money(self) -> Money: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def submit(
        self,
        name: str,
        body: Mapping[str, object],
        *,
        user: str,
        request_id: str | None,
        workspace: str = DEFAULT,
        reach: str = Reach.ALL,
    ) -> Request:
        """Record a request that changes the world; the same id again gives the same request."""
        ...

    async def wait(self, request_id: str, timeout: float) -> Request:
        """The request once it is over, or as it is after `timeout` seconds. Raises ValueError for an unknown id."""
        ...

    async def find_request(self, prefix: str) -> Request:
        """The request whose id begins so. Raises ValueError for none or several."""
        ...

    async def requests(self, *, finished: bool, cluster_name: str | None, limit: int | None) -> list[Request]: ...

    async def cancel_requests(self, ids: Sequence[str] | None, *, user: str) -> list[str]: ...

    async def launched_by(self, cluster_name: str) -> str | None: ...

    def progress_file(self, request_id: str) -> Path:
        """Where the request's talk for its user is appended; may not exist yet."""
        ...

    async def progress(self, request_id: str) -> Path:
        """The same, with all in it that any server has said."""
        ...

    async def clusters(self, names: Sequence[str] | None, *, refresh: bool, managed: bool = False) -> list[Cluster]:
        """Living ones; those of managed jobs only if they are asked for, or by name."""
        ...

    async def named(self, name: str) -> Cluster | None:
        """The living cluster of exactly this name."""
        ...

    async def jobs(self, cluster_name: str, *, skip_finished: bool, job_ids: Sequence[int] | None) -> list[Job]: ...

    def job_log(
        self,
        cluster_name: str,
        job_id: int | None,
        *,
        follow: bool,
        tail: int,
        offset: int | None,
        which: str,
        rank: int | None,
    ) -> AsyncIterator[LogPiece]:
        """The log of a job (None: the newest) piece by piece; the last piece has `ended`."""
        ...

    async def job(self, id: str) -> Job | None:
        """A job by its own id, also when its cluster is gone."""
        ...

    async def job_outcome(self, cluster_name: str, job_id: int | None) -> Job | None: ...

    async def stories(self, cluster_name: str) -> list[Entry]: ...

    async def last_entries(self, cluster_ids: Sequence[str]) -> Mapping[str, Entry]: ...

    async def check(self, clouds: Sequence[str] | None) -> list[Access]: ...

    async def enabled(self) -> frozenset[str]:
        """Places where machines can be rented now."""
        ...

    async def offers(self) -> list[Offer]: ...

    async def look_at_machines(self, cloud: str, pool: str | None, text: str | None) -> Sequence[MachineReport]:
        """Machines that the user named, as they are now. See `core.ports.KeepsMachines`."""
        ...

    async def forget_machines(self, cloud: str, pool: str | None, *, force: bool) -> Sequence[str]:
        """Know nothing of them any more; names of pools."""
        ...

    async def cost_report(self, days: int | None) -> list[Cluster]: ...

    async def ledger(self, asked: Question) -> Sequence[Line]: ...

    async def bills(self, cluster_ids: Sequence[str]) -> Mapping[str, Sequence[LedgerEntry]]:
        """All lines of these clusters, by cluster."""
        ...

    async def endpoints(self, cluster_name: str, port: int | None) -> Mapping[int, str]: ...

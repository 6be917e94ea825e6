"""A small control plane for tests of the HTTP side: everything in memory, finished when the test says so.

`build` is what `python -m sky.server --plane` is given when a test needs a real process.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from sky.core.catalog.overrides import Overrides
from sky.core.errors import ClusterDoesNotExist, to_wire
from sky.core.model.catalog import Market, Refreshed
from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase
from sky.core.model.dags import DagSpec
from sky.core.model.events import Entry
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.ledger import Billed, Line, Question
from sky.core.model.ledger import Entry as Bill
from sky.core.model.offers import Offer, Placement, Plan, Rejection
from sky.core.model.requests import Request
from sky.core.model.statuses import JobStatus, RequestStatus
from sky.core.model.vitals import Counts, Rotation, Spent, Vitals
from sky.core.model.workspaces import DEFAULT, Workspace
from sky.core.policy.rights import Reach
from sky.core.ports import Access, LogPiece, MachineReport
from sky.engine.admission import Admission
from sky.engine.managed_logs import ManagedLogs
from sky.engine.managed_reads import ManagedReads
from sky.engine.plans import Answer, Questions, Said
from sky.engine.pool_reads import PoolReads
from sky.engine.post import Post
from sky.engine.receipts import Receipts
from sky.engine.workspaces import Workspaces
from sky.kit.clock import SystemClock
from sky.kit.ids import request_id as new_id
from sky.kit.signals import Signals
from sky.server.identity import owner
from sky.server.settings import Settings
from sky.store.catalog.build import build as build_catalog
from sky.store.catalog.read import CatalogFile
from sky.store.sqlite import SqliteStore

OFFER = Offer("local", "local", None, "this-machine", 2, 8, 0.0, {"H100": 8})


def cluster(name: str, **changes: object) -> Cluster:
    """A cluster that is UP on this machine."""
    placement = Placement(OFFER, 1, 2, 8)
    node = Instance(f"{name}-0", f"id-{name}", 0, InstanceState.RUNNING, "127.0.0.2")
    made = Cluster(
        id=f"id-{name}",
        name=name,
        user=owner(),
        workspace="default",
        phase=Phase.UP,
        version=1,
        created_at=1000.0,
        status_at=1001.0,
        num_nodes=1,
        resources="local(cpus=2)",
        task_config={"name": name, "run": "true", "secrets": {"KEY": "hidden-value"}},
        placement=placement,
        instances=(node,),
        launched_at=1000.5,
        ever_up=True,
        command="sky launch",
        request_id=f"launch-of-{name}",
        intervals=((1000.0, 4600.0, 2.0),),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def job(number: int, status: JobStatus = JobStatus.SUCCEEDED) -> Job:
    """A job of cluster `one`."""
    return Job(
        id=f"job-{number}",
        cluster_id="id-one",
        cluster_name="one",
        request_id="r",
        user=owner(),
        phase=JobPhase.DONE,
        status=status,
        version=1,
        created_at=1.0,
        name=f"task-{number}",
        job_id=number,
    )


def _named(body: Mapping[str, object]) -> str | None:
    return str(body["cluster_name"]) if body.get("cluster_name") else None


class SmallUpkeep:
    """Well unless a test says otherwise."""

    def __init__(self) -> None:
        self.words: list[str] = []

    async def trouble(self) -> list[str]:
        return list(self.words)

    async def notice(self):
        return ""

    async def vitals(self) -> Vitals:
        return Vitals(Counts({"request": 3}, {"UP": 2}), {"request": 1}, Spent(4, 0.5))

    async def rotate_key(self, wait_s: float, *, going_on: bool = False) -> Rotation:
        return Rotation("new", 5, over=True) if going_on else Rotation()

    async def backup(self, path: Path) -> None:
        path.write_bytes(b"rows")

    async def rows(self, most: int) -> dict[str, list[dict[str, object]]]:
        return {"requests": [{"id": "r1"}]}


class SmallPlane:
    """Requests end at once unless they are named in `hold`; logs are bytes that tests append to."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.signals = Signals()
        self.clock = SystemClock()
        self.billed = [
            Bill(Billed.MACHINE, f"i-{name}", f"id-{name}", f"id-{name}", name, "tester", "default", "local", "local",
                 None, "localhost", Market.ON_DEMAND, 2.0, 1000.0, ended, "asked to go down" if ended else "")
            for name, ended in (("one", 4600.0), ("gone", 8200.0))
        ]  # fmt: skip
        self.known = {name: cluster(name) for name in ("one", "two")}
        self.rows: dict[str, Request] = {}
        self.submissions = 0
        self.status_reads = 0
        self.hold: set[str] = set()
        self.log = b"hello\nworld\n"
        self.log_ended = True
        self.jobs_known = [job(1), job(2, JobStatus.RUNNING), job(3, JobStatus.FAILED)]
        self.started = self.stopped = False
        store = SqliteStore()
        self.users, self.audit = store.users, store.audit
        self.workspaces = Workspaces(self.users, self.section)
        self.store = store
        self.logs = ManagedLogs(settings.files / "managed_jobs", store, None, self.clock, self.signals)
        post = Post(self.clock, self.signals)
        admission = Admission(store, post, self.clock, self.signals, self.section)
        self.pools = PoolReads(store, self.signals, None)
        self.managed = ManagedReads(store, self.clock, self.signals, admission, self.logs)
        self.money = SimpleNamespace(
            budget_rows=store.budgets, schedule_rows=store.schedules, receipts=Receipts(store, self.clock)
        )
        self.upkeep = SmallUpkeep()

    def section(self, name: str) -> Mapping[str, object]:
        found = self.settings.config.get(name)
        return found if isinstance(found, Mapping) else {}

    def configuration(self) -> Mapping[str, object]:
        return {"api_server": {"service_account_token": "sesame", "port": 1}, **self.settings.config}

    async def start(self) -> None:
        self.started = True
        (self.settings.state_dir / "progress").mkdir(exist_ok=True)

    async def stop(self) -> None:
        self.stopped = True

    # --- requests ---

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
        id = request_id or new_id()
        if id in self.rows:
            return self.rows[id]
        self.submissions += 1
        self.rows[id] = Request(
            id,
            name,
            user,
            RequestStatus.PENDING,
            1,
            self.clock.now(),
            dict(body),
            _named(body),
            workspace=workspace,
            reach=reach,
        )
        self.say(id, f"{name} begins\n")
        if name not in self.hold:
            self.end(id)
        return self.rows[id]

    async def launched_by(self, cluster_name: str) -> str | None:
        return self.known[cluster_name].request_id if cluster_name in self.known else None

    async def progress(self, id: str):
        return self.progress_file(id)

    def say(self, id: str, text: str) -> None:
        with self.progress_file(id).open("a") as out:
            out.write(text)
        self.signals.notify(f"request:{id}")

    def end(self, id: str) -> None:
        request = self.rows[id]
        name = request.body.get("cluster_name")
        if request.name in ("stop", "down", "start", "autostop", "cancel") and name not in self.known:
            error = to_wire(ClusterDoesNotExist(f"Cluster {name!r} does not exist."))
            self.rows[id] = replace(request, status=RequestStatus.FAILED, error=error)
        else:
            result = {"job_id": 7, "cluster_name": name or "made-up"} if request.name in ("launch", "exec") else None
            self.rows[id] = replace(request, status=RequestStatus.SUCCEEDED, result=result)
        self.say(id, f"{request.name} is over\n")

    async def wait(self, request_id: str, timeout: float) -> Request:
        with self.signals.watch(f"request:{request_id}") as watch:
            end = self.clock.now() + timeout
            while not (request := await self.find_request(request_id)).status.is_terminal():
                if self.clock.now() >= end:
                    break
                await watch.changed(end - self.clock.now())
            return request

    async def find_request(self, prefix: str) -> Request:
        found = [request for id, request in self.rows.items() if id.startswith(prefix)]
        if len(found) != 1:
            raise ValueError(f"{len(found)} requests begin with {prefix!r}.")
        return found[0]

    async def requests(self, *, finished: bool, cluster_name: str | None, limit: int | None) -> list[Request]:
        found = [request for request in self.rows.values() if finished or not request.status.is_terminal()]
        return found[::-1][: limit or None]

    async def cancel_requests(self, ids: Sequence[str] | None, *, user: str) -> list[str]:
        chosen = [
            id
            for id, row in self.rows.items()
            if not row.status.is_terminal() and (row.user == user if ids is None else id in ids)
        ]
        for id in chosen:
            self.rows[id] = replace(self.rows[id], status=RequestStatus.CANCELLED)
            self.signals.notify(f"request:{id}")
        return chosen

    def progress_file(self, request_id: str) -> Path:
        return self.settings.state_dir / "progress" / request_id

    # --- clusters and jobs ---

    def _cluster(self, name: str) -> Cluster:
        if name == "bug":
            raise KeyError("secret-detail")
        if name not in self.known:
            raise ClusterDoesNotExist(f"Cluster {name!r} does not exist.")
        return self.known[name]

    async def clusters(self, names: Sequence[str] | None, *, refresh: bool, managed: bool = False) -> list[Cluster]:
        self.status_reads += 1
        return [each for each in self.known.values() if names is None or each.name in names]

    async def named(self, name: str) -> Cluster | None:
        return self.known.get(name)

    async def jobs(self, cluster_name: str, *, skip_finished: bool, job_ids: Sequence[int] | None) -> list[Job]:
        self._cluster(cluster_name)
        return [
            each
            for each in self.jobs_known
            if (job_ids is None or each.job_id in job_ids) and not (skip_finished and each.status.is_terminal())
        ]

    async def job_log(
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
        self._cluster(cluster_name)
        at = offset or 0
        with self.signals.watch("log") as watch:
            while True:
                data, at = self.log[at:], len(self.log)
                done = self.log_ended or not follow
                if data or done:
                    yield LogPiece(data, at, done)
                if done:
                    return
                await watch.changed(5.0)

    async def job_outcome(self, cluster_name: str, job_id: int | None) -> Job | None:
        wanted = job_id or max(each.job_id or 0 for each in self.jobs_known)
        return next((each for each in self.jobs_known if each.job_id == wanted), None)

    async def job(self, id: str) -> Job | None:
        return next((each for each in self.jobs_known if each.id == id), None)

    async def stories(self, cluster_name: str) -> list[Entry]:
        found = self._cluster(cluster_name)
        return [Entry(1, 1000.0, "cluster", found.id, found.name, "AgentsReady", "INIT", "UP", "the agent answers")]

    async def last_entries(self, cluster_ids: Sequence[str]) -> Mapping[str, Entry]:
        return {id: Entry(1, 1000.0, "cluster", id, id, "AgentsReady", "INIT", "UP", "is up") for id in cluster_ids}

    # --- infra ---

    async def check(self, clouds: Sequence[str] | None) -> list[Access]:
        return [
            Access("local", True, capabilities=("compute",)),
            Access("aws", False, reason="no credentials", hint="run: aws configure"),
        ]

    async def offers(self) -> list[Offer]:
        return [OFFER, replace(OFFER, use_spot=True, price_hourly=0.5), replace(OFFER, accelerators={"A100": 2})]

    async def look_at_machines(self, cloud: str, pool: str | None, text: str | None) -> list[MachineReport]:
        return [MachineReport(pool or "rack", "h1", "up", "", 8, 4, 64, 32, {"H100": 2}, {"H100": 1}, ("cluster a",))]

    async def forget_machines(self, cloud: str, pool: str | None, *, force: bool) -> list[str]:
        return [pool or "rack"] if force else []

    async def cost_report(self, days: int | None) -> list[Cluster]:
        return list(self.known.values())

    async def ledger(self, asked: Question) -> list[Line]:
        lines = [Line(number, entry) for number, entry in enumerate(self.billed, 1)]
        return [line for line in lines if asked.ended or line.entry.ended is None]

    async def bills(self, cluster_ids: Sequence[str]) -> dict[str, list[Bill]]:
        return {id: [each for each in self.billed if each.cluster_id == id] for id in cluster_ids}

    async def endpoints(self, cluster_name: str, port: int | None) -> Mapping[int, str]:
        self._cluster(cluster_name)
        return {8080: "http://127.0.0.2:8080"}

    async def enabled(self) -> frozenset[str]:
        return frozenset(["local"])

    @property
    def planner(self) -> "SmallPlanner":
        return SmallPlanner()

    @property
    def catalogs(self) -> "SmallCatalogs":
        return SmallCatalogs(self.settings.state_dir / "catalog")


class SmallPlanner:
    """One plan for everything."""

    async def optimize(self, dag: DagSpec, questions: Questions) -> list[Answer]:
        plan = Plan((Placement(OFFER, 1, 2, 8),), (Rejection("aws/us-east-1", "m5.large", "not enabled"),))
        return [Answer(task=task.name, plan=plan, enabled=frozenset(["local"])) for task in dag.tasks]

    async def types(
        self, dag: DagSpec, *, all_infra: bool, said: Said | None = None, workspace: Workspace | None = None
    ) -> list[list[Placement]]:
        return [[Placement(OFFER, 1, 2, 8)] for _ in dag.tasks]


class SmallCatalogs:
    """An empty catalog."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def current(self) -> CatalogFile:
        path = self._folder / "empty.sqlite"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            build_catalog(path, [])
        return CatalogFile.open(path)

    def overrides(self) -> Overrides:
        return Overrides()

    def refreshable(self) -> Sequence[str]:
        return ()

    async def refresh(
        self,
        clouds: Sequence[str] | None,
        if_older_s: float | None,
        say: Callable[[str], None],
        *,
        accept: bool = False,
    ) -> Sequence[Refreshed]:
        return ()


class SlowPlane(SmallPlane):
    """Every launch stays open, so that a test can kill the server in the middle; rows are kept in files."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.hold = {"launch"}

    async def find_request(self, prefix: str) -> Request:
        for path in (self.settings.state_dir / "progress").glob(f"{prefix}*"):
            if path.name not in self.rows:
                # The server was killed since: its row is "taken up again", and done.
                self.rows[path.name] = Request(path.name, "launch", "tester", RequestStatus.PENDING, 1, 0.0)
                self.end(path.name)
        return await super().find_request(prefix)


def build(settings: Settings) -> SmallPlane:
    """A plane whose requests end at once."""
    return SmallPlane(settings)


def build_slow(settings: Settings) -> SlowPlane:
    """A plane whose launches end only after a restart."""
    return SlowPlane(settings)


def build_broken(settings: Settings) -> SmallPlane:
    """A plane that cannot be built."""
    raise ValueError("the store is from a newer version")

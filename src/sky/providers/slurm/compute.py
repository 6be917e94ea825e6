"""Clusters as allocations of Slurm: one job holds the nodes of one cluster for as long as that lives.

Each `Host` of `~/.slurm/config` is a region, its partitions are the zones. Slurm is asked on the login node, by its
own programs; which jobs are ours they say themselves, by their comments. What is kept here is only what Slurm forgets:
which node had which rank, after it took one away.
"""

import asyncio
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sky.core.errors import (
    AgentUnreachable,
    CapacityRefused,
    InvalidSkyPilotConfigError,
    NotSupportedError,
    ProviderDown,
    ProviderFailure,
    RequestInvalid,
)
from sky.core.model.clusters import Instance, InstanceState
from sky.core.model.offers import Offer
from sky.core.model.schema import nearest
from sky.core.ports import Access, CreateAsk, Shell
from sky.kit.clock import Clock, SystemClock
from sky.providers.records import Stamp, alone, save, stamp
from sky.providers.registry import Settings
from sky.providers.slurm import jobs as slurm_jobs
from sky.providers.slurm import login_scripts as scripts
from sky.providers.slurm.config import Folders, checked, folders, of_cluster, of_partition
from sky.providers.slurm.jobs import ENDING, Job
from sky.providers.slurm.shapes import ClusterFacts, offers, read_cluster
from sky.providers.ssh_hosts import SshHosts

#: Seconds: for an answer, for an end, and until what a cluster has is asked for again.
_ASK_S, _END_S, _FRESH_S = 10.0, 60.0, 60.0
#: How long nodes are waited for: where the task names the partition, and where there are others to be tried.
_PINNED_S, _OPEN_S = 24 * 3600.0, 120.0
#: From one look at a waiting job to the next, at first and at most, in seconds.
_FIRST_LOOK_S, _LOOK_S = 0.2, 3.0
_KEEPERS_S = 60.0
#: How long the end of an allocation is waited for that is decided, so that it can be told why it ended.
_ENDING_S = 4.0

log = logging.getLogger(__name__)


def open_slurm(settings: Settings) -> "SlurmCompute":
    """The provider of Slurm clusters. Raises NotSupportedError where login nodes cannot be reached."""
    if settings.shell is None:
        raise NotSupportedError("login nodes of Slurm clusters cannot be reached by this installation")
    return SlurmCompute(settings, settings.shell, SystemClock())


@dataclass(frozen=True, slots=True)
class _Node:
    """A node of an allocation; `devices` are what Slurm gave of them there, as it says."""

    name: str
    ip: str
    devices: str


_AT_HOME = Folders()


@dataclass(frozen=True, slots=True)
class _Held:
    """An allocation on record, its nodes by rank, and the folders that they were given."""

    region: str
    job: str
    nodes: tuple[_Node, ...] = ()
    folders: Folders = _AT_HOME


class SlurmCompute:
    """See `core.ports.Compute`. What it keeps is in `settings.state_dir`."""

    def __init__(self, settings: Settings, shell: Shell, clock: Clock) -> None:
        self._file = settings.home / ".slurm" / "config"
        self._home = settings.home
        self._config = settings.config
        self._installation = settings.installation
        self._shell = shell
        self._clock = clock
        self._path = settings.state_dir / "allocations.json"
        self._kept: dict[str, _Held] = {}
        self._seen: Stamp | None = None
        self._facts: dict[str, ClusterFacts] = {}

    # --- what is there -------------------------------------------------------------------------------------------

    async def check(self) -> Access:
        """Ask every login node; usable if one answers. The account is a line per cluster."""
        try:
            checked(self._config())
        except InvalidSkyPilotConfigError as error:
            return Access("slurm", False, str(error), "correct the configuration", credentials=self._file.exists())
        names = self._clusters()
        if not names:
            where = "no clusters: there is no Host in ~/.slurm/config"
            if self._allowed() is not None:
                where += " that slurm.allowed_clusters lets in"
            return Access("slurm", False, where, _STEPS, credentials=self._file.exists())
        found = await asyncio.gather(*(self._ask_cluster(name) for name in names), return_exceptions=True)
        lines, well = [], 0
        for name, each in zip(names, found, strict=True):
            if isinstance(each, ClusterFacts):
                well += 1
                lines += [f"{name}: {each.version}", *_partition_lines(each)]
            elif isinstance(each, ProviderFailure):
                lines.append(f"{name}: {each.reason}")
            else:
                raise each
        text = "\n".join(lines)
        if not well:
            return Access("slurm", False, f"none of {len(names)} clusters can be used:\n{text}", credentials=True)
        return Access("slurm", True, account=text, capabilities=("compute",), credentials=True)

    async def offers(self) -> Sequence[Offer]:
        """Shapes of nodes by partition. A cluster that does not answer offers nothing."""
        names = self._clusters()
        found = await asyncio.gather(*(self._known(name) for name in names), return_exceptions=True)
        made: list[Offer] = []
        for name, each in zip(names, found, strict=True):
            if isinstance(each, ClusterFacts):
                pricing = of_cluster(checked(self._config()), name).get("pricing")
                made += offers("slurm", name, each, pricing if isinstance(pricing, Mapping) else {})
            else:
                log.info("the Slurm cluster %s cannot be asked: %s", name, each)
        return made

    # --- nodes ---------------------------------------------------------------------------------------------------

    async def create(self, ask: CreateAsk) -> Sequence[Instance]:
        """Ask for an allocation and wait for it. Nothing is left of an attempt that fails."""
        region, zone = ask.placement.offer.region, ask.placement.offer.zone
        if ask.ranks and len(ask.ranks) < ask.placement.num_nodes:
            raise RequestInvalid("an allocation of Slurm does not grow; launch a new cluster", scope="account")
        try:
            config = of_partition(checked({**self._config(), **ask.config}), region, zone or "")
            slurm_jobs.check_options(config)
            where = folders(config)
        except InvalidSkyPilotConfigError as error:
            raise RequestInvalid(str(error), scope="account") from None
        _refuse_unbuilt(ask, config)
        mine = await self._jobs(region, ask.cluster_id)
        key = slurm_jobs.mark("", "", ask.key).rpartition(":")[2]
        job = next((each for each in mine if each.key == key and each.alive), None)
        try:
            if job is None:
                if mine:
                    await self.terminate(ask.cluster_id, regions=(region,))
                job = await self._submit(ask, config, where)
            running = await self._until_running(ask, job, config)
            nodes = await self._nodes(region, running, where)
            self._keep(ask.cluster_id, _Held(region, running.id, nodes, where))
        except BaseException:
            await asyncio.shield(self.terminate(ask.cluster_id, regions=(region,)))
            raise
        return await self.list(ask.cluster_id, regions=(region,))

    async def list(
        self, cluster_id: str | None = None, *, regions: Collection[str] | None = None
    ) -> Sequence[Instance]:
        """Nodes of our jobs, as Slurm tells them; those of jobs that have ended too, as long as it remembers them."""
        names = [name for name in self._clusters() if regions is None or name in regions]
        found: list[Instance] = []
        for name, each in zip(
            names,
            await asyncio.gather(*(self._looked_at(name, cluster_id) for name in names), return_exceptions=True),
            strict=True,
        ):
            if isinstance(each, BaseException):
                if cluster_id is not None or len(names) == 1 or not isinstance(each, ProviderFailure):
                    raise each
                # One login node that is away must not hide the others' allocations.
                log.info("the Slurm cluster %s cannot be listed: %s", name, each.reason)
                continue
            for job in _newest(each):
                found += await self._instances(name, job)
        return sorted(found, key=lambda node: (node.cluster_id, node.rank))

    async def terminate(
        self, cluster_id: str, *, regions: Collection[str] | None = None, ranks: Collection[int] | None = None
    ) -> None:
        """End what runs, then the allocation."""
        if ranks is not None and len(ranks) < len(self._held.get(cluster_id, _Held("", "")).nodes):
            raise NotSupportedError("an allocation of Slurm does not shrink; launch a smaller cluster")
        held = self._held.get(cluster_id)
        names = [held.region] if held else [name for name in self._clusters() if regions is None or name in regions]
        for name in names:
            mine = [job for job in await self._jobs(name, cluster_id) if job.alive or job.state in ENDING]
            if mine or held:
                where = held.folders if held else self._folders(name, mine[0].partition)
                await self._run(name, scripts.END, cluster_id, where.base, *(job.id for job in mine), timeout=_END_S)
        if held is not None:
            self._keep(cluster_id, None)

    def unresizable(self, num_nodes: int, wanted: int) -> str:
        """Slurm could take nodes from an allocation, and would leave there what runs on them."""
        how = "grow" if wanted > num_nodes else "shrink"
        return f"an allocation of Slurm does not {how}; launch another cluster"

    # --- parts ---------------------------------------------------------------------------------------------------

    def _allowed(self) -> Collection[str] | None:
        said = self._config().get("allowed_clusters")
        return [str(each) for each in said] if isinstance(said, list | tuple) else None

    def _clusters(self) -> Sequence[str]:
        allowed = self._allowed()
        return [name for name in self._hosts().names() if allowed is None or name in allowed]

    def _hosts(self) -> SshHosts:
        return SshHosts(self._file, self._home)

    def _reach(self, region: str) -> Mapping[str, str]:
        """The way to a login node. Raises RequestInvalid for a cluster that is not there."""
        names = self._clusters()
        if region not in names:
            meant = nearest(region, names)
            ask = f"; did you mean '{meant}'?" if meant else f"; there are: {', '.join(names) or 'none'}"
            raise RequestInvalid(f"there is no Slurm cluster '{region}' in ~/.slurm/config{ask}", scope="region")
        return self._hosts().reach(region)

    async def _run(self, region: str, script: str, *args: str, input: bytes = b"", timeout: float = _ASK_S) -> str:
        """What a script says. Raises the failure that it tells of."""
        reach = self._reach(region)
        try:
            argv = ["/bin/sh", "-c", script, "sky", *args]
            ran = await self._shell.run(reach, argv, input=input, timeout=timeout)
        except AgentUnreachable as error:
            raise ProviderDown(f"the login node of {region} cannot be reached: {error}", scope="region") from None
        if ran.rc != 0:
            raise slurm_jobs.refusal((ran.stderr or ran.stdout).decode("utf-8", "replace") or f"exit code {ran.rc}")
        return ran.stdout.decode("utf-8", "replace")

    async def _known(self, region: str) -> ClusterFacts:
        facts = self._facts.get(region)
        if facts is None or self._clock.now() - facts.seen > _FRESH_S:
            facts = await self._ask_cluster(region)
        return facts

    async def _ask_cluster(self, region: str) -> ClusterFacts:
        names = of_cluster(self._config(), region).get("gpu_partition_map")
        by_device = {str(key): str(value) for key, value in names.items()} if isinstance(names, Mapping) else {}
        facts = read_cluster(await self._run(region, scripts.LOOK), self._clock.now(), by_device)
        self._facts[region] = facts
        return facts

    async def _jobs(self, region: str, cluster_id: str | None) -> Sequence[Job]:
        said = await self._run(region, scripts.JOBS, slurm_jobs.mark(self._installation(), cluster_id or ""))
        return list(slurm_jobs.read_jobs(said))

    async def _looked_at(self, region: str, cluster_id: str | None) -> Sequence[Job]:
        """Jobs, and for one cluster what became of its job, for which it is worth to wait a little."""
        jobs = await self._jobs(region, cluster_id)
        if cluster_id is None:
            return jobs
        patience = self._clock.now() + _ENDING_S
        while jobs and _newest(jobs)[0].state in ENDING and self._clock.now() < patience:
            await self._clock.sleep(_FIRST_LOOK_S)
            jobs = await self._jobs(region, cluster_id)
        held = self._held.get(cluster_id)
        if not jobs and held is not None and held.region == region:
            end = slurm_jobs.read_end(await self._run(region, scripts.LAST, held.job), held.job, cluster_id)
            return [end] if end else []
        return jobs

    async def _submit(self, ask: CreateAsk, config: Mapping[str, object], where: Folders) -> Job:
        region, zone = ask.placement.offer.region, ask.placement.offer.zone or ""
        facts = await self._known(region)
        shape = facts.shape(zone, ask.placement.offer.instance_type)
        if shape is None:
            here = f"{region}/{zone}"
            raise CapacityRefused(f"{here} has no nodes of {ask.placement.offer.instance_type} any more", scope="zone")
        words = slurm_jobs.words(ask, shape, self._installation(), config)
        script = scripts.BATCH.replace("@CLUSTER@", ask.cluster_id)
        script = script.replace("@TMP@", where.tmp).replace("@BASE@", where.base)
        said = (await self._run(region, scripts.SUBMIT, *words, input=script.encode())).split()
        id = said[-1].partition(";")[0] if said else ""
        if not id.isdigit():
            raise ProviderDown(f"sbatch did not name a job: {' '.join(said)[:200]}", scope="region")
        ask.say(f"asked Slurm on {region} for {ask.placement.num_nodes} node(s) of partition {zone}: job {id}")
        return Job(id, "PENDING", "None", "", zone, ask.cluster_id, "")

    async def _until_running(self, ask: CreateAsk, job: Job, config: Mapping[str, object]) -> Job:
        """The job once it has its nodes. Raises what Slurm refuses it for, or CapacityRefused when it takes long."""
        region = ask.placement.offer.region
        patience, began = _patience(config, pinned=ask.pinned), self._clock.now()
        pause, told = _FIRST_LOOK_S, ""
        while True:
            now = next((each for each in await self._jobs(region, ask.cluster_id) if each.id == job.id), None)
            if now is None or not now.alive:
                why = slurm_jobs.why_ended(now) if now else "Slurm has forgotten it"
                raise CapacityRefused(f"job {job.id} ended before it ran: {why}", scope="zone")
            if now.instance_state is InstanceState.RUNNING:
                return now
            if (failure := slurm_jobs.never(now.reason)) is not None:
                raise failure
            if now.reason != told and now.reason not in ("None", ""):
                told = now.reason
                ask.say(f"job {job.id} waits: {slurm_jobs.why_waiting(told)}")
            waited = self._clock.now() - began
            if patience is not None and waited >= patience:
                raise slurm_jobs.waited_too_long(waited, now.partition, now.reason)
            await self._clock.sleep(pause)
            pause = min(pause * 1.5, _LOOK_S)

    async def _nodes(self, region: str, job: Job, where: Folders) -> tuple[_Node, ...]:
        """The nodes of a job, in Slurm's order, once each has its keeper."""
        count = await self._run(region, _COUNT, job.nodes)
        args = (job.id, job.nodes, count.strip() or "1", where.tmp)
        said = await self._run(region, scripts.NODES, *args, timeout=_KEEPERS_S)
        devices: dict[str, str] = {}
        nodes: list[_Node] = []
        for line in said.splitlines():
            kind, *parts = line.split("|")
            if kind == "devices" and len(parts) == 2:
                devices[parts[0]] = ",".join(each for each in parts[1].split(",") if each.isdigit())
            elif kind == "node" and len(parts) == 2:
                nodes.append(_Node(parts[0][:255], parts[1][:100], devices.get(parts[0], "")))
        if not nodes:
            raise ProviderDown(f"Slurm does not say which nodes job {job.id} has", scope="region")
        return tuple(nodes)

    async def _instances(self, region: str, job: Job) -> Sequence[Instance]:
        """The nodes of a job: those that it had when it began, each as it is now."""
        held = self._held.get(job.cluster_id)
        if job.instance_state is InstanceState.RUNNING and (held is None or held.job != job.id or not held.nodes):
            # Made by this server before a crash, or started again by Slurm on nodes of its choice.
            where = held.folders if held else self._folders(region, job.partition)
            held = _Held(region, job.id, await self._nodes(region, job, where), where)
            self._keep(job.cluster_id, held)
        nodes = held.nodes if held is not None and held.job == job.id else (_Node("", "", ""),)
        there: Collection[str] | None = None
        if job.instance_state is InstanceState.RUNNING and len(nodes) > 1:
            there = (await self._run(region, _NAMES, job.nodes)).split()
        where = held.folders if held is not None else _AT_HOME
        return [self._instance(job, rank, node, there, self._way(region, where)) for rank, node in enumerate(nodes)]

    def _folders(self, region: str, partition: str) -> Folders:
        """As the configuration has them now, for an allocation that is not on record here."""
        try:
            return folders(of_partition(checked(self._config()), region, partition))
        except InvalidSkyPilotConfigError:
            return _AT_HOME

    def _way(self, region: str, where: Folders) -> Mapping[str, str]:
        """What the nodes of an allocation have in common of `Instance.reach`; `home` is the folder of their homes."""
        homes = f"{where.base}/.sky/nodes" if where.base else ".sky/nodes"
        return {**self._reach(region), "kind": "slurm", "home": homes, "tmp": where.tmp}

    def _instance(
        self, job: Job, rank: int, node: _Node, there: Collection[str] | None, way: Mapping[str, str]
    ) -> Instance:
        id = f"{job.cluster_id}-{rank}"
        state, reason = job.instance_state, None
        if there is not None and node.name not in there:
            state, reason = InstanceState.TERMINATED, f"Slurm took {node.name} from the allocation: it failed"
        elif state is InstanceState.PENDING:
            reason = slurm_jobs.why_not_yet(job)
        elif state is not InstanceState.RUNNING:
            reason = slurm_jobs.why_ended(job)
        reach = {
            **way,
            "job": job.id,
            "node": node.name,
            "home": f"{way['home']}/{id}",
            **({"devices": node.devices} if node.devices else {}),
        }
        return Instance(
            id, job.cluster_id, rank, state, node.ip or node.name, reach, reason, machine=f"job {job.id} {node.name}"
        )

    @property
    def _held(self) -> Mapping[str, _Held]:
        """What is kept of allocations; another server may have changed it."""
        now = stamp(self._path)
        if now is not None and now != self._seen:
            self._kept, self._seen = _load(self._path), now
        return self._kept

    def _keep(self, cluster_id: str, held: _Held | None) -> None:
        """Keep it, or with None keep it no longer."""
        with alone(self._path) as taken:
            others = {key: each for key, each in self._held.items() if key != cluster_id}
            self._kept = others if held is None else {**others, cluster_id: held}
            self._seen = None
            save(self._path, {key: asdict(each) for key, each in self._kept.items()}, taken)
            self._seen = stamp(self._path)


_STEPS = (
    "1. Name the login node of your cluster in ~/.slurm/config, in the syntax of ~/.ssh/config: "
    "`Host my-cluster`, then `HostName`, `User` and `IdentityFile`.\n"
    "2. See that it answers: sky check slurm."
)
_NAMES = scripts.with_paths('scontrol show hostnames "$1"')
_COUNT = scripts.with_paths('scontrol show hostnames "$1" | wc -l')


def _patience(config: Mapping[str, object], *, pinned: bool) -> float | None:
    """Seconds to wait for nodes; None for ever, which a number below zero says."""
    said = config.get("provision_timeout")
    if isinstance(said, int | float) and not isinstance(said, bool):
        return None if said < 0 else float(said)
    return _PINNED_S if pinned else _OPEN_S


def _refuse_unbuilt(ask: CreateAsk, config: Mapping[str, object]) -> None:
    """What the configuration asks for and cannot be had. Raises NotSupportedError, CapacityRefused."""
    for key in ("submit_as_user", "username_map", "container_mounts", "prometheus"):
        if config.get(key):
            raise NotSupportedError(f"slurm.{key} is not supported yet")
    only, zone = config.get("cpu_partition"), ask.placement.offer.zone
    if only and not ask.placement.accelerators and zone != only:
        raise CapacityRefused(f"slurm.cpu_partition sends tasks without devices to partition {only}", scope="zone")


def _newest(jobs: Sequence[Job]) -> Sequence[Job]:
    """The job that counts of each cluster: one that lives, else the last."""
    best: dict[str, Job] = {}
    for job in sorted(jobs, key=lambda each: (each.alive, int(each.id))):
        best[job.cluster_id] = job
    return list(best.values())


def _partition_lines(facts: ClusterFacts) -> list[str]:
    lines = []
    for shape in facts.shapes:
        away = f", {shape.away} away" if shape.away else ""
        lines.append(f"  {shape.partition}: {shape.nodes} nodes of {shape.instance_type}{away}")
    return lines


def _load(path: Path) -> dict[str, _Held]:
    """What was kept; without it, Slurm is asked which nodes a job has."""
    try:
        rows = json.loads(path.read_bytes())
        return {
            str(key): _Held(
                row["region"],
                row["job"],
                tuple(_Node(**node) for node in row["nodes"]),
                Folders(*row.get("folders", ())),
            )
            for key, row in rows.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return {}

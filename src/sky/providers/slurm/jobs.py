"""Allocations as jobs of Slurm: how one is asked for, what its states mean, and what is wrong when it says no."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sky.core.errors import (
    CapacityRefused,
    CredentialsRejected,
    InvalidSkyPilotConfigError,
    ProviderDown,
    ProviderFailure,
    QuotaReached,
    RequestInvalid,
)
from sky.core.model.clusters import InstanceState
from sky.core.ports import CreateAsk
from sky.providers.slurm.shapes import Shape

#: What a node gets where the task leaves it open, as on other shared machines.
_CPUS, _CPUS_PER_DEVICE = 2, 4
#: Options of sbatch that are ours to say.
_OURS = frozenset(
    ["nodes", "ntasks", "ntasks-per-node", "cpus-per-task", "gres", "gpus", "gpus-per-node", "partition", "comment",
     "job-name", "parsable", "wrap", "output", "error", "input", "array", "no-kill", "requeue", "export", "chdir",
     "dependency", "uid", "gid", "test-only", "wait", "get-user-env", "clusters"]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """A job as `squeue` tells it. `nodes` is Slurm's own list, `n[1-2]`."""

    id: str
    state: str
    reason: str
    nodes: str
    partition: str
    cluster_id: str
    key: str

    @property
    def alive(self) -> bool:
        """Whether it holds nodes, or waits for them."""
        return _STATES.get(self.state, InstanceState.TERMINATED) is not InstanceState.TERMINATED

    @property
    def instance_state(self) -> InstanceState:
        """What the job's state is for its nodes."""
        return _STATES.get(self.state, InstanceState.TERMINATED)


_STATES: Mapping[str, InstanceState] = {
    "PENDING": InstanceState.PENDING,
    "CONFIGURING": InstanceState.PENDING,
    "REQUEUED": InstanceState.PENDING,
    "REQUEUE_HOLD": InstanceState.PENDING,
    "REQUEUE_FED": InstanceState.PENDING,
    "SPECIAL_EXIT": InstanceState.PENDING,
    "RESV_DEL_HOLD": InstanceState.PENDING,
    "RUNNING": InstanceState.RUNNING,
    "RESIZING": InstanceState.RUNNING,
    "SIGNALING": InstanceState.RUNNING,
    # Not as somebody stops machines to start them again: Slurm lets the job go on when it likes.
    "SUSPENDED": InstanceState.PENDING,
    "STOPPED": InstanceState.PENDING,
}
#: States of a job whose end is decided: what becomes of it shows once its processes are gone.
ENDING = frozenset(["COMPLETING", "STAGE_OUT"])
#: How an end is told.
ENDS: Mapping[str, str] = {
    "COMPLETING": "the allocation is ending",
    "STAGE_OUT": "the allocation is ending",
    "PREEMPTED": "Slurm gave its nodes to a job of higher priority",
    "NODE_FAIL": "a node of the allocation failed",
    "TIMEOUT": "the allocation's time limit was reached",
    "CANCELLED": "the allocation was cancelled",
    "BOOT_FAIL": "its nodes could not be booted",
    "DEADLINE": "its deadline has passed",
    "OUT_OF_MEMORY": "the allocation ran out of memory",
    "FAILED": "the allocation failed",
    "COMPLETED": "the allocation ended",
    "REVOKED": "the allocation was revoked",
}


def why_not_yet(job: Job) -> str:
    """What a job waits for that does not run."""
    if job.state in ("SUSPENDED", "STOPPED"):
        return f"Slurm has suspended job {job.id}, and lets it go on later"
    return f"job {job.id} waits: {why_waiting(job.reason)}"


def why_ended(job: Job) -> str:
    """What became of a job that holds no nodes any more: in words, and in Slurm's own."""
    words = ENDS.get(job.state.partition(" ")[0], "the allocation is not running")
    more = f", {job.reason}" if job.reason not in ("", "None") else ""
    return f"{words} (job {job.id}: {job.state}{more})"


def mark(installation: str, cluster_id: str = "", key: str = "") -> str:
    """The comment by which a job is known as ours; without a key, what such comments begin with."""
    begin = f"sky:{installation}:"
    begin += f"{cluster_id}:" if cluster_id else ""
    return begin + (hashlib.sha256(key.encode()).hexdigest()[:16] if key else "")


def read_jobs(text: str) -> Iterator[Job]:
    """The answer of `login_scripts.JOBS`."""
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) != 7 or parts[0] != "job" or not parts[1].isdigit():
            continue
        comment = parts[6].split(":")
        if len(comment) == 4:
            id, state, reason, nodes, partition = (each.strip()[:5000] for each in parts[1:6])
            yield Job(id, state, reason, nodes, partition, comment[2], comment[3])


def read_end(said: str, id: str, cluster_id: str) -> Job | None:
    """The answer of `login_scripts.LAST`: a job that only the accounts know, which has ended."""
    for line in said.splitlines():
        parts = line.split("|")
        if len(parts) == 4 and parts[0] == "end" and parts[1] == id and parts[2]:
            job = Job(id, parts[2].strip()[:100], parts[3].strip()[:500], "", "", cluster_id, "")
            return None if job.alive else job
    return None


def words(ask: CreateAsk, shape: Shape, installation: str, config: Mapping[str, object]) -> list[str]:
    """The options of `sbatch`. Raises InvalidSkyPilotConfigError for configuration that cannot be used."""
    placement = ask.placement
    devices = int(next(iter(placement.accelerators.values()), 0.0))
    cpus = math.ceil(placement.asked_cpus) or min(_CPUS_PER_DEVICE * devices or _CPUS, shape.cpus)
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", ask.cluster_name)[:100]
    made = [
        f"--job-name=sky-{name}",
        f"--comment={mark(installation, ask.cluster_id, ask.key)}",
        f"--partition={shape.partition}",
        f"--nodes={placement.num_nodes}",
        f"--ntasks={placement.num_nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={cpus}",
        "--no-requeue",
        "--no-kill",
        "--output=/dev/null",
        "--error=/dev/null",
        "--export=ALL",
    ]
    if placement.asked_memory_gb:
        made.append(f"--mem={math.ceil(placement.asked_memory_gb * 1024)}M")
    if devices:
        made.append(f"--gres=gpu:{shape.gres + ':' if shape.gres else ''}{devices}")
    quota = config.get("quota")
    if isinstance(quota, Mapping):
        made += [f"--account={quota['account']}"] if quota.get("account") else []
        made += [f"--qos={quota['queue']}"] if quota.get("queue") else []
    return [*made, *_extra(config.get("sbatch_options"))]


def check_options(config: Mapping[str, object]) -> None:
    """Raise InvalidSkyPilotConfigError for options of sbatch that cannot be used."""
    _extra(config.get("sbatch_options"))


def _extra(options: object) -> Sequence[str]:
    """The user's own options: `{time: 1:00:00, exclusive: true}`, or a list of lines such as `--time=1:00:00`."""
    if options is None:
        return ()
    if isinstance(options, Mapping):
        pairs = [(str(name), value) for name, value in options.items()]
    elif isinstance(options, list | tuple):
        split = [str(each).removeprefix("--").partition("=") for each in options]
        pairs = [(name, value if sign else True) for name, sign, value in split]
    else:
        raise InvalidSkyPilotConfigError(
            f"slurm.sbatch_options: found {options!r}; allowed: a map such as {{qos: high}}"
        )
    made = []
    for name, value in pairs:
        plain = name.replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z0-9-]{1,40}", plain):
            raise InvalidSkyPilotConfigError(
                f"slurm.sbatch_options: found '{name[:40]}'; allowed: long names of options"
            )
        if plain in _OURS:
            raise InvalidSkyPilotConfigError(
                f"slurm.sbatch_options: '{plain}' follows from the task and is not set here"
            )
        if value is not False and value is not None:
            made.append(f"--{plain}" if value is True else f"--{plain}={value}")
    return made


#: What sbatch says, and what that means.
_REFUSALS: Sequence[tuple[str, type[ProviderFailure], str]] = (
    (r"invalid account|account/partition combination", RequestInvalid, "region"),
    (r"invalid qos|qos specification", RequestInvalid, "region"),
    (r"invalid partition|partition.*(down|inactive|not available)|required partition", RequestInvalid, "zone"),
    (r"(violates accounting|maxsubmit|submit ?limit|qos policy|maxjobs)", QuotaReached, "region"),
    (r"configuration is not available|node count specification|more processors|generic resource|invalid gres"
     r"|memory specification|cpu count", RequestInvalid, "zone"),
    (r"invalid feature|constraint|reservation|license|time limit", RequestInvalid, "request"),
    (r"access|permission|not permitted|denied|invalid user|authentication|credential", CredentialsRejected, "account"),
    (r"unable to contact|socket timed out|connection refused|slurmctld|zero bytes|munge", ProviderDown, "region"),
)  # fmt: skip


def refusal(said: str) -> ProviderFailure:
    """The failure that a program of Slurm tells of."""
    text = " ".join(re.sub(r"(sbatch|squeue|scontrol|srun): (error: )?", "", said).split())[:500]
    for pattern, kind, scope in _REFUSALS:
        if re.search(pattern, text, re.IGNORECASE):
            return kind(f"Slurm says: {text}", scope=scope)
    return ProviderDown(f"Slurm says: {text or 'nothing'}", scope="region")


#: Reasons for waiting that no time will change.
_NEVER = re.compile(
    r"BadConstraints|InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed|PartitionNodeLimit|PartitionTimeLimit"
    r"|DependencyNeverSatisfied|(Assoc|QOS)Max\w*PerJob\w*|QOSMin\w+|JobArrayTaskLimit|JobLaunchFailure|launch failed"
)
_WHY: Mapping[str, str] = {
    "Resources": "its turn has come, and nodes are not free yet",
    "Priority": "other jobs come first",
    "ReqNodeNotAvail": "nodes that it could run on are down or reserved",
    "PartitionDown": "the partition takes no jobs at the moment",
    "PartitionInactive": "the partition is inactive",
    "BeginTime": "it may not begin yet",
    "Licenses": "licenses are not free yet",
    "Reservation": "it waits for a reservation",
    "JobHeldUser": "it is held by its owner",
    "JobHeldAdmin": "it is held by an administrator",
    "None": "Slurm has not looked at it yet",
}


def why_waiting(reason: str) -> str:
    """Slurm's reason with what it means: `Resources: nodes are not free yet`."""
    word = reason.partition(",")[0].strip("()")
    meaning = _WHY.get(word, "")
    if not meaning and re.search(r"(Assoc|QOS)(Grp|Max)", word):
        meaning = "a limit of the account or QoS is used up for now"
    return f"{reason}: {meaning}" if meaning else reason


def never(reason: str) -> ProviderFailure | None:
    """The failure of a job that can wait for ever."""
    if _NEVER.search(reason) is None:
        return None
    scope = "zone" if re.search(r"Partition|Constraint|PerJob|QOSMin", reason) else "region"
    return RequestInvalid(f"Slurm will never start it: {reason}", scope=scope)


def waited_too_long(seconds: float, partition: str, reason: str) -> CapacityRefused:
    """The refusal of a partition that has not given nodes in time."""
    return CapacityRefused(
        f"no nodes of partition {partition} within {seconds:.0f} s ({why_waiting(reason)}); "
        "slurm.provision_timeout sets how long to wait",
        scope="zone",
    )

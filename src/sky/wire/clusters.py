"""Messages about clusters: what launch, status and the rest are asked with, and what is told of a cluster.

The server validates and answers with these; the OpenAPI document is made from them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sky.core.errors import not_supported
from sky.core.lifecycle.billing import bill
from sky.core.model import ledger
from sky.core.model.autostop import AutostopWaitFor
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.events import Entry
from sky.core.model.names import check_cluster_name
from sky.core.model.offers import Placement
from sky.core.model.tasks import TaskSpec
from sky.wire.codec import Body, Record, encode, field

_REFRESH = ("NONE", "AUTO", "FORCE")
_WAIT_FOR = tuple(each.value for each in AutostopWaitFor)


def _refuse(asked: object, feature: str) -> None:
    """An argument that cannot be obeyed yet is refused; ignoring it would do something else than what was asked."""
    if asked:
        raise not_supported(feature)


def _check_wait_for(word: str | None) -> None:
    if word is not None and word not in _WAIT_FOR:
        raise ValueError(f"wait_for: found {word[:40]!r}; allowed: {', '.join(_WAIT_FOR)}")


#: What plans can make small: dollars, hours, or the dollars to be expected with refusals and preemptions.
TARGETS = ("COST", "TIME", "EXPECTED")


def check_target(word: str) -> None:
    """Refuse what the optimizer cannot make small. Raises ValueError."""
    if word not in TARGETS:
        raise ValueError(f"found {word[:40]!r} to be made small; allowed: {', '.join(TARGETS)}")


class LaunchBody(Body):
    """Arguments of `/launch` and `/exec`. `task` is a task's canonical configuration.

    `uploads` maps a local source as the task names it to the hash of its manifest; `config` is the client's layered
    configuration; `command` is what the user typed, for the record. `blocked_resources` are resources, as a task writes
    them, that are not to be planned for.
    """

    task: dict[str, Any]
    cluster_name: str | None = None
    retry_until_up: bool = False
    idle_minutes_to_autostop: float | None = None
    wait_for: str | None = None
    dryrun: bool = False
    down: bool = False
    optimize_target: str = "COST"
    no_setup: bool = False
    clone_disk_from: str | None = None
    fast: bool = False
    resize: bool = False
    uploads: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    blocked_resources: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse before anything is on record what would fail at once: a bad task, a bad name, what is not built."""
        TaskSpec.from_config(self.task)
        if self.cluster_name is not None:
            check_cluster_name(self.cluster_name)
        _check_wait_for(self.wait_for)
        check_target(self.optimize_target)


class StartBody(Body):
    """Arguments of `/start`."""

    cluster_name: str
    idle_minutes_to_autostop: float | None = None
    wait_for: str | None = None
    retry_until_up: bool = False
    down: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        """Refuse a `wait_for` that means nothing."""
        _check_wait_for(self.wait_for)


class StopBody(Body):
    """Arguments of `/stop` and `/down`; `graceful_timeout` in seconds."""

    cluster_name: str
    purge: bool = False
    graceful: bool = False
    graceful_timeout: float | None = None


class AutostopBody(Body):
    """Arguments of `/autostop`; `idle_minutes` below zero switches it off."""

    cluster_name: str
    idle_minutes: float
    wait_for: str | None = None
    down: bool = False
    hook: str | None = None
    hook_timeout: float | None = None

    def __post_init__(self) -> None:
        """Refuse a `wait_for` that means nothing, and what is not built."""
        _check_wait_for(self.wait_for)
        _refuse(self.hook, "Running a hook before a cluster stops (autostop with a hook)")


class StatusBody(Body):
    """Arguments of `/status`. `refresh` is NONE, AUTO or FORCE; `summary` leaves the last creation's text out."""

    cluster_names: list[str] | None = None
    refresh: str = "NONE"
    all_users: bool = False
    include_credentials: bool = False
    summary: bool = False
    include_managed: bool = False

    def __post_init__(self) -> None:
        """Refuse a `refresh` that means nothing."""
        if self.refresh.upper() not in _REFRESH:
            raise ValueError(f"refresh: found {self.refresh[:40]!r}; allowed: {', '.join(_REFRESH)}")


class EndpointsBody(Body):
    """Arguments of `/endpoints`."""

    cluster: str
    port: int | None = None


class CostReportBody(Body):
    """Arguments of `/cost_report`; without `days`, everything on record."""

    days: int | None = None


class ClusterEventsBody(Body):
    """Arguments of `/cluster_events`."""

    cluster_name: str


class HandleRecord(Record):
    """Where a cluster is and how to reach it. `price_hourly` in USD for all nodes."""

    cluster_name: str
    cluster_name_on_cloud: str
    head_ip: str | None
    launched_nodes: int
    stable_internal_external_ips: list[tuple[str, str]]
    cloud: str | None
    region: str | None
    zone: str | None
    instance_type: str | None
    price_hourly: float | None
    accelerators: dict[str, float] | None = None
    use_spot: bool = False
    image_id: str | None = None
    infra: str | None = None
    user: str | None = None
    ssh_port: int | None = None


class StatusResponse(Record):
    """A cluster, as `sky status` tells it. Times are seconds since the epoch; `memory` in GiB per node."""

    name: str
    status: str
    launched_at: int
    handle: HandleRecord
    last_use: str
    autostop: int | float
    to_down: bool
    owner: str
    metadata: dict[str, Any]
    cluster_hash: str
    cluster_ever_up: bool
    status_updated_at: int
    user_hash: str
    user_name: str
    workspace: str
    config_hash: str | None = None
    last_creation_yaml: str | None = None
    last_creation_command: str | None = None
    is_managed: bool = False
    last_event: str | None = None
    init_kind: str | None = None
    init_status_reason: str | None = None
    resources_str: str = "-"
    resources_str_full: str = "-"
    credentials: dict[str, Any] | None = None
    nodes: int = 1
    cloud: str | None = None
    region: str | None = None
    cpus: str | None = None
    memory: str | None = None
    accelerators: str | None = None
    labels: dict[str, str] | None = None
    cluster_name_on_cloud: str | None = None
    node_names: list[str] | None = None
    priority: int | None = None
    priority_class: str | None = None
    links: dict[str, str] | None = None


class CostRecord(Record):
    """What a cluster has cost. `duration` in seconds, `cost_hourly` and `total_cost` in USD for all nodes."""

    name: str
    launched_at: int | None
    duration: int
    num_nodes: int
    resources_str: str
    status: str | None
    cost_hourly: float
    total_cost: float
    cluster_hash: str
    user_hash: str
    user_name: str
    workspace: str
    cloud: str | None
    region: str | None
    usage_intervals: list[tuple[float, float | None]]


class EventRecord(Record):
    """One line of a cluster's story."""

    seq: int
    time: float
    entity: str
    name: str
    kind: str
    before: str
    after: str
    text: str


def user_hash(user: str) -> str:
    """Eight hexadecimal digits that stand for a user."""
    return hashlib.sha256(user.encode()).hexdigest()[:8]


def _amount(value: float) -> str:
    return f"{value:g}"


def _whole(minutes: float) -> int | float:
    """Minutes as people wrote them: 5, not 5.0."""
    return int(minutes) if minutes == int(minutes) else minutes


def accelerators_text(accelerators: Mapping[str, float]) -> str | None:
    """`{"H100": 8}` as `H100:8`; None for none."""
    return ", ".join(f"{name}:{_amount(count)}" for name, count in accelerators.items()) or None


def handle_record(cluster: Cluster) -> HandleRecord:
    """Where a cluster is, from its record."""
    offer = cluster.placement.offer if cluster.placement else None
    nodes = sorted(cluster.instances, key=lambda instance: instance.rank)
    reach = cluster.head.reach if cluster.head else {}
    return HandleRecord(
        cluster_name=cluster.name,
        cluster_name_on_cloud=cluster.name,
        head_ip=cluster.head.ip if cluster.head else None,
        launched_nodes=cluster.num_nodes,
        stable_internal_external_ips=[(each.ip, each.external_ip or each.ip) for each in nodes],
        cloud=offer.cloud if offer else None,
        region=offer.region if offer else None,
        zone=offer.zone if offer else None,
        instance_type=offer.instance_type if offer else None,
        price_hourly=cluster.placement.price_hourly if cluster.placement else None,
        accelerators=dict(cluster.placement.accelerators) or None if cluster.placement else None,
        use_spot=offer.use_spot if offer else False,
        image_id=_image(cluster.resources_config),
        infra=offer.place if offer else None,
        user=reach.get("user"),
        ssh_port=int(reach["port"]) if reach.get("port", "").isdecimal() else None,
    )


def _image(resources: Mapping[str, object]) -> str | None:
    found = resources.get("image_id")
    return found if isinstance(found, str) else None


#: Phases that show as INIT although nothing is starting for the first time.
_TROUBLE = {
    Phase.PROVISIONING: "provisioning",
    Phase.BOOTSTRAPPING: "bootstrapping",
    Phase.DEGRADED: "unhealthy",
    Phase.STOPPING: "stopping",
    Phase.RESUMING: "resuming",
    Phase.REPAIRING: "repairing",
    Phase.TERMINATING: "terminating",
}


def creation_text(task_config: Mapping[str, object]) -> str:
    """A task's configuration as text (JSON, hence YAML), its secrets left out."""
    secrets = task_config.get("secrets")
    shown = dict(task_config)
    if isinstance(secrets, Mapping):
        shown["secrets"] = dict.fromkeys(secrets, "<redacted>")
    return encode(shown).decode()


def status_response(cluster: Cluster, last: Entry | None, *, summary: bool) -> StatusResponse:
    """A cluster's record as it is told; `last` is the newest line of its story."""
    placement: Placement | None = cluster.placement
    offer = placement.offer if placement else None
    kind = _TROUBLE.get(cluster.phase)
    return StatusResponse(
        name=cluster.name,
        status=cluster.status.value,
        launched_at=int(cluster.launched_at or cluster.created_at),
        handle=handle_record(cluster),
        last_use=cluster.command,
        autostop=_whole(cluster.autostop.idle_minutes),
        to_down=cluster.autostop.down,
        owner=cluster.user,
        is_managed=cluster.owner is not None,
        metadata={"phase": cluster.phase.value, "request_id": cluster.request_id},
        cluster_hash=cluster.id,
        cluster_ever_up=cluster.ever_up,
        status_updated_at=int(cluster.status_at),
        user_hash=user_hash(cluster.user),
        user_name=cluster.user,
        workspace=cluster.workspace,
        last_creation_yaml=None if summary else creation_text(cluster.task_config),
        last_creation_command=cluster.command or None,
        last_event=last.text if last else None,
        init_kind=kind,
        init_status_reason=cluster.reason,
        resources_str=f"{cluster.num_nodes}x{cluster.resources}",
        resources_str_full=f"{cluster.num_nodes}x{cluster.resources}",
        nodes=cluster.num_nodes,
        cloud=offer.cloud if offer else None,
        region=offer.region if offer else None,
        cpus=_amount(placement.cpus) if placement else None,
        memory=_amount(placement.memory_gb) if placement else None,
        accelerators=accelerators_text(placement.accelerators) if placement else None,
        cluster_name_on_cloud=cluster.name,
        node_names=[instance.id for instance in cluster.instances] or None,
    )


def cost_record(cluster: Cluster, now: float, lines: Sequence[ledger.Entry] = ()) -> CostRecord:
    """What a cluster has cost up to `now`, by its lines in the ledger; without any, by its own record."""
    told = bill(cluster, lines, now)
    offer = cluster.placement.offer if cluster.placement else None
    return CostRecord(
        name=cluster.name,
        launched_at=int(cluster.launched_at) if cluster.launched_at else None,
        duration=int(sum((now if end is None else end) - start for start, end in told.times)),
        num_nodes=cluster.num_nodes,
        resources_str=f"{cluster.num_nodes}x{cluster.resources}",
        status=cluster.status.value if cluster.alive else None,
        cost_hourly=cluster.placement.price_hourly
        if cluster.placement
        else (cluster.billed or ((0.0, None, 0.0),))[-1][2],
        total_cost=told.cost,
        cluster_hash=cluster.id,
        user_hash=user_hash(cluster.user),
        user_name=cluster.user,
        workspace=cluster.workspace,
        cloud=offer.cloud if offer else None,
        region=offer.region if offer else None,
        usage_intervals=list(told.times),
    )


def event_record(entry: Entry) -> EventRecord:
    """A line of a story as it is told."""
    return EventRecord(
        seq=entry.seq,
        time=entry.time,
        entity=entry.entity,
        name=entry.name,
        kind=entry.kind,
        before=entry.before,
        after=entry.after,
        text=entry.text,
    )

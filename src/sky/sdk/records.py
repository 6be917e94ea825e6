"""Records that the SDK hands out: mappings whose fields can also be read as attributes.

Made from the server's JSON by `convert`, which `sdk.requests` calls with the name of the request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

from sky.core.model.statuses import (
    ClusterStatus,
    JobStatus,
    ManagedJobScheduleState,
    ManagedJobStatus,
    ReplicaStatus,
    RequestStatus,
    ServiceStatus,
)


class Record(dict[str, Any]):
    """`record["name"]` and `record.name` are the same; a dict otherwise, so `json.dumps` and `dict()` work."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}; it has: {', '.join(self)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self]

    def model_dump(self, *, mode: str = "python", **_options: Any) -> dict[str, Any]:
        """The fields as plain dictionaries, for programs that know such records from elsewhere.

        mode: `json` makes enums plain texts, too.
        """
        found: dict[str, Any] = _plain(self, mode == "json")
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.items())})"


def _plain(value: Any, as_json: bool) -> Any:
    if isinstance(value, Mapping):
        return {(str(key) if as_json else key): _plain(each, as_json) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, as_json) for each in value]
    return value.value if as_json and isinstance(value, Enum) else value


class ByNumber(dict[int, Any]):
    """A mapping by number that programs also read by the number's text: `ports[8080]` and `ports["8080"]`."""

    def __missing__(self, key: object) -> Any:
        if isinstance(key, str) and key.isdecimal() and int(key) in self:
            return self[int(key)]
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(int(key) if isinstance(key, str) and key.isdecimal() else key)

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a number or of its text."""
        try:
            return self[key]
        except KeyError:
            return default


class ClusterHandle(Record):
    """Where a cluster is: `cluster_name`, `head_ip`, `launched_nodes`, `cloud`, `region`, `zone`, `instance_type` …"""

    @property
    def launched_resources(self) -> Record:
        """What each node is: `cloud` as a value such as `sky.AWS()`, the rest as texts and numbers."""
        from sky.core.model.clouds import cloud_named  # noqa: PLC0415 - only for who asks

        keys = ("region", "zone", "instance_type", "accelerators", "use_spot", "image_id", "infra", "price_hourly")
        name = self.get("cloud")
        return Record({"cloud": cloud_named(name) if name else None, **{key: self.get(key) for key in keys}})

    @property
    def ssh_user(self) -> str | None:
        """Who logs in to the nodes."""
        user: str | None = self.get("user")
        return user

    @property
    def docker_user(self) -> None:
        """Who works in the container: nobody else."""

    def get_cluster_name(self) -> str:
        """The cluster's name."""
        return str(self["cluster_name"])

    def get_hourly_price(self) -> float:
        """USD per hour for all nodes; 0 where nobody knows a price."""
        return float(self.get("price_hourly") or 0.0)

    def internal_ips(self) -> list[str]:
        """The nodes' addresses among themselves, in the order of their ranks."""
        return [each[0] for each in self.get("stable_internal_external_ips") or ()]

    def external_ips(self) -> list[str]:
        """The nodes' addresses from outside, in the order of their ranks."""
        return [each[1] for each in self.get("stable_internal_external_ips") or ()]

    def external_ssh_ports(self) -> list[int]:
        """The ports of SSH at those addresses."""
        return [int(self.get("ssh_port") or 22)] * len(self.external_ips())


class StatusResponse(Record):
    """A cluster as `sky.status` tells it."""


class ClusterJobRecord(Record):
    """A job as `sky.queue` tells it."""


class CostRecord(Record):
    """A cluster as `sky.cost_report` tells it."""


class LedgerRecord(Record):
    """A billed thing as `sky.ledger` tells it."""


class EventRecord(Record):
    """One line of a cluster's story."""


class ManagedJobRecord(Record):
    """A task of a managed job as `sky.jobs.queue` tells it."""


class PoolRecord(Record):
    """A pool as `sky.jobs.pool_status` tells it."""


class JobIds(list[int]):
    """Ids of the managed jobs that a launch opened: a list and, where there is one, also wherever a number is expected.

    `int(ids)`, `ids == 7`, `{7: …}[ids]`, `f"{ids}"` and an argument `job_id=ids` are then those of the id. As JSON, in
    `repr` and in loops it is the list.
    """

    def _one(self) -> int:
        if len(self) != 1:
            raise TypeError(f"these are {len(self)} managed jobs, not one: {list(self)!r}")
        return self[0]

    def __int__(self) -> int:
        return self._one()

    def __index__(self) -> int:
        return self._one()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int):
            return len(self) == 1 and self[0] == other
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self._one())

    def __str__(self) -> str:
        return str(self[0]) if len(self) == 1 else super().__str__()

    def __format__(self, spec: str) -> str:
        return format(self[0], spec) if len(self) == 1 else super().__format__(spec)


class RequestPayload(Record):
    """A request as `sky.api_status` tells it."""


class APIHealthResponse(Record):
    """What `sky.api_info` tells of the server."""


class AcceleratorOffer(Record):
    """An instance type with accelerators in one place: `instance_type`, `region`, `price`, `spot_price` (USD/h) …"""


class PlacementRecord(Record):
    """A place where a task can run, as `sky.optimize` tells it."""

    def resources(self) -> Any:
        """The `sky.Resources` that ask for exactly this and know its price: `get_cost(seconds)` is of one node."""
        from sky.core.model.accelerators import parse_accelerators  # noqa: PLC0415 - only for who asks
        from sky.core.model.resources import Resources  # noqa: PLC0415

        asked = self.get("accelerators")
        nodes = self["num_nodes"] - self.get("reserved_nodes", 0)
        return Resources(
            cloud=self["cloud"],
            region=self["region"] if self["region"] != self["cloud"] else None,
            zone=self["zone"],
            instance_type=self["instance_type"],
            accelerators={each.name: each.count for each in parse_accelerators(asked)} if asked else None,
            use_spot=self["use_spot"],
            _price_hourly=self["price_hourly"] / nodes if nodes else 0.0,
        )


class PlanRecord(Record):
    """Where a task would run: `placements`, best first, and `rejections`, each with its reason."""


class CloudAccess(list[str]):
    """What a place can do for this user (nothing if it cannot be used); `reason` and `hint` say why and what to do.

    `credentials` says whether the user's were found; `None` where the place takes none.
    """

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(told["capabilities"] if told["enabled"] else ())
        self.enabled: bool = told["enabled"]
        self.reason: str = told["reason"]
        self.hint: str = told["hint"]
        self.account: str | None = told["account"]
        self.credentials: bool | None = told.get("credentials")


def _status(told: Mapping[str, Any]) -> StatusResponse:
    record = StatusResponse(told)
    record["status"] = ClusterStatus(record["status"])
    record["handle"] = ClusterHandle(record["handle"])
    return record


def _job(told: Mapping[str, Any]) -> ClusterJobRecord:
    record = ClusterJobRecord(told)
    record["status"] = JobStatus(record["status"])
    return record


def _managed_job(told: Mapping[str, Any]) -> ManagedJobRecord:
    record = ManagedJobRecord(told)
    if "status" in record:
        record["status"] = ManagedJobStatus(record["status"])
    if "schedule_state" in record:
        record["schedule_state"] = ManagedJobScheduleState(record["schedule_state"])
    return record


def _managed_jobs(told: Mapping[str, Any]) -> tuple[list[ManagedJobRecord], int, dict[str, int], int]:
    return [_managed_job(each) for each in told["jobs"]], told["total"], told["status_counts"], told["total_no_filter"]


def _pool(told: Mapping[str, Any]) -> Record:
    record = PoolRecord(told)
    record["status"] = ServiceStatus(record["status"])
    record["replica_info"] = [
        Record({**each, "status": ReplicaStatus(each["status"])}) for each in told["replica_info"]
    ]
    return record


def _cost(told: Mapping[str, Any]) -> CostRecord:
    record = CostRecord(told)
    record["status"] = ClusterStatus(record["status"]) if record["status"] else None
    return record


def _plan(told: Mapping[str, Any]) -> PlanRecord:
    record = PlanRecord(told)
    for part in ("placements", "places"):
        record[part] = [PlacementRecord(each) for each in record.get(part) or ()]
    record["answers"] = [Record(each) for each in record.get("answers") or ()]
    record["rejections"] = [Record(each) for each in record["rejections"]]
    return record


def request_payload(told: Mapping[str, Any]) -> RequestPayload:
    """A request on record: `name` is that of the call, as `sky.jobs.launch`, `request_body` JSON."""
    record = RequestPayload(told)
    record["name"] = f"sky.{record['name'].replace('/', '.')}"
    record["request_body"] = json.dumps(record.get("request_body") or {})
    record["status"] = RequestStatus(record["status"])
    return record


def _job_statuses(told: Mapping[str, str | None]) -> dict[int, JobStatus | None]:
    return ByNumber({int(id): JobStatus(status) if status else None for id, status in told.items()})


def _check(told: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, CloudAccess]]:
    return {place: {cloud: CloudAccess(access) for cloud, access in found.items()} for place, found in told.items()}


#: Where managed jobs are looked after, for programs that expect a handle of it: no machine, but the server itself.
_NOWHERE: dict[str, Any] = {
    "cluster_name": "sky-jobs-controller",
    "cluster_name_on_cloud": "sky-jobs-controller",
    "head_ip": None,
    "launched_nodes": 0,
    "stable_internal_external_ips": [],
    "cloud": None,
    "region": None,
    "zone": None,
    "instance_type": None,
    "price_hourly": 0.0,
}

_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "status": lambda told: [_status(each) for each in told],
    "queue": lambda told: [_job(each) for each in told],
    "job_status": _job_statuses,
    "cost_report": lambda told: [_cost(each) for each in told],
    "ledger": lambda told: [LedgerRecord(each) for each in told],
    "cluster_events": lambda told: [EventRecord(each) for each in told],
    "endpoints": lambda told: ByNumber({int(port): url for port, url in told.items()}),
    "check": _check,
    "list_accelerators": lambda told: {acc: [AcceleratorOffer(each) for each in rows] for acc, rows in told.items()},
    "catalog_status": Record,
    "catalog_refresh": lambda told: [Record(each) for each in told],
    "ssh_up": lambda told: [Record(each) for each in told],
    "optimize": lambda told: [_plan(each) for each in told],
    "stop": lambda told: None,
    "down": lambda told: None,
    "autostop": lambda told: None,
    "cancel": lambda told: None,
    "jobs/launch": lambda told: (JobIds(told["job_ids"]), ClusterHandle(_NOWHERE)),
    "jobs/queue": _managed_jobs,
    "jobs/queue/1": lambda told: _managed_jobs(told)[0],
    "jobs/cancel": lambda told: None,
    "jobs/pool_apply": lambda told: None,
    "jobs/pool_down": lambda told: None,
    "jobs/pool_status": lambda told: [_pool(each) for each in told],
    "jobs/events": lambda told: [EventRecord(each) for each in told],
}


def convert(name: str, result: Any) -> Any:
    """What a caller of `name` expects, from the JSON that the server gave as its result."""
    change = _CONVERSIONS.get(name)
    return result if change is None else change(result)

"""TPU machines, which have an interface of their own (tpu.googleapis.com, v2): requests, queue, states, records.

A TPU of one host is a node like any other. A slice of several hosts is one thing to Google and several nodes to us:
its network endpoints are the ranks, in Google's order. `compute` asks here for offers called `tpu-…`.
"""

import re
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from sky.core.errors import (
    CapacityRefused,
    CredentialsRejected,
    InstanceNotFound,
    NotSupportedError,
    ProviderDown,
    RequestInvalid,
)
from sky.core.model.clusters import InstanceState
from sky.core.model.offers import Offer
from sky.core.ports import CreateAsk
from sky.kit.backoff import delays
from sky.kit.clock import Clock, SystemClock
from sky.providers.gcp import errors, instances, names
from sky.providers.gcp.access import Account
from sky.providers.gcp.config import Queue
from sky.providers.gcp.gang import to_the_end
from sky.providers.gcp.instances import Machine, Parts
from sky.providers.gcp.network import Network
from sky.providers.gcp.rest import Json, Rest

_NAME = re.compile(r"tpu-v(?P<generation>\d+[a-z]*)-(?P<size>\d{1,5})")
#: Google's word for a generation where it is another than ours; cores or chips are counted as in its names.
_WORDS: Mapping[str, str] = {"5e": "v5litepod", "5lite": "v5litepod", "5litepod": "v5litepod"}
#: Up to how many (by name) are one host, and how many there are on each host of a larger slice.
_HOSTS: Mapping[str, tuple[int, int]] = {"v5litepod": (8, 4), "v6e": (8, 4)}
_OLDER_HOSTS = (8, 8)
_RUNTIMES: Mapping[str, str] = {
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
_OLDER_RUNTIME = "tpu-ubuntu2204-base"
_RESOURCE = re.compile(
    r"projects/[\w.:-]+/locations/(?P<zone>[\w-]+)/(?:nodes|operations|queuedResources)/(?P<id>[\w.-]+)"
)
_PAGE = "500"
_READY_S = 1800.0


def accelerator_type(offer: Offer) -> str:
    """Google's name of a TPU, such as `v5litepod-8`. Raises RequestInvalid."""
    found = _NAME.fullmatch(offer.instance_type)
    if found is None:
        raise RequestInvalid(f"{offer.instance_type} is no TPU's name", scope="instance_type")
    return f"{_WORDS.get(found['generation'], 'v' + found['generation'])}-{found['size']}"


def hosts(accelerator: str) -> int:
    """Machines of a slice."""
    generation, _, size = accelerator.partition("-")
    alone, each = _HOSTS.get(generation, _OLDER_HOSTS)
    return 1 if int(size) <= alone else -(-int(size) // each)


def node(ask: CreateAsk, parts: Parts, net: Network) -> dict[str, Any]:
    """The body of `nodes.create`; `image` of the ask is a runtime version here."""
    accelerator = accelerator_type(ask.placement.offer)
    config = parts.config
    way: dict[str, Any] = {
        "network": net.path,
        "enableExternalIps": not config.internal_ips or config.external_too,
    }
    if net.subnet:
        way["subnetwork"] = net.subnet
    wanted = ask.machine.image or ""
    body: dict[str, Any] = {
        "acceleratorType": accelerator,
        "runtimeVersion": wanted if re.fullmatch(r"[a-z0-9][a-z0-9.-]*", wanted) else _runtime(accelerator),
        "networkConfig": way,
        "labels": instances.labels(ask, parts),
        "metadata": instances.metadata(ask, parts),
        "tags": [parts.mark, parts.tag],
    }
    if parts.shape.spot:
        body["schedulingConfig"] = {"spot": True}
    if account := config.service_account(ask.cluster_name):
        body["serviceAccount"] = {"scope": [instances.SCOPE], **({} if account == "default" else {"email": account})}
    return body


def queued(ask: CreateAsk, parts: Parts, net: Network, queue: Queue, place: str, node_id: str) -> dict[str, Any]:
    """The body of `queuedResources.create` for one TPU: waited for no longer than configured."""
    body = node(ask, parts, net)
    body.pop("schedulingConfig", None)
    made: dict[str, Any] = {
        "tpu": {"nodeSpec": [{"parent": place, "nodeId": node_id, "node": body}]},
        "queueingPolicy": {"validUntilDuration": f"{max(1, round(queue.wait_s))}s"},
    }
    if parts.shape.spot:
        made["spot"] = {}
    return made


def slices(ask: CreateAsk) -> Sequence[int]:
    """The first rank of each TPU to make. Raises NotSupportedError where nodes and hosts do not come out even."""
    each = hosts(accelerator_type(ask.placement.offer))
    if each == 1:
        return ask.wanted
    if ask.placement.num_nodes != each or len(ask.wanted) != each:
        raise NotSupportedError(
            f"{ask.placement.offer.instance_type} is a slice of {each} hosts, each of them a node: "
            f"set num_nodes: {each} (several slices in one cluster are not supported yet)"
        )
    return (0,)


class Tpus:
    """TPUs of one account."""

    def __init__(self, rest: Rest, account: Account, installation: str) -> None:
        self._rest = rest
        self._account = account
        self._installation = installation
        self._clock: Clock = SystemClock()

    async def make(self, ask: CreateAsk, parts: Parts, net: Network, first: int) -> None:
        """Make one TPU, or find the one that this ask made before. Returns when it is ready."""
        name = names.machine(parts.mark, first)
        there = await self._record(parts.zone, name)
        if there is not None and self._wanted(there, ask):
            return await self._ready(parts.zone, name)
        if there is not None:
            await self.end(parts.zone, name)
        queue = parts.config.queue
        try:
            if queue is None:
                body = node(ask, parts, net)
                await self._wait(await self._send("POST", f"{self._place(parts.zone)}/nodes", body, nodeId=name))
            else:
                body = queued(ask, parts, net, queue, self._place(parts.zone), name)
                where = f"{self._place(parts.zone)}/queuedResources"
                await self._wait(await self._send("POST", where, body, queuedResourceId=name))
                ask.say(f"Waiting up to {queue.wait_s:.0f} s for {ask.placement.offer.instance_type} in {parts.zone}")
                await self._granted(f"{where}/{name}", queue)
        except errors.AlreadyThere:
            # Our own request, whose answer was lost on its way.
            pass
        return await self._ready(parts.zone, name)

    async def all(self) -> Sequence[Machine]:
        """All TPU machines of this installation; none where the interface is not enabled."""
        found: list[Machine] = []
        token = ""
        for _ in range(100):
            query = {"pageSize": _PAGE, **({"pageToken": token} if token else {})}
            try:
                page = await self._send("GET", f"projects/{self._account.project}/locations/-/nodes", None, **query)
            except (InstanceNotFound, CredentialsRejected) as refused:
                if isinstance(refused, InstanceNotFound) or "SERVICE_DISABLED" in refused.reason:
                    return []
                raise
            listed = page.get("nodes")
            for record in listed if isinstance(listed, list) else ():
                found += machines(record, self._installation)
            token = str(page.get("nextPageToken") or "")
            if not token:
                return found
        raise ProviderDown("the list of TPUs has no end", scope="account")

    async def look(self, zone: str, name: str) -> Sequence[Machine]:
        """A TPU's machines as they are now."""
        record = await self._record(zone, name)
        return [] if record is None else machines(record, self._installation)

    async def change(self, machine: Machine, verb: str) -> None:
        """`stop` or `start` a TPU; slices of several hosts can do neither."""
        await self._wait(await self._send("POST", f"{self._place(machine.zone)}/nodes/{machine.name}:{verb}", {}))

    async def end(self, zone: str, name: str) -> None:
        """Delete a TPU with the request for it; what is gone is no failure."""
        for kind, query in (("queuedResources", {"force": "true"}), ("nodes", {})):
            try:
                await self._wait(await self._send("DELETE", f"{self._place(zone)}/{kind}/{name}", None, **query))
            except InstanceNotFound:
                continue

    # --- parts ---------------------------------------------------------------------------------------------------

    def _place(self, zone: str) -> str:
        return f"projects/{self._account.project}/locations/{zone}"

    async def _send(self, verb: str, path: str, body: Json | None, **query: str) -> Json:
        return await self._rest.send(self._account, verb, f"{self._account.tpu}/v2/{path}", body, query)

    async def _record(self, zone: str, name: str) -> Json | None:
        try:
            return await self._send("GET", f"{self._place(zone)}/nodes/{name}", None)
        except InstanceNotFound:
            return None

    @staticmethod
    def _wanted(record: Json, ask: CreateAsk) -> bool:
        labels = record.get("labels")
        state = instances.STATES.get(str(record.get("state")), InstanceState.PENDING)
        same = isinstance(labels, Mapping) and labels.get(names.KEY) == names.key_label(ask.key)
        return same and state in (InstanceState.PENDING, InstanceState.RUNNING)

    async def _wait(self, operation: Json) -> None:
        """Until an operation is done. Raises what it failed with."""
        until = self._clock.now() + _READY_S
        for delay in delays(0.2, 1.5, 5.0):
            if operation.get("done"):
                break
            name = str(operation.get("name", ""))
            if not _RESOURCE.fullmatch(name) or self._clock.now() > until:
                raise ProviderDown("an operation on a TPU has no end", scope="zone")
            await self._clock.sleep(delay)
            operation = await self._send("GET", name, None)
        failed = operation.get("error")
        if isinstance(failed, Mapping):
            raise errors.from_rpc(failed)

    async def _granted(self, path: str, queue: Queue) -> None:
        until = self._clock.now() + queue.wait_s
        for delay in delays(0.5, 1.5, 15.0):
            said = (await self._send("GET", path, None)).get("state")
            state = said.get("state") if isinstance(said, Mapping) else None
            if state == "ACTIVE":
                return
            if state in ("FAILED", "SUSPENDED", "SUSPENDING"):
                failed = said.get("failedData") if isinstance(said, Mapping) else None
                error = failed.get("error") if isinstance(failed, Mapping) else None
                raise errors.from_rpc(error) if isinstance(error, Mapping) else _none(str(state).lower())
            if self._clock.now() > until:
                raise _none(f"not granted within {queue.wait_s:.0f} s (gcp.managed_instance_group.provision_timeout)")
            await self._clock.sleep(min(delay, max(0.0, until - self._clock.now()) + 0.1))

    async def _ready(self, zone: str, name: str) -> None:
        until = self._clock.now() + _READY_S
        for delay in delays(0.2, 1.5, 5.0):
            record = await self._record(zone, name)
            state = instances.STATES.get(str((record or {}).get("state")), InstanceState.PENDING)
            if state is InstanceState.RUNNING:
                return
            if record is None or state is not InstanceState.PENDING:
                raise CapacityRefused(f"TPU {name} was taken away while it began", scope="zone")
            if self._clock.now() > until:
                raise ProviderDown(f"TPU {name} is not ready after {_READY_S:.0f} s", scope="zone")
            await self._clock.sleep(delay)


class Slices:
    """The TPUs of one ask; a `Source` of `gang`."""

    def __init__(self, tpus: Tpus, ask: CreateAsk, parts: Parts, net: Network) -> None:
        self._tpus = tpus
        self._ask = ask
        self._parts = parts
        self._net = net
        self._firsts = slices(ask)

    def making(self) -> Sequence[Coroutine[Any, Any, None]]:
        """See `gang.Source`."""
        return [self._tpus.make(self._ask, self._parts, self._net, first) for first in self._firsts]

    def running(self) -> Sequence[Coroutine[Any, Any, Sequence[Machine]]]:
        """See `gang.Source`."""
        return [self._tpus.look(self._parts.zone, names.machine(self._parts.mark, first)) for first in self._firsts]

    async def end(self) -> None:
        """See `gang.Source`."""
        zone, mark = self._parts.zone, self._parts.mark
        await to_the_end([self._tpus.end(zone, names.machine(mark, first)) for first in self._firsts])


def machines(record: object, installation: str) -> Sequence[Machine]:
    """The machines of a TPU of this installation; none of others', and none of a record that cannot be read."""
    if not isinstance(record, Mapping):
        return []
    found = _RESOURCE.fullmatch(str(record.get("name", "")))
    labels, metadata = _mapping(record.get("labels")), _mapping(record.get("metadata"))
    cluster = str(metadata.get(names.METADATA_CLUSTER) or labels.get(names.CLUSTER, ""))
    if found is None or labels.get(names.INSTALLATION) != names.label_value(installation):
        return []
    first = names.rank_of(found["id"])
    if first is None or not cluster or names.mark(installation, cluster) != found["id"].rpartition("-")[0]:
        return []
    endpoints = record.get("networkEndpoints")
    listed = [_mapping(each) for each in endpoints] if isinstance(endpoints, list) and endpoints else [{}]
    return [
        Machine(
            name=found["id"],
            zone=found["zone"],
            status=str(record.get("state", "")),
            cluster_id=cluster,
            rank=first + place,
            key=str(labels.get(names.KEY, "")),
            spot=bool(_mapping(record.get("schedulingConfig")).get("spot")),
            ip=str(each.get("ipAddress") or ""),
            external_ip=str(_mapping(each.get("accessConfig")).get("externalIp") or "") or None,
            group="",
            scratch=False,
            boot_disk="",
            record=record,
            tpu=True,
        )
        for place, each in enumerate(listed[:4096])
    ]


def _none(words: str) -> CapacityRefused:
    return CapacityRefused(f"the request for a TPU was {words}", scope="zone")


def _runtime(accelerator: str) -> str:
    return _RUNTIMES.get(accelerator.partition("-")[0], _OLDER_RUNTIME)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

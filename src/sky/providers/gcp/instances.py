"""One machine of Compute Engine: the request that makes it, and what its record says once it is there.

The request is built from an ask and what `network`, `images` and `placement` found out; `gang` sends it. Records come
from outside: a machine whose record lacks what it must have is left out, never guessed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sky.core.model.clusters import Instance, InstanceState
from sky.core.model.machines import Login
from sky.core.ports import CreateAsk
from sky.providers.gcp import names, shapes
from sky.providers.gcp.config import GcpConfig
from sky.providers.gcp.rest import Json
from sky.providers.gcp.shapes import Shape

#: The user that keys are put in for; Google's agent on the machine makes it, with sudo.
USER = "sky"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")

#: Of machines, and of TPUs where they have other words.
STATES: Mapping[str, InstanceState] = {
    "PENDING": InstanceState.PENDING,
    "PROVISIONING": InstanceState.PENDING,
    "STAGING": InstanceState.PENDING,
    "REPAIRING": InstanceState.PENDING,
    "RUNNING": InstanceState.RUNNING,
    "PENDING_STOP": InstanceState.STOPPING,
    "STOPPING": InstanceState.STOPPING,
    "SUSPENDING": InstanceState.STOPPING,
    "DEPROVISIONING": InstanceState.STOPPING,
    "STOPPED": InstanceState.STOPPED,
    "SUSPENDED": InstanceState.STOPPED,
    "TERMINATED": InstanceState.STOPPED,
    "CREATING": InstanceState.PENDING,
    "STARTING": InstanceState.PENDING,
    "RESTARTING": InstanceState.PENDING,
    "REIMAGING": InstanceState.PENDING,
    "UNHIDING": InstanceState.PENDING,
    "READY": InstanceState.RUNNING,
    "DELETING": InstanceState.STOPPING,
    "HIDING": InstanceState.STOPPING,
    "HIDDEN": InstanceState.STOPPED,
    "PREEMPTED": InstanceState.STOPPED,
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What all machines of one ask have in common, found out before the first is made.

    `policies` are paths of placement policies, `affinities` the reservation of each rank.
    """

    shape: Shape
    mark: str
    tag: str
    installation: str
    zone: str
    image: str
    least_disk_gb: int
    cards: Sequence[Json]
    config: GcpConfig
    login: Login | None = None
    policies: Sequence[str] = ()
    affinities: Mapping[int, Json] = field(default_factory=dict)


def properties(ask: CreateAsk, parts: Parts) -> dict[str, Any]:
    """A machine without name, rank and zone, as a template has it. Raises RequestInvalid."""
    made = parts.shape
    disk = {
        "sourceImage": parts.image,
        "diskSizeGb": str(max(ask.machine.disk_size_gb, parts.least_disk_gb)),
        "labels": labels(ask, parts),
        **shapes.disk(made, ask.machine.disk_tier, parts.zone),
    }
    body: dict[str, Any] = {
        "machineType": made.machine_type,
        "labels": labels(ask, parts),
        "tags": {"items": [parts.mark, parts.tag]},
        "disks": [{"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": disk}],
        "networkInterfaces": [dict(card) for card in parts.cards],
        "metadata": {"items": [{"key": key, "value": value} for key, value in metadata(ask, parts).items()]},
        "scheduling": shapes.scheduling(made, still=bool(parts.policies)),
    }
    if made.attached is not None:
        name, count = made.attached
        body["guestAccelerators"] = [{"acceleratorType": name, "acceleratorCount": count}]
    if account := parts.config.service_account(ask.cluster_name):
        body["serviceAccounts"] = [{"email": account, "scopes": [SCOPE]}]
    if parts.policies:
        body["resourcePolicies"] = list(parts.policies)
    if ask.machine.network_tier == "best" and made.wide:
        body["networkPerformanceConfig"] = {"totalEgressBandwidthTier": "TIER_1"}
    return body


def request(ask: CreateAsk, rank: int, parts: Parts) -> dict[str, Any]:
    """The body of `instances.insert`."""
    body = properties(ask, parts)
    zone = f"zones/{parts.zone}"
    body["name"] = names.machine(parts.mark, rank)
    body["machineType"] = f"{zone}/machineTypes/{body['machineType']}"
    body["labels"] = body["labels"] | {names.RANK: str(rank)}
    for each in body.get("guestAccelerators", ()):
        each["acceleratorType"] = f"{zone}/acceleratorTypes/{each['acceleratorType']}"
    if affinity := parts.affinities.get(rank):
        body["reservationAffinity"] = dict(affinity)
    return body


def labels(ask: CreateAsk, parts: Parts) -> dict[str, str]:
    """Labels of a machine, the user's among them."""
    own = {
        **ask.labels,
        names.INSTALLATION: parts.installation,
        names.CLUSTER: ask.cluster_id,
        names.KEY: names.key_label(ask.key),
    }
    return names.labels(own, parts.config.labels, ask.machine.labels)


def metadata(ask: CreateAsk, parts: Parts) -> dict[str, str]:
    """What the machine reads about itself at its start. Keys of the project and its login service stay out."""
    items = {
        names.METADATA_CLUSTER: ask.cluster_id,
        "block-project-ssh-keys": "TRUE",
        "enable-oslogin": "FALSE",
    }
    if parts.login is not None:
        items["ssh-keys"] = f"{USER}:{parts.login.public_key}"
        items["user-data"] = _cloud_config(parts.login)
        items["startup-script"] = _startup(parts.login)
    if parts.shape.gpu is not None:
        items["install-nvidia-driver"] = "True"
    return items


def _cloud_config(login: Login) -> str:
    """For images with cloud-init, which sets host keys before sshd begins. JSON is YAML."""
    keys = {"ed25519_private": login.host_private_key, "ed25519_public": login.host_public_key}
    return "#cloud-config\n" + json.dumps({"ssh_deletekeys": True, "ssh_keys": keys})


#: For images without cloud-init. Runs at every boot; does something at the first only. sshd is told by a hang-up once
#: it can hear it, which its file with its number shows; before, it would be ended by it.
_STARTUP = """#!/bin/sh
umask 077
key=/etc/ssh/ssh_host_ed25519_key
if [ "$(cut -d' ' -f1,2 "$key.pub" 2>/dev/null)" = '{public}' ]; then exit 0; fi
cat > "$key.sky" <<'END-OF-KEY'
{private}
END-OF-KEY
echo '{public}' > "$key.pub.sky"
chmod 644 "$key.pub.sky"
mv -f "$key.pub.sky" "$key.pub"
mv -f "$key.sky" "$key"
tries=0
while [ $tries -lt 100 ]; do
  pid=$(cat /run/sshd.pid 2>/dev/null)
  if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = sshd ]; then kill -HUP "$pid"; exit 0; fi
  tries=$((tries + 1))
  sleep 0.1
done
systemctl try-reload-or-restart ssh || systemctl try-reload-or-restart sshd
"""


def _startup(login: Login) -> str:
    public = " ".join(login.host_public_key.split()[:2])
    return _STARTUP.format(public=public, private=login.host_private_key.strip())


# --- what a record says ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of this installation as Google records it. `group` is the managed group that made it, if one did."""

    name: str
    zone: str
    status: str
    cluster_id: str
    rank: int
    key: str
    spot: bool
    ip: str
    external_ip: str | None
    group: str
    scratch: bool
    boot_disk: str
    record: Json = field(repr=False, compare=False)
    tpu: bool = False

    @property
    def region(self) -> str:
        return self.zone.rpartition("-")[0]

    @property
    def state(self) -> InstanceState:
        return STATES.get(self.status, InstanceState.PENDING)

    @property
    def alive(self) -> bool:
        """Whether it runs, or is about to."""
        return self.state in (InstanceState.PENDING, InstanceState.RUNNING)


def read(record: object, installation: str) -> Machine | None:
    """A machine of this installation; None for all others, and for a record that cannot be read."""
    if not isinstance(record, Mapping):
        return None
    shown = _mapping(record.get("labels"))
    name, zone = str(record.get("name", "")), _last(record.get("zone"))
    if shown.get(names.INSTALLATION) != names.label_value(installation):
        return None
    if not _NAME.fullmatch(name) or not _NAME.fullmatch(zone):
        return None
    told = _metadata_of(record)
    cluster = told.get(names.METADATA_CLUSTER, str(shown.get(names.CLUSTER, "")))
    rank = _rank(shown.get(names.RANK), name)
    if rank is None or not cluster or names.mark(installation, cluster) != name.rpartition("-")[0]:
        return None
    ip, external = _addresses(record)
    disks = [_mapping(each) for each in _list(record.get("disks"))]
    return Machine(
        name,
        zone,
        str(record.get("status", "")),
        cluster,
        rank,
        str(shown.get(names.KEY, "")),
        _mapping(record.get("scheduling")).get("provisioningModel") == "SPOT",
        ip,
        external,
        _last(told.get("created-by", "")),
        any(each.get("type") == "SCRATCH" for each in disks),
        _boot_disk(disks, zone, name),
        record,
    )


def instance(machine: Machine, config: GcpConfig, login: Login | None) -> Instance:
    """As the contract has it, with the way to reach it."""
    host = machine.ip if config.internal_ips else machine.external_ip or machine.ip
    reach = {
        "kind": "ssh",
        "host": host,
        "port": "22",
        "user": USER,
        "host_key": " ".join(login.host_public_key.split()[:2]) if login is not None else "",
        "power": "machine",
    }
    if proxy := config.proxy_command(machine.region):
        reach["proxy_command"] = proxy
    if machine.spot:
        reach["notice"] = "gcp"
    if machine.group:
        reach["group"] = machine.group
    return Instance(
        id=f"{machine.cluster_id}-{machine.rank}",
        cluster_id=machine.cluster_id,
        rank=machine.rank,
        state=machine.state,
        ip=machine.ip,
        reach=reach,
        reason=_reason(machine),
        machine=machine.name,
        external_ip=machine.external_ip,
        since=_since(machine),
    )


def _since(machine: Machine) -> float | None:
    """When its state began, by Google's own times: seconds since the epoch."""
    told = machine.record
    if machine.state in (InstanceState.RUNNING, InstanceState.PENDING):
        text = told.get("lastStartTimestamp") or told.get("creationTimestamp")
    elif machine.state is InstanceState.STOPPED:
        text = told.get("lastSuspendedTimestamp" if machine.status == "SUSPENDED" else "lastStopTimestamp")
    else:
        return None
    return seconds(text)


def seconds(text: object) -> float | None:
    """A time as Google writes it; None for what is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp() if text else None
    except (ValueError, OverflowError):
        return None


def _reason(machine: Machine) -> str | None:
    if machine.state is not InstanceState.STOPPED:
        return None
    if machine.status in ("SUSPENDED", "PREEMPTED"):
        return machine.status.lower()
    return "preempted by Google, or stopped" if machine.spot else "stopped, or shut down from inside"


def _addresses(record: Json) -> tuple[str, str | None]:
    card = _mapping(next(iter(_list(record.get("networkInterfaces"))), None))
    outside = _mapping(next(iter(_list(card.get("accessConfigs"))), None)).get("natIP")
    return str(card.get("networkIP") or ""), str(outside) if outside else None


def _boot_disk(disks: Sequence[Mapping[str, Any]], zone: str, name: str) -> str:
    """The path of the disk that a machine boots from, which Google calls by the machine where nothing is said."""
    source = next((str(each.get("source") or "") for each in disks if each.get("boot")), "")
    return source.partition("/compute/v1/")[2] or source or f"zones/{zone}/disks/{name}"


def _rank(label: object, name: str) -> int | None:
    text = str(label or "")
    return int(text) if text.isdecimal() and len(text) < 6 else names.rank_of(name)


def _metadata_of(record: Json) -> Mapping[str, str]:
    items = [_mapping(each) for each in _list(_mapping(record.get("metadata")).get("items"))]
    return {str(each.get("key")): str(each.get("value", "")) for each in items}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _last(link: object) -> str:
    return str(link or "").rpartition("/")[2]

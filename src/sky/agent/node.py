"""What a node knows of itself: `node.json`, written by bootstrap before the agent starts, and the paths that follow
from it.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import Any, Dict, List, NamedTuple, Optional, Union

from .fields import Fields, bad

NOTICES = ("", "aws", "gcp")
#: Where every cloud serves what a machine may know of itself.
METADATA = "http://169.254.169.254"


class Devices(NamedTuple):
    """Accelerators of a node: their name and the index that makes each visible to a process."""

    name: str
    indices: List[Union[int, str]]


class Tls(NamedTuple):
    """The cluster's certificate and its key, PEM."""

    cert: str
    key: str

    def __repr__(self) -> str:
        return "Tls(...)"  # whoever prints a node must not print the key


class Node(NamedTuple):
    """One node of a cluster.

    `cpus` are schedulable slots, `memory_gb` is 0 when unknown, peers and ips are listed by rank, `lost_after` is how
    many seconds a silent node of a gang is waited for. `listen` is where peers on other machines connect
    (`tls://address:port`), with the identity in `tls`. `notice` names the cloud whose metadata service, at `metadata`,
    announces that the machine will be taken away; empty where none does.
    """

    cluster_name: str
    cluster_id: str
    node_id: str
    rank: int
    num_nodes: int
    ips: List[str]
    peers: List[str]
    socket: str
    home: str
    cpus: float
    memory_gb: float
    devices: Optional[Devices]
    infra: Dict[str, Any]
    user: str
    power_off: Dict[str, List[str]]
    lost_after: float
    listen: Optional[str]
    tls: Optional[Tls]
    notice: str
    metadata: str
    checksum: int

    @property
    def root(self) -> str:
        """The agent's own folder."""
        return os.path.join(self.home, ".sky", "agent")

    @property
    def logs(self) -> str:
        """The folder of all jobs' logs."""
        return os.path.join(self.home, "sky_logs")

    @property
    def workdir(self) -> str:
        """Where a task's workdir is synced to."""
        return os.path.join(self.home, "sky_workdir")

    def label(self) -> str:
        """How logs and messages call this node."""
        return node_label(self.rank)


def node_label(rank: int) -> str:
    """`head` for rank 0, `workerN` for the others."""
    return "head" if rank == 0 else "worker%d" % rank


def load(path: str) -> Node:
    """Read node.json; Refused when a field is missing or wrong."""
    with open(path, "rb") as file:
        return parse(json.loads(file.read()))


def parse(values: Any) -> Node:
    """Check the values of node.json (the keys are listed in the class)."""
    fields = Fields(values, "node.json")
    count = fields.integer("num_nodes", 1, 100000)
    rank = fields.integer("rank", 0, count - 1)
    ips, peers = fields.texts("ips"), fields.texts("peers")
    if len(ips) != count or len(peers) != count:
        raise bad("node.json: ips and peers must list %d nodes" % count)
    home, socket = fields.text("home"), fields.text("socket")
    if not os.path.isabs(home) or not os.path.isabs(socket):
        raise bad("node.json: home and socket must be absolute paths")
    power = Fields(values.get("power_off") or {}, "node.json: power_off")
    infra = values.get("infra") or {}
    return Node(
        cluster_name=fields.text("cluster_name"),
        cluster_id=fields.text("cluster_id"),
        node_id=fields.text("node_id"),
        rank=rank,
        num_nodes=count,
        ips=ips,
        peers=peers,
        socket=socket,
        home=home,
        cpus=fields.number("cpus", 0, 1e6),
        memory_gb=fields.number("memory_gb", 0, 1e9, 0.0),
        devices=_devices(values.get("accelerators")),
        infra=infra if isinstance(infra, dict) else {},
        user=fields.text("user", ""),
        power_off={"stop": power.texts("stop"), "down": power.texts("down")},
        lost_after=fields.number("lost_after", 0, 1e6, 60.0),
        listen=_listen(fields),
        tls=_tls(values.get("tls")),
        notice=fields.choice("notice", NOTICES, ""),
        metadata=fields.text("metadata", METADATA, 200),
        checksum=checksum(values),
    )


def _listen(fields: Fields) -> Optional[str]:
    address: Optional[str] = fields.text("listen", None, 300)
    if address and fields.raw("tls") is None:
        raise bad("node.json: 'listen' needs 'tls': nobody is let in without the cluster's certificate")
    return address or None


def _tls(value: Any) -> Optional[Tls]:
    if not value:
        return None
    fields = Fields(value, "node.json: tls")
    return Tls(fields.text("cert"), fields.text("key"))


def checksum(values: Any) -> int:
    """Tells two configurations apart: an agent that runs with another one is replaced."""
    return zlib.crc32(json.dumps(values, sort_keys=True).encode("utf-8", "surrogatepass"))


def _devices(value: Any) -> Optional[Devices]:
    if not value:
        return None
    fields = Fields(value, "node.json: accelerators")
    count = fields.integer("count", 0, 1024)
    indices = value.get("indices")
    if indices is None:
        indices = list(range(count))
    if not isinstance(indices, list) or len(indices) != count:
        raise bad("node.json: accelerators: indices must list %d devices" % count)
    return Devices(fields.text("name"), indices) if count else None

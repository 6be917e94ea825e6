"""Nodes on this machine: directories with a home and a keeper process. Killing a node's processes is its failure.

Each node has its own loopback address, so that programs on several nodes can bind the same port. The folder on disk
is the record: what `list` says is read from it and from the process table, never remembered.
"""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from sky.core.errors import CapacityRefused, ProviderDown
from sky.core.model.clusters import Instance, InstanceState
from sky.core.model.offers import Offer
from sky.core.ports import Access, CreateAsk
from sky.providers.local import processes
from sky.providers.local.offers import machine
from sky.providers.registry import Settings

_FIRST_IP = IPv4Address("127.20.0.1")
_LAST_IP = IPv4Address("127.250.0.1")


def open_local(settings: Settings) -> "LocalCompute":
    """The provider of this machine."""
    return LocalCompute(settings.state_dir, settings.config)


@dataclass(frozen=True, slots=True)
class _Node:
    """A node's record, `node.json` in its folder."""

    id: str
    key: str
    cluster_id: str
    cluster_name: str
    rank: int
    ip: str
    keeper: int
    born: str
    stopped: bool = False


class LocalCompute:
    """See `core.ports.Compute` and `Stoppable`. `root` holds `<cluster id>/<rank>/{node.json,home/}`."""

    def __init__(self, root: Path, config: Callable[[], Mapping[str, object]]) -> None:
        self._root = root
        self._config = config
        self._offered: tuple[Mapping[str, object], Offer] | None = None

    async def check(self) -> Access:
        """Always there; the configuration may be wrong."""
        (offer,) = await self.offers()
        devices = ", ".join(f"{name}:{count:g}" for name, count in offer.accelerators.items())
        account = f"{offer.cpus:g} CPUs, {offer.memory_gb:g} GB" + (f", {devices}" if devices else "")
        return Access("local", True, account=account, capabilities=("compute",))

    async def offers(self) -> Sequence[Offer]:
        """The machine itself; asked once per configuration, since looking for devices starts a program."""
        config = self._config()
        if self._offered is None or self._offered[0] != config:
            self._offered = (config, await asyncio.to_thread(machine, config))
        return (self._offered[1],)

    async def create(self, ask: CreateAsk) -> Sequence[Instance]:
        """Make the nodes, or find those that this key made before. Nothing is left of an attempt that fails."""
        there = [node for node in self._nodes(ask.cluster_id) if node.key == ask.key]
        if len(there) == ask.placement.num_nodes and all(_alive(node) for node in there):
            return [self._instance(node) for node in there]
        await self.terminate(ask.cluster_id)
        try:
            return [self._instance(self._make(ask, rank)) for rank in range(ask.placement.num_nodes)]
        except OSError as error:
            await self.terminate(ask.cluster_id)
            raise ProviderDown(f"cannot make a node under {self._root}: {error}") from error

    async def list(self, cluster_id: str | None = None) -> Sequence[Instance]:
        """All nodes on disk, running or not."""
        return [self._instance(node) for node in self._nodes(cluster_id)]

    async def terminate(self, cluster_id: str) -> None:
        """End every process and remove the folder."""
        folder = self._root / cluster_id
        for node in self._nodes(cluster_id):
            await self._end(node)
            self._socket(node).unlink(missing_ok=True)
        if folder.exists():
            # Renamed first: a removal that is interrupted must not leave half a cluster that looks like one.
            grave = folder.with_name(f".gone-{cluster_id}")
            if not grave.exists():
                folder.rename(grave)
        for left in self._root.glob(".gone-*") if self._root.exists() else ():
            await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)

    async def stop(self, cluster_id: str) -> Sequence[Instance]:
        """End every process, keep the homes."""
        stopped = []
        for node in self._nodes(cluster_id):
            self._write(replace(node, stopped=True))
            await self._end(node)
            stopped.append(self._instance(replace(node, stopped=True)))
        return stopped

    async def start(self, cluster_id: str) -> Sequence[Instance]:
        """Give every node that has none a new keeper; what outlived the old one is ended, as by a reboot."""
        nodes = []
        for node in self._nodes(cluster_id):
            if not _alive(node):
                await self._end(node)
            nodes.append(node if _alive(node) else self._keep(node))
        if not nodes:
            raise CapacityRefused(f"the folders of the cluster's nodes are gone from {self._root}", scope="request")
        return [self._instance(node) for node in nodes]

    # --- parts ---------------------------------------------------------------------------------------------------

    def _nodes(self, cluster_id: str | None) -> Sequence[_Node]:
        pattern = f"{cluster_id or '*'}/*/node.json"
        paths = sorted(self._root.glob(pattern)) if self._root.exists() else []
        nodes = [_Node(**json.loads(path.read_text())) for path in paths if not path.parts[-3].startswith(".gone-")]
        return sorted(nodes, key=lambda node: (node.cluster_id, node.rank))

    def _make(self, ask: CreateAsk, rank: int) -> _Node:
        node_id = f"{ask.cluster_id}-{rank}"
        home = self._root / ask.cluster_id / str(rank) / "home"
        home.mkdir(parents=True, mode=0o700)
        for parent in (self._root, self._root / ask.cluster_id, home.parent):
            parent.chmod(0o700)
        ip = next(self._free_ips())
        return self._keep(_Node(node_id, ask.key, ask.cluster_id, ask.cluster_name, rank, ip, 0, ""))

    def _keep(self, node: _Node) -> _Node:
        """Start a keeper; the record is written before, so that a crash in between leaves a node that can be ended."""
        self._write(node)
        keeper, born = processes.start_keeper(node.id, self._home(node))
        kept = replace(node, keeper=keeper, born=born, stopped=False)
        self._write(kept)
        return kept

    async def _end(self, node: _Node) -> None:
        if not await asyncio.to_thread(processes.end_all, node.id, node.keeper or None):
            raise ProviderDown(f"some processes of node {node.id} could not be ended")

    def _free_ips(self) -> Iterator[str]:
        taken = {node.ip for node in self._nodes(None)}
        address = _FIRST_IP
        while address < _LAST_IP:
            if str(address) not in taken:
                yield str(address)
            address += 1
        raise CapacityRefused("no loopback address is left for another node", scope="account")

    def _instance(self, node: _Node) -> Instance:
        alive = _alive(node)
        reason = None
        if not alive:
            reason = "stopped" if node.stopped else "its processes were killed, or this machine was restarted"
        return Instance(
            id=node.id,
            cluster_id=node.cluster_id,
            rank=node.rank,
            state=InstanceState.RUNNING if alive else InstanceState.STOPPED,
            ip=node.ip,
            reach={
                "kind": "local",
                "home": str(self._home(node)),
                "socket": str(self._socket(node)),
                "keeper": str(node.keeper),
            },
            reason=reason,
        )

    def _home(self, node: _Node) -> Path:
        return self._root / node.cluster_id / str(node.rank) / "home"

    def _socket(self, node: _Node) -> Path:
        return sockets() / f"{node.id}.sock"

    def _write(self, node: _Node) -> None:
        path = self._root / node.cluster_id / str(node.rank) / "node.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({name: getattr(node, name) for name in node.__slots__}))
        fresh.replace(path)


def sockets() -> Path:
    """A folder of this user for agents' sockets, with a path short enough for the kernel (about 100 bytes).

    Raises ProviderDown if somebody else has put something there.
    """
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"sky-nodes-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise ProviderDown(f"{folder} is not a private folder of this user; remove it and try again")
    return folder


def _alive(node: _Node) -> bool:
    return node.keeper > 0 and bool(node.born) and processes.birth(node.keeper) == node.born

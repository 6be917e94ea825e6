"""Nodes on this machine: directories with a home and a keeper process. Killing a node's processes is its failure.

Each node has its own loopback address, so that programs on several nodes can bind the same port. The folder on disk
is the record: what `list` says is read from it and from the process table, never remembered.
"""

import asyncio
import json
import logging
import os
import secrets
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from sky.core.errors import CapacityRefused, ProviderDown
from sky.core.model.clusters import Instance, InstanceState
from sky.core.model.offers import Offer, Placement
from sky.core.ports import Access, CreateAsk
from sky.kit.turns import Turn, turn
from sky.providers.local import processes
from sky.providers.local.offers import found_devices, machine
from sky.providers.registry import Settings

_FIRST_IP = IPv4Address("127.20.0.1")
_LAST_IP = IPv4Address("127.250.0.1")
#: Addresses from one possible start to the next.
_BLOCK = 1024
#: Folders that are being removed begin so.
_GRAVE = ".gone-"

log = logging.getLogger(__name__)


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
    #: Where its agent listens: settled when the node is made, since the environment of a later server may differ.
    socket: str = ""
    #: Indices of real devices that are this node's alone while it runs.
    devices: tuple[int, ...] | None = None


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
        there = {node.rank: node for node in self._nodes(ask.cluster_id)}
        made_before = [there[rank] for rank in ask.wanted if rank in there and there[rank].key == ask.key]
        if len(made_before) == len(ask.wanted) and all(_alive(node) for node in made_before):
            return [self._instance(node) for node in there.values()]
        await self._clear(ask)
        wanted = await self._wanted_devices(ask)
        try:
            devices = await self._devices() if wanted is not None else ()
            for rank in ask.wanted:
                with self._choosing() as taken:
                    node = self._draw(ask, rank, self._free(devices, wanted))
                    taken.check()
                    self._write(node)
                self._keep(node)
        except (OSError, subprocess.SubprocessError) as error:
            await self._clear(ask)
            raise ProviderDown(f"cannot make a node under {self._root}: {error}") from error
        except CapacityRefused:
            await self._clear(ask)
            raise
        return await self.list(ask.cluster_id)

    async def _clear(self, ask: CreateAsk) -> None:
        """Remove what is there of the nodes asked for; a whole cluster with whatever else carries its mark."""
        await self.terminate(ask.cluster_id, ranks=ask.ranks or None)

    async def list(
        self, cluster_id: str | None = None, *, regions: Collection[str] | None = None
    ) -> Sequence[Instance]:
        """All nodes on disk, running or not."""
        return [self._instance(node) for node in self._nodes(cluster_id)]

    async def terminate(
        self, cluster_id: str, *, regions: Collection[str] | None = None, ranks: Collection[int] | None = None
    ) -> None:
        """End every process and remove the folder. A folder that is gone already does not hide what still runs."""
        if ranks is not None:
            for node in [each for each in self._nodes(cluster_id) if each.rank in ranks]:
                await self._end(node)
                self._socket(node).unlink(missing_ok=True)
                self._bury(self._root / cluster_id / str(node.rank), f"{cluster_id}-{node.rank}")
        else:
            nodes = self._nodes(cluster_id)
            keepers = [(node.keeper, node.born) for node in nodes]
            if not await asyncio.to_thread(processes.end_cluster, cluster_id, keepers):
                raise ProviderDown(f"some processes of cluster {cluster_id} could not be ended")
            for socket in (*(self._socket(node) for node in nodes), *sockets().glob(f"{cluster_id}-*.sock")):
                socket.unlink(missing_ok=True)
            self._bury(self._root / cluster_id, cluster_id)
        for left in self._root.glob(f"{_GRAVE}*") if self._root.exists() else ():
            await asyncio.to_thread(_remove, left)

    def _bury(self, folder: Path, name: str) -> None:
        """Rename before removing: a removal that is interrupted must not leave half of what looks whole."""
        if folder.exists():
            folder.rename(self._root / f"{_GRAVE}{name}-{secrets.token_hex(4)}")

    async def stop(self, cluster_id: str, *, regions: Collection[str] | None = None) -> Sequence[Instance]:
        """End every process, keep the homes."""
        stopped = []
        for node in self._nodes(cluster_id):
            self._write(replace(node, stopped=True))
            await self._end(node)
            stopped.append(self._instance(replace(node, stopped=True)))
        return stopped

    async def start(self, cluster_id: str, *, regions: Collection[str] | None = None) -> Sequence[Instance]:
        """Give every node that has none a new keeper; what outlived the old one is ended, as by a reboot."""
        nodes = []
        for node in self._nodes(cluster_id):
            if _alive(node):
                nodes.append(node)
                continue
            await self._end(node)
            try:
                wanted = None if node.devices is None else len(node.devices)
                devices = await self._devices() if wanted is not None else ()
                with self._choosing() as taken:
                    drawn = replace(
                        node, devices=self._free(devices, wanted, node.id), keeper=0, born="", stopped=False
                    )
                    taken.check()
                    self._write(drawn)
                nodes.append(self._keep(drawn))
            except CapacityRefused:
                await self.stop(cluster_id)  # all or none: a part of a cluster is of no use to anybody
                raise
        if not nodes:
            raise CapacityRefused(f"the folders of the cluster's nodes are gone from {self._root}", scope="request")
        return [self._instance(node) for node in nodes]

    def irreplaceable(self, placement: Placement, config: Mapping[str, object]) -> str:
        """Each node is a folder and processes of its own."""
        return ""

    # --- parts ---------------------------------------------------------------------------------------------------

    def _nodes(self, cluster_id: str | None) -> Sequence[_Node]:
        found = []
        for folder in [self._root / cluster_id] if cluster_id else _folders(self._root):
            for path in _folders(folder):
                try:
                    fields = json.loads((path / "node.json").read_bytes())
                    devices = fields.pop("devices", None)
                    found.append(_Node(**fields, devices=None if devices is None else tuple(devices)))
                except FileNotFoundError:
                    continue  # half made, or being removed just now
                except (OSError, ValueError, TypeError) as error:
                    # One broken record must not hide all others; its processes are found by their mark.
                    log.warning("%s cannot be read: %s", path / "node.json", error)
        return sorted(found, key=lambda node: (node.cluster_id, node.rank))

    async def _wanted_devices(self, ask: CreateAsk) -> int | None:
        """How many real devices each node is to have; None where there are none, or pretended ones."""
        count = next(iter(ask.placement.accelerators.values()), 0.0)
        if not count or self._config().get("accelerators") is not None:
            return None
        return int(count)

    async def _devices(self) -> tuple[int, ...]:
        """All devices of this machine."""
        return tuple(index for index, _ in await asyncio.to_thread(found_devices))

    @contextmanager
    def _choosing(self) -> Iterator[Turn]:
        """From the look at what is free to the record of who has it; no other server on these folders looks then.

        No program is started meanwhile: a server that stands still in such a block holds up the others.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with turn(self._root.with_name(f".{self._root.name}.lock")) as taken:
            yield taken

    def _free(self, there: Sequence[int], count: int | None, own: str = "") -> tuple[int, ...] | None:
        """Devices that no other node has, running or begun; None where none are asked for.

        Raises CapacityRefused for too few.
        """
        if count is None:
            return None
        others = [node for node in self._nodes(None) if node.id != own and (_begun(node) or _alive(node))]
        held = {index for node in others for index in node.devices or ()}
        free = [index for index in there if index not in held]
        if len(free) < count:
            raise CapacityRefused(
                f"{len(free)} of this machine's {len(there)} accelerators are free, the node asks for {count}; "
                "stop a cluster that holds some",
                scope="instance_type",
            )
        return tuple(free[:count])

    def _draw(self, ask: CreateAsk, rank: int, devices: tuple[int, ...] | None) -> _Node:
        node_id = f"{ask.cluster_id}-{rank}"
        home = self._root / ask.cluster_id / str(rank) / "home"
        # A folder without a record is what an attempt left that went no further.
        home.mkdir(parents=True, mode=0o700, exist_ok=True)
        for parent in (self._root, self._root / ask.cluster_id, home.parent):
            parent.chmod(0o700)
        ip = next(self._free_ips())
        socket = str(sockets() / f"{node_id}.sock")
        return _Node(node_id, ask.key, ask.cluster_id, ask.cluster_name, rank, ip, 0, "", False, socket, devices)

    def _keep(self, node: _Node) -> _Node:
        """Start a keeper; its record is there already, so that a crash in between leaves a node that can be ended."""
        keeper, born = processes.start_keeper(node.id, self._home(node))
        kept = replace(node, keeper=keeper, born=born, stopped=False)
        self._write(kept)
        return kept

    async def _end(self, node: _Node) -> None:
        if not await asyncio.to_thread(processes.end_all, node.id, node.keeper or None, node.born):
            raise ProviderDown(f"some processes of node {node.id} could not be ended")

    def _free_ips(self) -> Iterator[str]:
        """Addresses that no node of ours has, from a start of this root's own: other roots choose theirs elsewhere."""
        taken = {node.ip for node in self._nodes(None)}
        size = int(_LAST_IP) - int(_FIRST_IP)
        start = zlib.crc32(os.fsencode(self._root)) % (size // _BLOCK) * _BLOCK
        for step in range(size):
            address = str(_FIRST_IP + (start + step) % size)
            if address not in taken:
                yield address
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
                **({} if node.devices is None else {"devices": ",".join(map(str, node.devices))}),
            },
            reason=reason,
        )

    def _home(self, node: _Node) -> Path:
        return self._root / node.cluster_id / str(node.rank) / "home"

    def _socket(self, node: _Node) -> Path:
        return Path(node.socket) if node.socket else sockets() / f"{node.id}.sock"

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


def _folders(path: Path) -> list[Path]:
    """Folders in a folder, sorted; none where there is none. Listed at once, since others come and go meanwhile."""
    try:
        found = sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [each for each in found if not each.name.startswith(_GRAVE)]


def _remove(folder: Path) -> None:
    """Remove a tree, write-protected folders included (module caches are); what resists is left for the next time."""
    for path, _, _ in os.walk(folder):
        with suppress(OSError):
            Path(path).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _begun(node: _Node) -> bool:
    """Whether it is on record and is to have its keeper at any moment."""
    return node.keeper == 0 and not node.stopped


def _alive(node: _Node) -> bool:
    return node.keeper > 0 and bool(node.born) and processes.birth(node.keeper) == node.born

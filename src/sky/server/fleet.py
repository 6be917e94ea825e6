"""Joins the engine's `Fleet` port to `remote`: which agent serves which node, and how files get there.

Made by `assembly`. Errors of `remote` are `AgentUnreachable` and `AgentRefused` of `core.errors`: all the engine knows.
"""

import asyncio
import os
import sys
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sky.core.errors import AgentRefused, AgentUnreachable, NotSupportedError
from sky.core.model.clusters import Autostop, Cluster, Instance, InstanceState, Phase
from sky.core.model.faults import FaultKind, NodeFault
from sky.core.ports import LogPiece
from sky.kit.together import together
from sky.remote.agent_client import AgentClient
from sky.remote.bootstrap import ensure_agent
from sky.remote.channel import Channel
from sky.remote.checkout import check_out
from sky.remote.errors import PortTaken
from sky.remote.fetch import fetch
from sky.remote.hosts import tell
from sky.remote.interpreter import Interpreters
from sky.remote.keys import KeyRing
from sky.remote.local import LocalChannel
from sky.remote.sync import SyncReport, sync_content, sync_fan
from sky.remote.ways import folder_of, way_of
from sky.wire.uploads import ManifestEntry, manifest_file

if TYPE_CHECKING:
    from sky.agent.connection import Connection
    from sky.remote.ssh import SshChannel
    from sky.remote.ssh_link import SshLinks

T = TypeVar("T")

#: What a node on this machine inherits from the server's environment: enough to run programs, no credentials.
_INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SHELL", "USER", "LOGNAME", "LD_LIBRARY_PATH")
_PROTOCOL = 1
#: Seconds for an agent to say that it lives, and to come up.
_PING_S = 3.0
_BRING_UP_S = 30.0
_QUIESCE_GRACE_S = 2.0
#: Seconds for a head to give up those of a gang that are gone, and to end the others.
_END_WORK_S = 60.0
#: Seconds for a sign of life of an agent that the head has lost already.
_SIGN_S = 1.0
#: With more nodes than this, files go to the head alone, and from there to the others.
_FAN_ABOVE = 4
#: Ports on which agents of different machines find each other, and how many are tried for one.
_FIRST_PORT, _PORTS, _PORT_TRIES = 20000, 10000, 5
#: Clouds whose machines are told before they are taken away.
_NOTICES = ("aws", "gcp")
#: Seconds for a new machine to let us in, and for one that was there before. `provision.ssh_timeout` is for both, and
#: never makes us wait longer for one that has fallen silent: its provider may know by then that it is gone.
_NEW_MACHINE_S, _OLD_MACHINE_S = 300.0, 20.0
#: Connections per head beside the first, for calls that wait at the agent, and how many calls wait on one before the
#: next is made: an agent bounds how many it serves on one, and with thousands of heads each connection counts.
_HELD, _SHARED = 8, 64
_GONE = (InstanceState.STOPPING, InstanceState.STOPPED, InstanceState.TERMINATED)


class NodeFleet:
    """See `core.ports.Fleet`. `blob` finds uploaded content by hash.

    `keys` are this installation's; `secret` finds a password by cloud and the name that `Instance.reach` has for it.
    `provision` is the configuration's section of that name. `fetch` has blobs where `blob` finds them.
    """

    def __init__(
        self,
        blob: Callable[[str], Path],
        keys: KeyRing | None = None,
        secret: Callable[[str, str], str | None] | None = None,
        provision: Callable[[], Mapping[str, object]] = dict,
        fetch: Callable[[Collection[str]], Awaitable[None]] | None = None,
    ) -> None:
        self._blob = blob
        self._fetch = fetch
        self._keys = keys
        self._secret = secret
        self._provision = provision
        self._interpreters = Interpreters(provision, keys.folder) if keys else None
        self._clients: dict[str, AgentClient] = {}
        #: By cluster, under what there is something here: its nodes, and further connections to them.
        self._ids: defaultdict[str, set[str]] = defaultdict(set)
        self._links: SshLinks | None = None
        #: By node, the record that it was brought up by: who still has an older one is led to where it is now.
        self._newest: dict[str, tuple[Cluster, Instance]] = {}
        #: By node, how many ports were found taken.
        self._shifts: dict[str, int] = {}
        #: By node, until when (of the loop's clock) nothing of ours reaches it: what `sky chaos partition` does.
        self._cut: dict[str, float] = {}

    def connections(self) -> int:
        """Connections to machines elsewhere that are held now."""
        return 0 if self._links is None else len(self._links)

    async def bring_up(self, cluster: Cluster, *, ran: bool = False) -> None:
        """Start (or find) the agent on every node, all at once."""
        await self._let_go(cluster)
        # A cluster that has lost some is to have its head back all the same.
        there = [node for node in cluster.instances if node.state not in _GONE]
        for _ in range(_PORT_TRIES):
            if all(await together(self._bring_up(cluster, node, ran) for node in there)):
                return
        raise AgentUnreachable(f"cluster {cluster.name}: no free port for the agents to reach each other was found")

    async def _let_go(self, cluster: Cluster) -> None:
        """Close connections to nodes that the cluster has no more, and to addresses where they were before."""
        there = {node.id: (cluster, node) for node in cluster.instances}
        self._newest |= there
        self._ids[cluster.id] |= there.keys()
        for id in sorted(self._ids[cluster.id]):
            if id.partition("/")[0] not in there:
                await self._drop(id)
        if self._links is not None:
            cloud, ways = _cloud(cluster), set()
            for node in cluster.instances:
                # One that cannot be a way is told when the node is brought up.
                with suppress(AgentUnreachable):
                    ways.add(way_of(node.reach, cloud))
            await self._links.release(cluster.id, but=ways)

    async def _bring_up(self, cluster: Cluster, node: Instance, ran: bool) -> bool:
        """Whether the agent could be started; if not, the cluster is to be told of another port for it."""
        await self._drop_lines(node)
        try:
            self._refuse_if_cut(node)
            way = self.channel(cluster, node)
            if node.reach.get("kind") != "local":
                await _let_in(way, node, self._patience(cluster), ran)
            config = node_config(cluster, node, self._peering(cluster))
            await ensure_agent(way, config, timeout=_BRING_UP_S, known=cluster.ever_up)
        except PortTaken:
            self._shifts[node.id] = self._shifts.get(node.id, 0) + 1
            return False
        except (AgentUnreachable, AgentRefused) as error:
            raise AgentUnreachable(f"node {node.rank} ({node.ip}): {error}") from error
        self._client(cluster, node)
        return True

    def _patience(self, cluster: Cluster) -> float | None:
        """Seconds for a machine to let us in, where the launch or the configuration says how many."""
        over = cluster.layers.get("provision")
        said = (over if isinstance(over, Mapping) else {}).get("ssh_timeout", self._provision().get("ssh_timeout"))
        return float(said) if isinstance(said, int | float) and said > 0 else None

    def _peering(self, cluster: Cluster) -> "Peering | None":
        """How the nodes of a cluster reach each other; None where they need not, or share a machine."""
        if self._keys is None or cluster.num_nodes == 1 or _is_local(cluster):
            return None
        ports = {node.id: _port(node.id, self._shifts.get(node.id, 0)) for node in cluster.instances}
        return Peering(*self._keys.certificate(cluster.id), ports)

    async def head(self, cluster: Cluster) -> "HeadAgent":
        """The agent of rank 0."""
        node = cluster.head
        if node is None:
            raise AgentUnreachable(f"cluster {cluster.name} has no head node on record")
        client, id = self._client(cluster, node), node.id
        return HeadAgent(client, lambda: self._free(id, client))

    async def ask(self, cluster: Cluster, ranks: Collection[int]) -> None:
        """Ask for a sign of life, all at once."""
        asked = [node for node in cluster.instances if node.rank in ranks]
        try:
            await together(self._client(cluster, node).hello(timeout=_SIGN_S) for node in asked)
        except AgentRefused as error:
            raise AgentUnreachable(str(error)) from error

    async def strike(self, cluster: Cluster, fault: NodeFault) -> int:
        """Its agent does it; a partition is ours, and that of the head where it is about a worker."""
        node = next(each for each in cluster.instances if each.rank == fault.rank)
        if fault.kind is not FaultKind.PARTITION:
            return await self._client(cluster, node).strike(fault.kind.value, key=fault.key, seconds=fault.seconds)
        if node.rank and cluster.head is not None:
            await self._client(cluster, cluster.head).strike(fault.kind.value, rank=node.rank, seconds=fault.seconds)
        self._cut[node.id] = asyncio.get_running_loop().time() + fault.seconds
        await self._drop_lines(node)
        return 1

    async def announce(self, cluster: Cluster, seconds: float) -> None:
        """By each node's agent."""
        told = [self._client(cluster, node).announce(seconds) for node in cluster.instances]
        for answer in await asyncio.gather(*told, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    def _refuse_if_cut(self, node: Instance) -> None:
        """Raises AgentUnreachable while a node is to be out of reach."""
        left = self._cut.get(node.id, 0.0) - asyncio.get_running_loop().time()
        if left > 0:
            raise AgentUnreachable(f"cut off by `sky chaos` for another {left:.0f} s")
        self._cut.pop(node.id, None)

    async def hooks(self, cluster: Cluster, event: str, scripts: Sequence[tuple[str, float]]) -> Sequence[str]:
        """The head runs them; a head that does not answer soon is not waited for."""
        if cluster.head is None:
            return ()
        client = self._client(cluster, cluster.head)
        await client.hello(timeout=_PING_S)
        return await client.hooks(event, f"{event}-{cluster.status_at:.6f}", scripts)

    async def quiesce(self, cluster: Cluster) -> None:
        """End jobs, then agents: the head first, so that it counts its jobs as ended by this and not as failed."""
        ordered = sorted(cluster.instances, key=lambda node: node.rank)
        for group in (ordered[:1], ordered[1:]):
            await asyncio.gather(*(self._quiesce(cluster, node) for node in group))

    async def _quiesce(self, cluster: Cluster, node: Instance) -> None:
        client = self._client(cluster, node)
        # A node that is gone or hangs is ended by its provider all the same.
        with suppress(AgentUnreachable, AgentRefused):
            # Elsewhere, the connection may have to be made first.
            await client.hello(timeout=_PING_S / 10 if node.reach.get("kind") == "local" else _PING_S)
            if node.rank == 0:
                # Kept on the node's disk: it must not fire as soon as the node is started again.
                await client.autostop(-1)
            # Nodes that are not started again leave no containers on a machine that stays.
            remove = cluster.phase in (Phase.TERMINATING, Phase.RESIZING)
            await client.kill_all(grace=_QUIESCE_GRACE_S, remove=remove)
            await client.shutdown()

    async def end_work(self, cluster: Cluster) -> None:
        """End jobs, those of the head's queue first: what it does not drive any more begins nowhere."""
        ordered = sorted(cluster.instances, key=lambda node: node.rank)
        try:
            for group in (ordered[:1], ordered[1:]):
                await together(
                    self._client(cluster, node).kill_all(grace=_QUIESCE_GRACE_S, queue=True, patience=_END_WORK_S)
                    for node in group
                )
        except AgentUnreachable as error:
            raise AgentUnreachable(f"cluster {cluster.name}: {error}") from error

    async def sync(self, cluster: Cluster, manifest: str, destination: str) -> str:
        """Bring an uploaded tree to every node."""
        try:
            if self._fetch is not None:
                await self._fetch([manifest])
            entries = await asyncio.to_thread(_entries, self._blob(manifest))
            if self._fetch is not None:
                await self._fetch([str(entry["hash"]) for entry in entries if entry.get("hash")])
        except FileNotFoundError:
            raise AgentRefused("the uploaded files are no longer on the server; run the command again") from None
        nodes = sorted(cluster.instances, key=lambda node: node.rank)
        fanned = len(nodes) > _FAN_ABOVE and nodes[0].rank == 0 and not _is_local(cluster)
        reports = await self._sync(cluster, nodes[:1] if fanned else nodes, entries, destination)
        if fanned:
            head = self._client(cluster, nodes[0])
            left = await sync_fan(head, reports[0].session, [node.rank for node in nodes[1:]])
            # Whom the head could not reach, or what a job there has changed since.
            reports += await self._sync(cluster, [node for node in nodes if node.rank in left], entries, destination)
        sent = sum(report.bytes_sent for report in reports)
        return f"{reports[0].files} files, {_size(reports[0].bytes_total)}, {_size(sent)} sent"

    async def _sync(
        self, cluster: Cluster, nodes: Sequence[Instance], entries: list[dict[str, object]], destination: str
    ) -> list[SyncReport]:
        return await together(
            sync_content(self._client(cluster, node), entries, self._blob, destination) for node in nodes
        )

    async def clone(self, cluster: Cluster, url: str, ref: str | None, env: Mapping[str, str]) -> str:
        """Check a repository out on every node, anew or over an earlier checkout; the commit."""
        commits = await together(
            check_out(self._client(cluster, node), url, ref, env, where=f"node {node.rank}")
            for node in cluster.instances
        )
        return commits[0]

    async def fetch(self, cluster: Cluster, url: str, destination: str, env: Mapping[str, str]) -> str:
        """Have every node fetch a file from the web by itself."""
        answers = await together(
            fetch(self._client(cluster, node), url, destination, env, where=f"node {node.rank} ({node.ip})")
            for node in cluster.instances
        )
        fresh, size = sum(new for new, _ in answers), _size(answers[0][1])
        return f"{size} from the web" if fresh else f"{size}, the same as on the web"

    async def introduce(self, cluster: Cluster, hosts: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Write the names on every node."""
        await together(
            tell(
                self._client(cluster, node),
                hosts,
                own=node.reach.get("power") == "machine",
                where=f"node {node.rank} ({node.ip})",
            )
            for node in cluster.instances
        )

    async def forget(self, cluster_id: str) -> None:
        """Close connections."""
        for id in sorted(self._ids.pop(cluster_id, ())):
            self._shifts.pop(id, None)
            self._newest.pop(id, None)
            await self._drop(id)
        if self._links is not None:
            await self._links.release(cluster_id)

    def channel(self, cluster: Cluster, node: Instance) -> Channel:
        """The way to a node, by what its provider said of it. Raises NotSupportedError for a way that is not built."""
        kind = node.reach.get("kind")
        if kind == "local":
            environ = {name: os.environ[name] for name in _INHERITED if name in os.environ}
            return LocalChannel(Path(node.reach["home"]), Path(node.reach["socket"]), environ)
        if kind == "ssh":
            return self._ssh(cluster, node)
        if kind == "slurm":
            return self._slurm(cluster, node)
        raise NotSupportedError(f"reaching nodes by {kind!r} is not supported yet")

    def _ssh(self, cluster: Cluster, node: Instance) -> "SshChannel":
        """The SSH channel to a node; the connection is made when it is used first."""
        if self._keys is None:
            raise NotSupportedError("this server has no keys to reach machines elsewhere with")
        try:
            # Takes a tenth of a second, and a server of this machine alone needs none of it.
            from sky.remote.ssh import SshChannel  # noqa: PLC0415
            from sky.remote.ssh_link import SshLinks  # noqa: PLC0415
        except ImportError:
            raise NotSupportedError(
                "machines elsewhere are reached by SSH, whose library is not installed; "
                "install it with: pip install 'altostratus[ssh]'"
            ) from None
        if self._links is None:
            self._links = SshLinks(self._keys, self._secret)
        link = self._links.link(way_of(node.reach, _cloud(cluster)), cluster.id)
        return SshChannel(
            link, where=f"node {node.rank} ({node.ip})", folder=folder_of(node.reach), interpreters=self._interpreters
        )

    def _slurm(self, cluster: Cluster, node: Instance) -> Channel:
        """The channel to a node of an allocation, by the login node."""
        login = self._ssh(cluster, node)
        from sky.remote.slurm import SlurmChannel  # noqa: PLC0415 - with the SSH library, which is loaded by now

        return SlurmChannel(login.link, login, node.reach, where=f"node {node.rank} ({node.ip})")

    def _free(self, node_id: str, client: AgentClient) -> AgentClient:
        """A connection on which few calls wait, so that those that are held open do not get in the way of others."""
        for line in range(_HELD + 1):
            if client.waiting < _SHARED or node_id not in self._newest:
                break
            client = self._client(*self._newest[node_id], line)
        return client

    def _client(self, cluster: Cluster, node: Instance, line: int = 0) -> AgentClient:
        """One of the connections to a node."""
        key = f"{node.id}/{line}" if line else node.id
        known = self._newest.get(node.id)
        if known is None or known[0].version < cluster.version:
            # Another server may have started it again since, elsewhere.
            self._newest[node.id] = (cluster, node)
        if key not in self._clients:
            self._ids[cluster.id] |= {node.id, key}
            # Not before it is needed: a node without a way fails the call, not the look at its cluster. Only the newest
            # record is held on to: there are thousands of them.
            id = node.id
            self._clients[key] = AgentClient(lambda: self._open(id), where=f"node {node.rank} ({node.ip})")
        return self._clients[key]

    async def _open(self, node_id: str) -> "Connection":
        if node_id not in self._newest:
            raise ConnectionRefusedError("its cluster is not up any more")
        cluster, node = self._newest[node_id]
        try:
            self._refuse_if_cut(node)
        except AgentUnreachable as error:
            # As a network says it, which a client may try to reach again for a while.
            raise OSError(str(error)) from None
        return await self.channel(cluster, node).open_agent()

    async def _drop_lines(self, node: Instance) -> None:
        """Close all connections to a node."""
        for line in ("", *(f"/{number}" for number in range(1, _HELD + 1))):
            await self._drop(node.id + line)

    async def _drop(self, id: str) -> None:
        client = self._clients.pop(id, None)
        if client is not None:
            await client.close()


class HeadAgent:
    """See `core.ports.AgentClient`."""

    def __init__(self, client: AgentClient, held: Callable[[], AgentClient]) -> None:
        self._client = client
        self._held = held

    async def ping(self) -> Collection[int]:
        silent = (await self._client.hello(timeout=_PING_S)).get("silent")
        return {rank for rank in silent if isinstance(rank, int)} if isinstance(silent, list) else ()

    async def submit(self, key: str, spec: Mapping[str, object]) -> tuple[int, str | None]:
        job_id, _ = await self._client.submit(key, dict(spec))
        return job_id, f"~/sky_logs/{spec['task_id']}"

    async def jobs(self, job_ids: Sequence[int] | None = None) -> list[Mapping[str, object]]:
        return list(await self._client.jobs(job_ids))

    async def cancel(self, job_ids: Sequence[int]) -> None:
        await self._client.cancel(job_ids)

    async def events(self, since: int, wait: float) -> tuple[list[Mapping[str, object]], int]:
        events, after = await self._held().events(since, wait=wait)
        return list(events), after

    async def read_log(
        self, job_id: int, *, offset: int | None, tail: int | None, wait: float, which: str, rank: int | None
    ) -> LogPiece:
        data, after, ended, _ = await self._held().read_log(
            job_id, which=which, rank=rank, offset=offset, tail=tail, wait=wait
        )
        return LogPiece(data, after, ended)

    async def set_autostop(self, autostop: Autostop) -> None:
        await self._client.autostop(
            autostop.idle_minutes, down=autostop.down, wait_for=autostop.wait_for, hooks=list(autostop.hooks)
        )


#: Run apart from the node's own processes, which it ends: those that carry the mark, or, without /proc, the keeper.
_POWER_OFF = """
import os, sys
mark, keeper = sys.argv[1].encode(), int(sys.argv[2])
if keeper and not os.path.isdir("/proc/self"):
    os.kill(keeper, 9)
for _ in range(3):
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open("/proc/%s/environ" % name, "rb") as file:
                    if mark in file.read().split(bytes(1)):
                        os.kill(int(name), 9)
            except OSError:
                pass
"""

#: Slurm's programs are in nobody's path on some clusters.
_SCANCEL = 'PATH="$PATH:/usr/local/bin:/usr/bin:/opt/slurm/bin:/usr/local/slurm/bin"; exec scancel "$1"'


async def _let_in(way: Channel, node: Instance, patience: float | None, ran: bool) -> None:
    """Wait for a machine to let us in; one that was just made or started takes its time."""
    from sky.remote.ssh import SshChannel  # noqa: PLC0415 - loaded by now, if it is one

    if isinstance(way, SshChannel):
        new = node.reach.get("power") == "machine" and not ran
        seconds = patience or (_NEW_MACHINE_S if new else _OLD_MACHINE_S)
        try:
            await way.ready(min(seconds, _OLD_MACHINE_S) if ran else seconds, new=new)
        except OSError as error:
            raise AgentUnreachable(str(error)) from None


@dataclass(frozen=True, slots=True)
class Peering:
    """How agents on several machines find and know each other: one certificate for all, and a port for each node."""

    certificate: str
    key: str = field(repr=False)
    ports: Mapping[str, int]

    def address(self, node: Instance) -> str:
        """Where a node listens for its peers."""
        return f"tls://{f'[{node.ip}]' if ':' in node.ip else node.ip}:{self.ports[node.id]}"


def _port(node_id: str, shift: int) -> int:
    """A port that is a node's own, as far as that can be: several nodes may share a machine."""
    return _FIRST_PORT + (zlib.crc32(node_id.encode()) + shift) % _PORTS


def _cloud(cluster: Cluster) -> str:
    return cluster.placement.offer.cloud if cluster.placement else ""


def _is_local(cluster: Cluster) -> bool:
    return all(node.reach.get("kind") == "local" for node in cluster.instances)


def node_config(cluster: Cluster, node: Instance, peering: Peering | None = None) -> dict[str, object]:
    """What the agent of a node is told about itself and its peers. What only the node knows is filled in on the way."""
    ordered = sorted(cluster.instances, key=lambda each: each.rank)
    placement = cluster.placement
    offer = placement.offer if placement else None
    devices = next(iter(placement.accelerators.items()), None) if placement else None
    power_off = _power_off(node)
    config = {
        "protocol": _PROTOCOL,
        "cluster_name": cluster.name,
        "cluster_id": cluster.id,
        "node_id": node.id,
        "rank": node.rank,
        "num_nodes": cluster.num_nodes,
        "ips": [each.ip for each in ordered],
        "peers": [peering.address(each) if peering else _here(each) for each in ordered],
        "socket": node.reach.get("socket", ""),
        "home": node.reach["home"] if node.reach.get("kind") == "local" else "",
        "cpus": placement.cpus if placement else 1.0,
        "memory_gb": placement.memory_gb if placement else 1.0,
        "accelerators": _accelerators(node, *devices) if devices else None,
        "infra": {
            "cloud": offer.cloud if offer else "",
            "region": offer.region if offer else "",
            "zone": (offer.zone or "") if offer else "",
        },
        "user": cluster.user,
        "power_off": {"stop": power_off, "down": power_off},
    }
    if cluster.repairs:
        # Whoever stayed has ended its work and takes no more: it is to be started again.
        config["repairs"] = cluster.repairs
    if offer and offer.cloud in _NOTICES and node.reach.get("power") == "machine":
        config["notice"] = offer.cloud
    if peering is not None:
        config["tls"] = {"cert": peering.certificate, "key": peering.key}
        if node.rank:
            # The head asks; nobody asks the head.
            config["listen"] = f"tls://0.0.0.0:{peering.ports[node.id]}"
    return config


def _accelerators(node: Instance, name: str, count: float) -> dict[str, object]:
    """The node's devices: those that its provider gave it alone, else as many as its placement says."""
    held = node.reach.get("devices")
    indices = [int(each) for each in held.split(",") if each] if held is not None else list(range(int(count)))
    return {"name": name, "count": len(indices), "indices": indices}


def _here(node: Instance) -> str:
    """Where the agent of a node on this machine listens; that of a single node elsewhere is asked by nobody."""
    return f"unix:{node.reach['socket']}" if node.reach.get("kind") == "local" else "self:"


def _power_off(node: Instance) -> list[str]:
    """The command by which a node ends itself: its machine, or all of its processes at once as when power is cut."""
    if node.reach.get("power") == "machine":
        return ["@sudo", "shutdown", "-h", "now"]
    if node.reach.get("kind") == "slurm":
        # All nodes of the allocation at once, which is what ends a cluster there.
        return ["/bin/sh", "-c", _SCANCEL, "sky-end", node.reach["job"]]
    python = sys.executable if node.reach.get("kind") == "local" else "@python"
    return [python, "-I", "-S", "-c", _POWER_OFF, f"SKY_NODE_ID={node.id}", node.reach.get("keeper", "0")]


def _entries(manifest: Path) -> list[dict[str, object]]:
    return [_entry(each) for each in manifest_file(manifest)]


def _entry(listed: ManifestEntry) -> dict[str, object]:
    entry: dict[str, object] = {
        "path": "" if listed.path == "." else listed.path,
        "type": listed.type,
        "mode": listed.mode,
    }
    if listed.type == "file":
        entry.update(size=listed.size, hash=listed.hash)
    elif listed.type == "link":
        entry["target"] = listed.target
    return entry


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"

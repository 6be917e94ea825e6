"""Where the entrances of nodes are, for people who go there themselves: with `ssh`, an editor, a forwarded port.

Called by the routes of nodes. What the server itself uses is `server.fleet`; both read `Instance.reach` by the same
rules, so that a person is let in with the same key and meets the same host key.
"""

from collections.abc import Iterable
from pathlib import Path

from sky.core.errors import AgentUnreachable, SkyError
from sky.core.model.clusters import Cluster, Instance, Phase
from sky.remote.keys import KeyRing
from sky.remote.ways import Way, command_of, folder_of, way_of
from sky.wire.nodes import ClusterNodes, EntranceRecord, NodeRecord

#: Phases in which nodes may answer.
_OPEN = (Phase.UP, Phase.DEGRADED, Phase.AUTOSTOPPING)


def cluster_nodes(clusters: Iterable[Cluster], keys: KeyRing) -> list[ClusterNodes]:
    """The nodes of those clusters that are up, and the way to each."""
    return [
        ClusterNodes(
            name=cluster.name,
            cluster_hash=cluster.id,
            nodes=[_node(cluster, node, keys) for node in sorted(cluster.instances, key=lambda each: each.rank)],
        )
        for cluster in clusters
        if cluster.phase in _OPEN and cluster.instances
    ]


def _node(cluster: Cluster, node: Instance, keys: KeyRing) -> NodeRecord:
    kind = node.reach.get("kind", "")
    try:
        if kind == "local":
            return _local(node)
        if kind in ("ssh", "slurm"):
            return _by_ssh(cluster, node, keys)
    except (AgentUnreachable, OSError, SkyError) as error:
        return NodeRecord(rank=node.rank, kind=kind, problem=str(error))
    return NodeRecord(
        rank=node.rank, kind=kind, problem=f"nodes that are reached by {kind!r} have no way in for people"
    )


def _local(node: Instance) -> NodeRecord:
    home = node.reach["home"]
    # The mark makes the shell a process of the node: it ends with it, as it would when a machine is switched off.
    return NodeRecord(
        rank=node.rank, kind="local", words=["env", f"HOME={home}", f"SKY_NODE_ID={node.id}"], home=home, host=node.ip
    )


def _by_ssh(cluster: Cluster, node: Instance, keys: KeyRing) -> NodeRecord:
    way = way_of(node.reach, cluster.placement.offer.cloud if cluster.placement else "")
    record = NodeRecord(
        rank=node.rank, kind=node.reach["kind"], entrances=_entrances(way, keys), home=folder_of(node.reach)
    )
    if record.kind == "slurm":
        # Loads the SSH library, as the server has done for such a cluster already.
        from sky.remote.slurm import step_words  # noqa: PLC0415

        record.words = step_words(node.reach["job"], node.reach["node"])
        record.host = node.reach["node"]
    return record


def _entrances(way: Way, keys: KeyRing) -> list[EntranceRecord]:
    before = _entrances(way.via, keys) if way.via is not None else []
    entrance = EntranceRecord(
        host=way.host,
        port=way.port,
        user=way.user,
        identity=str(Path(way.identity).expanduser()) if way.identity else str(keys.identity()),
        known_as=way.known_as,
        host_key=" ".join(way.host_key.split()[:2]),
        known_hosts="" if way.host_key else str(keys.known_nodes()),
        proxy_command=command_of(way) if way.proxy else "",
    )
    return [*before, entrance]

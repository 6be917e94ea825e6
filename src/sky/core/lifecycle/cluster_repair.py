"""How nodes of a cluster that are gone are replaced while the others stay; rules of `clusters.py` by another name.

What runs on the nodes that stay is ended before anything is made: what is begun anew never runs beside what was there.
"""

from sky.core.lifecycle.cluster_facts import (
    Bootstrap,
    EndWork,
    NodesCreated,
    ProvisionRefused,
    RepairAsked,
    Replace,
    SideRefusal,
    WorkEnded,
    WorkNotEnded,
)
from sky.core.lifecycle.cluster_words import billing_begins, moved, nodes, noted
from sky.core.lifecycle.machine import Step, Table
from sky.core.model.clusters import Cluster, Phase
from sky.kit.frozen import replace

P = Phase


def add_to(table: Table[Cluster]) -> None:
    """Declare the rules; whatever else happens meanwhile is ruled there."""
    table.on((P.UP, P.DEGRADED), RepairAsked, to={P.UP, P.DEGRADED, P.REPAIRING})(begin)
    table.on(P.REPAIRING, WorkEnded, to={P.REPAIRING})(work_ended)
    table.on(P.REPAIRING, WorkNotEnded, to={P.DEGRADED})(work_not_ended)
    table.on(P.REPAIRING, NodesCreated, to={P.BOOTSTRAPPING})(replaced)
    table.on(P.REPAIRING, ProvisionRefused, to={P.DEGRADED})(refused)


def replacing(ranks: tuple[int, ...], count: int) -> str:
    """`replacing 1 of 2 nodes (rank 1)`."""
    which = ", ".join(map(str, ranks))
    return f"replacing {len(ranks)} of {nodes(count)} (rank{'s' if len(ranks) > 1 else ''} {which})"


def begin(cluster: Cluster, event: RepairAsked, now: float) -> Step[Cluster]:
    """The work ends first. What is asked for twice is done once."""
    if event.number <= cluster.repairs:
        return Step(cluster)
    text = replacing(event.ranks, cluster.num_nodes)
    begun = replace(
        moved(cluster, P.REPAIRING, now, text),
        repairs=event.number,
        heads=cluster.heads + (0 in event.ranks),
        strikes=0,
    )
    return Step(begun, (EndWork(event.ranks),), text)


def work_ended(cluster: Cluster, event: WorkEnded, now: float) -> Step[Cluster]:
    """Those that are gone are no longer its nodes; those that will be made are asked for under its mark."""
    left = tuple(each for each in cluster.instances if each.rank not in event.ranks)
    return Step(replace(cluster, instances=left), (Replace(event.ranks),), f"{nodes(len(left))} kept, its work ended")


def work_not_ended(cluster: Cluster, event: WorkNotEnded, now: float) -> Step[Cluster]:
    """Nothing is made beside what may still run: whoever asked for it decides."""
    reason = f"not repaired: {event.reason}"
    return Step(moved(cluster, P.DEGRADED, now, reason), (), reason)


def replaced(cluster: Cluster, event: NodesCreated, now: float) -> Step[Cluster]:
    """The new nodes need the agent, and the others have to learn of them."""
    whole = replace(moved(cluster, P.BOOTSTRAPPING, now), instances=event.instances)
    text = f"{nodes(len(event.instances))} running again; starting the agents"
    return Step(billing_begins(whole, now), (Bootstrap(),), text)


def refused(cluster: Cluster, event: ProvisionRefused, now: float) -> Step[Cluster]:
    """Its place has no room for them. Whoever asked decides what becomes of those that are left."""
    reason = f"not repaired: {event.reason}"
    back = moved(cluster, P.DEGRADED, now, reason)
    if cluster.placement is not None:
        note = noted(SideRefusal(cluster.placement, event.scope, event.reason), now)
        back = replace(back, refusals=(*cluster.refusals, note))
    return Step(back, (), reason)

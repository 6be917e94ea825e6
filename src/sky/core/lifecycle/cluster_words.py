"""What the rules of `clusters.py` have in common: a cluster moves on, costs something, is gone; all that in words."""

from collections.abc import Iterable

from sky.core.lifecycle.cluster_facts import Provision, SideRefusal, StraysEnded
from sky.core.lifecycle.placing import without_strays
from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase, Refusal
from sky.core.model.offers import Placement
from sky.kit.frozen import replace


def moved(cluster: Cluster, phase: Phase, now: float, reason: str | None = None) -> Cluster:
    """The cluster in another phase, and why."""
    return replace(cluster, phase=phase, status_at=now, reason=reason)


def gone(cluster: Cluster, now: float, reason: str | None) -> Cluster:
    """The cluster as history."""
    ended = billing_ends(moved(cluster, Phase.TERMINATED, now, reason), now)
    # Where something may be left is remembered: the sweep looks there.
    sites = cluster.where
    settled = without_strays(ended, StraysEnded(sites), now)
    return replace(settled, ended_at=now, instances=(), sites=sites)


def in_state(instances: Iterable[Instance], *states: InstanceState) -> list[Instance]:
    """Those of them that are in one of the states."""
    return [instance for instance in instances if instance.state in states]


def billing_ends(cluster: Cluster, now: float) -> Cluster:
    """The cluster costs nothing from now on."""
    return replace(cluster, intervals=_closed(cluster, now))


def billing_begins(cluster: Cluster, now: float) -> Cluster:
    """The cluster costs what its placement does from now on."""
    price = cluster.placement.price_hourly if cluster.placement else 0.0
    return replace(cluster, intervals=(*_closed(cluster, now), (now, None, price)))


def _closed(cluster: Cluster, now: float) -> tuple[tuple[float, float | None, float], ...]:
    return tuple((begin, now if end is None else end, price) for begin, end, price in cluster.intervals)


def why(cluster: Cluster) -> str:
    """What the provider says of machines that are not as they should be."""
    told = [each for each in cluster.instances if each.reason]
    if len(told) == len(cluster.instances) > 1 and len({each.reason for each in told}) == 1:
        return str(told[0].reason)
    return "; ".join(f"rank {each.rank}: {each.reason}" for each in told) or "the provider gives no reason"


def noted(refused: SideRefusal, now: float) -> Refusal:
    """A refusal as the record keeps it."""
    offer = refused.placement.offer
    return Refusal(
        offer.place, offer.instance_type, refused.scope, refused.reason, now, offer.price_hourly, offer.use_spot
    )


def all_of(order: Provision) -> str:
    """What an order asks for."""
    return " and ".join(_what(each) for each in (order.placement, *order.beside))


def _what(placement: Placement) -> str:
    return f"{placement.num_nodes}x {placement.offer.instance_type} on {placement.offer.place}"


def nodes(count: int) -> str:
    """`1 node`, `2 nodes`."""
    return f"{count} node" + ("s" if count != 1 else "")

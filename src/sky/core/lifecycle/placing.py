"""Which place is asked next for a cluster's machines, and which no more. The rules of `clusters.py` ask."""

from sky.core.lifecycle.cluster_facts import EndStrays, Provision, StraysEnded
from sky.core.model.clusters import Cluster, Site
from sky.core.model.offers import Placement
from sky.kit.frozen import replace

#: The scope of a refusal by the machines themselves, and how many of them it takes to see that it is not the place.
BOOTSTRAP, HOPELESS, BOOTSTRAP_TRIES = "bootstrap", "hopeless", 3
#: What a mark of machines says between the cluster's id and its number, from the second that was asked for on.
HEDGED = "-h"
#: Placements tried at the side of others that a record holds, the newest.
BESIDE_KEPT = 20


def asking(cluster: Cluster, candidates: tuple[Placement, ...]) -> tuple[Cluster, Provision]:
    """The cluster asking for the best of its candidates: as many at a time as it hedges, each in a place of its own."""
    first, *rest = candidates
    beside: list[Placement] = []
    for each in rest:
        if len(beside) + 1 >= cluster.hedge:
            break
        if all(each.offer.place != other.offer.place for other in (first, *beside)):
            beside.append(each)
    asked = (first, *beside)
    # Records from before marks were counted may have left some behind.
    number = max((cluster.marked, *(_number(each.site.mark) + 1 for each in cluster.strays)))
    marks = tuple(mark_of(cluster.id, number + nth) for nth in range(len(asked)))
    sites = tuple(Site(each.offer.cloud, each.offer.region, mark) for each, mark in zip(asked, marks, strict=True))
    left = tuple(each for each in rest if each not in beside)
    tried = (*cluster.beside, *(each for each in beside if each not in cluster.beside))[-BESIDE_KEPT:]
    marked = number + len(asked)
    begun = replace(cluster, placement=first, candidates=left, sites=sites, beside=tried, marked=marked)
    return replace(begun, resources=described(first)), Provision(first, beside=tuple(beside))


def described(placement: Placement) -> str:
    """What each node of a cluster has, in one line: `(cpus=8, mem=32, H100:8)`."""
    parts = [f"cpus={placement.cpus:g}", f"mem={placement.memory_gb:g}"]
    parts += [f"{name}:{count:g}" for name, count in placement.accelerators.items()]
    return f"({', '.join(parts)})"


def mark_of(cluster_id: str, number: int) -> str:
    """What machines of a cluster carry that were asked for as its `number`-th, from 0.

    No two attempts have the same. So what an earlier one leaves behind is never taken for the cluster's own: not where
    a place could not be asked to end it, and not from a server that was late to learn that it works for nobody.
    """
    return f"{cluster_id}{HEDGED}{number}" if number else cluster_id


def _number(mark: str) -> int:
    return int(mark.partition(HEDGED)[2] or 0)


def strays_to_end(cluster: Cluster) -> tuple[EndStrays, ...]:
    """The order to end what is left elsewhere, if anything is."""
    return (EndStrays(),) if cluster.strays else ()


def without_strays(cluster: Cluster, event: StraysEnded, now: float) -> Cluster:
    """The cluster without the strays that are gone; what they cost stays on record."""
    gone = tuple(each for each in cluster.strays if each.site in event.sites)
    cost = tuple((each.since, now, each.price_hourly) for each in gone)
    left = tuple(each for each in cluster.strays if each not in gone)
    return replace(cluster, strays=left, intervals=(*cost, *cluster.intervals))


def unfit(placement: Placement) -> tuple[str, str, bool]:
    """What a placement is known by for which the request was not fit: it is the same in another plan."""
    offer = placement.offer
    return (offer.place, offer.instance_type, offer.use_spot)


def condemned(candidate: Placement, refused: Placement, scope: str) -> bool:
    """Whether a refusal of this scope makes trying `candidate` pointless.

    Scopes are those of provider failures, and two of ours: machines came and their agent did not (`bootstrap`), as
    often as it takes to see that it would not elsewhere either (`hopeless`).
    """
    if scope == HOPELESS:
        return True
    one, other = candidate.offer, refused.offer
    if one.cloud != other.cloud:
        return False
    same_region = one.region == other.region
    return {
        "account": True,
        "request": one == other,
        "region": same_region,
        "zone": same_region and one.zone == other.zone and one.instance_type == other.instance_type,
        BOOTSTRAP: same_region and one.zone == other.zone and one.instance_type == other.instance_type,
        "instance_type": one.instance_type == other.instance_type and one.use_spot == other.use_spot,
        "capacity_type": one.use_spot == other.use_spot and same_region,
        "quota": same_region and one.instance_type == other.instance_type and one.use_spot == other.use_spot,
    }.get(scope, one == other)

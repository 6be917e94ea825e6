"""Which place is asked next for a cluster's machines, and which no more. The rules of `clusters.py` ask."""

from collections.abc import Iterator
from itertools import count

from sky.core.lifecycle.cluster_facts import EndStrays, Provision, StraysEnded
from sky.core.model.clusters import Cluster, Site
from sky.core.model.offers import Placement
from sky.kit.frozen import replace

#: The scope of a refusal by the machines themselves, and how many of them it takes to see that it is not the place.
BOOTSTRAP, HOPELESS, BOOTSTRAP_TRIES = "bootstrap", "hopeless", 3
#: What a mark of machines says between the cluster's id and the number of a placement tried beside the first.
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
    marks = _marks(cluster)
    sites = tuple(_free(each, marks, cluster) for each in asked)
    left = tuple(each for each in rest if each not in beside)
    tried = (*cluster.beside, *(each for each in beside if each not in cluster.beside))[-BESIDE_KEPT:]
    begun = replace(cluster, placement=first, candidates=left, sites=sites, beside=tried)
    return replace(begun, resources=described(first)), Provision(first, beside=tuple(beside))


def described(placement: Placement) -> str:
    """What each node of a cluster has, in one line: `(cpus=8, mem=32, H100:8)`."""
    parts = [f"cpus={placement.cpus:g}", f"mem={placement.memory_gb:g}"]
    parts += [f"{name}:{count:g}" for name, count in placement.accelerators.items()]
    return f"({', '.join(parts)})"


def _marks(cluster: Cluster) -> Iterator[str]:
    yield cluster.id
    for number in count(1):
        yield f"{cluster.id}{HEDGED}{number}"


def _free(placement: Placement, marks: Iterator[str], cluster: Cluster) -> Site:
    """A site of the cluster in a placement's region, under a mark that nothing there carries which is to be ended."""
    taken = {each.site for each in cluster.strays}
    sites = (Site(placement.offer.cloud, placement.offer.region, mark) for mark in marks)
    return next(site for site in sites if site not in taken)


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

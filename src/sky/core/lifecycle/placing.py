"""Which place is asked next for a cluster's machines, and which no more. The rules of `clusters.py` ask."""

from dataclasses import replace

from sky.core.lifecycle.cluster_facts import Provision
from sky.core.model.clusters import Cluster, Site
from sky.core.model.offers import Placement

#: The scope of a refusal by the machines themselves, and how many of them it takes to see that it is not the place.
BOOTSTRAP, HOPELESS, BOOTSTRAP_TRIES = "bootstrap", "hopeless", 3
#: What a mark of machines says between the cluster's id and the number of a placement tried beside the first.
HEDGED = "-h"


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
    marks = [cluster.id, *(f"{cluster.id}{HEDGED}{number}" for number in range(1, len(asked)))]
    sites = tuple(Site(each.offer.cloud, each.offer.region, mark) for each, mark in zip(asked, marks, strict=True))
    left = tuple(each for each in rest if each not in beside)
    begun = replace(cluster, placement=first, candidates=left, sites=sites)
    return begun, Provision(first, beside=tuple(beside))


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

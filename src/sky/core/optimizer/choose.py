"""Which offers fit a task, in which order they are tried, and why each of the others is left out.

Pure: offers come from providers, the plan goes to the engine, which walks it until one placement is given.
"""

from collections.abc import Iterable, Sequence

from sky.core.model.accelerators import AcceleratorRequest
from sky.core.model.offers import Offer, Placement, Plan, Rejection
from sky.core.model.resources import Resources


def plan(alternatives: Sequence[Resources], ordered: bool, num_nodes: int, offers: Iterable[Offer]) -> Plan:
    """Rank what fits: by the user's order where `ordered`, then by price, then by place for a stable answer.

    Every offer that fits no alternative is a rejection with the reason of each alternative.
    """
    fitting: list[tuple[tuple[float, float, str], Placement]] = []
    rejections: list[Rejection] = []
    for offer in offers:
        reasons: list[str] = []
        for rank, resources in enumerate(alternatives):
            reason = misfit(resources, offer)
            if reason is None:
                key = (float(rank) if ordered else 0.0, offer.price_hourly * num_nodes, offer.place)
                fitting.append((key, _placement(resources, offer, num_nodes)))
                break
            reasons.append(reason)
        else:
            rejections.append(Rejection(offer.place, offer.instance_type, "; ".join(dict.fromkeys(reasons))))
    fitting.sort(key=lambda pair: pair[0])
    return Plan(tuple(placement for _, placement in fitting), tuple(rejections))


def misfit(resources: Resources, offer: Offer) -> str | None:
    """Why an offer does not meet the resources asked for; None if it does."""
    return (
        _wrong_place(resources, offer)
        or _wrong_type(resources, offer)
        or _too_small("vCPUs", resources.cpus, offer.cpus)
        or _too_small("GB of memory", _absolute(resources.memory, offer), offer.memory_gb)
        or _lacks(resources.accelerator_request, offer)
        or _too_dear(resources, offer)
    )


def _wrong_place(resources: Resources, offer: Offer) -> str | None:
    infra = resources.infra
    for what, asked, there in (
        ("cloud", infra.cloud, offer.cloud),
        ("region", infra.region, offer.region),
        ("zone", infra.zone, offer.zone),
    ):
        if asked not in (None, "*") and asked != there:
            return f"asked for {what} {asked}, this is {there}"
    return None


def _wrong_type(resources: Resources, offer: Offer) -> str | None:
    if resources.instance_type is not None and resources.instance_type != offer.instance_type:
        return f"asked for instance type {resources.instance_type}"
    if resources.use_spot and not offer.use_spot:
        return "asked for spot, which is not sold here"
    return None


def _too_small(what: str, asked: str | None, there: float) -> str | None:
    if asked is None or amount(asked) <= there:
        return None
    return f"asked for {asked} {what}, it has {there:g}"


def _absolute(memory: str | None, offer: Offer) -> str | None:
    """Memory given as a ratio (`4x`) in GB per vCPU asks for nothing that the vCPUs do not."""
    return None if memory is None or memory.endswith("x") else memory


def _lacks(asked: AcceleratorRequest | None, offer: Offer) -> str | None:
    if asked is None:
        return None
    if asked.is_filter:
        return f"asked for accelerators by memory ({asked}), which needs the catalog"
    there = {name.lower(): count for name, count in offer.accelerators.items()}.get(asked.name.lower(), 0)
    if asked.count <= there:
        return None
    listed = ", ".join(f"{name}:{count:g}" for name, count in offer.accelerators.items())
    return f"asked for {asked}, it has {listed or 'no accelerator'}"


def _too_dear(resources: Resources, offer: Offer) -> str | None:
    limit = resources.max_hourly_cost
    if limit is None or offer.price_hourly <= limit:
        return None
    return f"costs ${offer.price_hourly:.2f} per hour, above the limit of ${limit:.2f}"


def amount(text: str) -> float:
    """The number in `4`, `4+` or `16.5+`."""
    return float(text.rstrip("+x"))


def _placement(resources: Resources, offer: Offer, num_nodes: int) -> Placement:
    """The slots that the nodes lend: all of a machine that is ours alone, what was asked of one that is shared."""
    asked = resources.accelerator_request
    accelerators = dict(offer.accelerators)
    if offer.shared:
        whole = max(1.0, float(-(-asked.count // 1))) if asked is not None else 0.0
        name = asked.name if asked is not None else ""
        accelerators = {each: min(count, whole) for each, count in accelerators.items() if _same(each, name)}
    cpus = (
        amount(resources.cpus) if offer.shared and resources.cpus and not resources.cpus.endswith("+") else offer.cpus
    )
    return Placement(offer, num_nodes, cpus, offer.memory_gb, accelerators)


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()

"""Whether an offer meets a wish, and if not, why: rules with a stable code, two figures, words and a remedy.

`rank` drops what does not fit, `explain` tells it. The rules stand in the order in which a person would want to hear
of them: first where and what, then how much, then what the user or the place has against it.
"""

from collections.abc import Callable
from typing import NamedTuple

from sky.core.model.accelerator_names import vendor_of
from sky.core.model.catalog import Market
from sky.core.model.offers import Offer, Reason, Rejection
from sky.core.optimizer.conditions import Conditions, counts
from sky.core.optimizer.gravity import next_cent
from sky.core.optimizer.wanted import ONLY_BY_NAME, Bounds, Wish

#: Differences of so little are rounding.
_SLACK = 1e-6


class Misfit(NamedTuple):
    """Why an offer was not taken. `asked` and `found` are the figures that do not meet."""

    code: Reason
    words: str
    asked: str = ""
    found: str = ""
    remedy: str = ""

    def of(self, offer: Offer) -> Rejection:
        """As a plan keeps it."""
        return Rejection(offer.place, offer.instance_type, self.words, self.code, self.asked, self.found, self.remedy)


Rule = Callable[[Wish, Offer], Misfit | None]


def misfit(wish: Wish, offer: Offer, conditions: Conditions) -> Misfit | None:
    """The first rule that an offer breaks; None if it fits. The offer has the user's own price already."""
    for rule in RULES:
        found = rule(wish, offer)
        if found is not None:
            return found
    return against(wish, offer, conditions)


def place(wish: Wish, offer: Offer) -> Misfit | None:
    """Cloud, region, zone."""
    infra = wish.infra
    if infra.cloud is not None and infra.cloud != offer.cloud:
        return _elsewhere("cloud", infra.cloud, offer.cloud)
    if infra.region is not None and infra.region != offer.region:
        return _elsewhere("region", infra.region, offer.region)
    if infra.zone is not None and infra.zone != offer.zone:
        return _elsewhere("zone", infra.zone, offer.zone or "any zone of the region")
    return None


def _elsewhere(what: str, asked: str, found: str) -> Misfit:
    return Misfit(Reason.PLACE, f"asked for {what} {asked}, this is {found}", asked, found, f"leave the {what} open")


def instance_type(wish: Wish, offer: Offer) -> Misfit | None:
    """The type, where one is named."""
    if wish.instance_type in (None, offer.instance_type):
        return None
    return Misfit(
        Reason.INSTANCE_TYPE,
        f"asked for instance type {wish.instance_type}",
        str(wish.instance_type),
        offer.instance_type,
        "leave instance_type open",
    )


def market(wish: Wish, offer: Offer) -> Misfit | None:
    """Spot only when it is asked for, and then only spot."""
    if wish.market is offer.market:
        return None
    if wish.market is Market.SPOT:
        return Misfit(
            Reason.MARKET, "asked for spot, which this is not", "spot", "on-demand", "use_spot: false takes it"
        )
    return Misfit(Reason.MARKET, "a spot offer, and spot was not asked for", "on-demand", "spot", "use_spot: true")


def only_by_name(wish: Wish, offer: Offer) -> Misfit | None:
    """Other processors and types with strings attached are taken only when named."""
    if wish.instance_type is not None or offer.shared:
        return None
    named = wish.accelerator is not None and not wish.accelerator.is_filter
    if offer.arch != "x86_64" and not named:
        return Misfit(
            Reason.ARCH,
            f"has {offer.arch} processors, which are taken only by name",
            "x86_64",
            offer.arch,
            f"instance_type: {offer.instance_type}",
        )
    for word in ONLY_BY_NAME:
        if word in offer.features:
            return Misfit(
                Reason.ONLY_BY_NAME,
                f"is {word.replace('_', ' ')}, which is taken only by name",
                "",
                word,
                f"instance_type: {offer.instance_type}",
            )
    return None


def cpus(wish: Wish, offer: Offer) -> Misfit | None:
    """`4` is exact on a machine that is rented whole, at least that on a shared one."""
    asked = wish.cpus if offer.shared else wish.rented_cpus
    return _amount(Reason.CPUS, "vCPUs", "cpus", asked, offer.cpus, offer.shared)


def memory(wish: Wish, offer: Offer) -> Misfit | None:
    """GiB, or GiB per vCPU."""
    found = _amount(Reason.MEMORY, "GB of memory", "memory", wish.memory, offer.memory_gb, offer.shared)
    if found is not None or wish.memory_per_cpu is None:
        return found
    # Of a shared machine only the vCPUs asked for are taken, so only their share of memory is needed.
    counted = (wish.cpus.least if wish.cpus else 0.0) if offer.shared else offer.cpus
    needed = counted * wish.memory_per_cpu
    if offer.memory_gb >= needed * (1 - _SLACK) or counted == 0:
        return None
    return Misfit(
        Reason.MEMORY,
        f"asked for {wish.memory_per_cpu:g} GB of memory per vCPU, it has {offer.memory_gb / counted:.3g}",
        f"{wish.memory_per_cpu:g} GB per vCPU",
        f"{offer.memory_gb / counted:.3g} GB per vCPU",
        "ask for less memory, as 2x or in GB",
    )


def _amount(code: Reason, unit: str, key: str, asked: Bounds | None, found: float, shared: bool) -> Misfit | None:
    if asked is None or (found >= asked.least - _SLACK and (shared or found <= asked.most + _SLACK)):
        return None
    more = found > asked.most
    remedy = f"{key}: {asked.least:g}+ takes larger ones" if more else f"ask for less: {key}: {found:g}+"
    return Misfit(code, f"asked for {asked} {unit}, it has {found:g}", f"{asked} {unit}", f"{found:g} {unit}", remedy)


def accelerators(wish: Wish, offer: Offer) -> Misfit | None:
    """The count is exact on a machine that is rented whole, at least that on a shared one."""
    asked = wish.accelerator
    if asked is None:
        return _unasked(wish, offer)
    listed = ", ".join(f"{name}:{count:g}" for name, count in offer.accelerators.items()) or "no accelerator"
    there = {name.lower(): count for name, count in offer.accelerators.items()}
    if asked.is_filter:
        ours = [each for name, each in offer.accelerators.items() if asked.vendor in (None, vendor_of(name))]
        count = max(ours, default=0.0)
        bounds = wish.device_memory
        device = offer.accelerator_memory_gb
        if count and bounds is not None and (device is None or not bounds.least <= device <= bounds.most):
            has = "devices of unknown memory" if device is None else f"{device:g} GB"
            return Misfit(
                Reason.ACCELERATOR_MEMORY,
                f"asked for accelerators with {asked.name}, it has {has}",
                asked.name,
                has,
                "ask for another size",
            )
    else:
        count = there.get(asked.name.lower(), 0.0)
    # Machines with a part of a device are taken by name only: who asks for a part may want to share a whole one.
    least = asked.count if offer.shared or wish.instance_type is not None else wish.count
    if least <= count and (offer.shared or count <= wish.count):
        return None
    remedy = f"accelerators: {listed}" if count else "name another accelerator"
    return Misfit(Reason.ACCELERATORS, f"asked for {asked}, it has {listed}", str(asked), listed, remedy)


def _unasked(wish: Wish, offer: Offer) -> Misfit | None:
    if not offer.accelerators or offer.shared or wish.instance_type is not None:
        return None
    listed = ", ".join(f"{name}:{count:g}" for name, count in offer.accelerators.items())
    return Misfit(
        Reason.ACCELERATORS, f"has {listed}, and none was asked for", "none", listed, f"accelerators: {listed}"
    )


def local_disk(wish: Wish, offer: Offer) -> Misfit | None:
    """A disk inside of a size, and of a kind where one is named; any solid state disk serves as `ssd`."""
    if wish.disk is None:
        return None
    kind, there = wish.disk_kind, (offer.local_disk_kind or "").lower()
    if kind is not None and offer.local_disk_gb and not (there == kind or (kind == "ssd" and there == "nvme")):
        return Misfit(
            Reason.LOCAL_DISK,
            f"asked for a local {kind} disk, it has {there or 'an unknown kind'}",
            kind,
            there,
            "leave the kind of local_disk open",
        )
    return _amount(Reason.LOCAL_DISK, "GB of local disk", "local_disk", wish.disk, offer.local_disk_gb, offer.shared)


def price_limit(wish: Wish, offer: Offer) -> Misfit | None:
    """`max_hourly_cost`, per node."""
    limit = wish.max_price
    if limit is None or offer.price_hourly <= limit:
        return None
    return Misfit(
        Reason.PRICE_LIMIT,
        f"excluded by max_hourly_cost: ${next_cent(offer.price_hourly)} per hour, above the limit of ${limit:g}",
        f"${limit:g} per hour",
        f"${next_cent(offer.price_hourly)} per hour",
        f"max_hourly_cost: {next_cent(offer.price_hourly)}",
    )


RULES: tuple[Rule, ...] = (
    place,
    instance_type,
    market,
    accelerators,
    cpus,
    memory,
    local_disk,
    only_by_name,
    price_limit,
)


def against(wish: Wish, offer: Offer, conditions: Conditions) -> Misfit | None:
    """What the user, the account or the place has against an offer that has everything asked for."""
    return (
        _not_enabled(offer, conditions)
        or _feature(wish, offer, conditions)
        or _unsuited(offer, conditions)
        or _denied(offer, conditions)
        or _quota(wish, offer, conditions)
        or _refused(offer, conditions)
    )


def _not_enabled(offer: Offer, conditions: Conditions) -> Misfit | None:
    if conditions.enabled is None or offer.cloud in conditions.enabled:
        return None
    return Misfit(
        Reason.NOT_ENABLED,
        f"{offer.cloud} is not enabled",
        "",
        offer.cloud,
        f"`sky check {offer.cloud}` says what it takes to enable it",
    )


def _feature(wish: Wish, offer: Offer, conditions: Conditions) -> Misfit | None:
    offered = conditions.features.get(offer.cloud)
    if offered is None or wish.needs <= offered:
        return None
    missing = sorted(wish.needs - offered)
    words = ", ".join(word.replace("_", " ") for word in missing)
    return Misfit(
        Reason.FEATURE,
        f"{offer.cloud} does not offer: {words}",
        words,
        ", ".join(sorted(offered)),
        f"ask without {words}, or elsewhere",
    )


def _unsuited(offer: Offer, conditions: Conditions) -> Misfit | None:
    why = conditions.unsuited(offer) if conditions.unsuited is not None else None
    return None if why is None else Misfit(Reason.FEATURE, why, "", why, "ask for it in the form that the place takes")


def _denied(offer: Offer, conditions: Conditions) -> Misfit | None:
    why = conditions.denied(offer) if conditions.denied is not None else None
    if why is None:
        return None
    return Misfit(Reason.DENIED, f"denied by your own rules: {why}", "", why, "change the rule that denies it")


def _quota(wish: Wish, offer: Offer, conditions: Conditions) -> Misfit | None:
    for quota in conditions.quotas:
        if not counts(quota, offer):
            continue
        for unit, asked, most in (
            ("nodes", float(wish.num_nodes), quota.max_nodes),
            ("vCPUs", wish.num_nodes * offer.cpus, quota.max_cpus),
        ):
            if most is not None and asked > most:
                return Misfit(
                    Reason.QUOTA,
                    f"needs {asked:g} {unit}, your quota is {most:g} ({quota.source})",
                    f"{asked:g} {unit}",
                    f"{most:g} {unit}",
                    "ask the cloud for more quota, or for fewer nodes",
                )
    return None


def _refused(offer: Offer, conditions: Conditions) -> Misfit | None:
    for blocked in conditions.blocked:
        if blocked.covers(offer):
            ago = "" if blocked.since is None else f" {since(conditions.now - blocked.since)} ago"
            return Misfit(
                Reason.REFUSED,
                f"refused{ago}: {blocked.why}",
                "",
                blocked.why,
                "try again later, or with --retry-until-up",
            )
    return None


def since(seconds: float) -> str:
    """`40 seconds`, `12 minutes`, `3 hours`."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "a moment"

"""From a cluster before and after a step: which billed things begin, and which end. Asked by `store.clusters`.

A machine is billed from when its provider says that it ran (else from the commit that it is first on record with) until
it stops or goes; then its disk is, as long as it is stopped. What may still run where it was tried for nothing is a
line of its own. Once a cluster is gone, its lines are settled with what the providers remember (`settled`).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sky.core.model.catalog import Market
from sky.core.model.clusters import Cluster, Instance, InstanceState, Stray
from sky.core.model.ledger import Bill, Billed, Booking, Ending, Entry, Line, Settlement, Span
from sky.core.model.offers import Offer

Things = Mapping[tuple[Billed, str], Entry]

#: What a provider charges for; it stops with the machine, or when it goes.
_RUNS = (InstanceState.PENDING, InstanceState.RUNNING, InstanceState.STOPPING)
MAYBE = "may run: it could not be ended when another place had won"
NO_PRICE = "its price is not known"
LISTED = "at the price that it was sold at when its cluster had gone: the one that was asked for is on no record"
#: How the note of a machine begins that a restored back-up does not know.
UNKNOWN = "not known to the back-up that was restored"
#: What a provider calls what is left of a cluster and costs something.
_COSTS = {"volume": Billed.DISK, "disk": Billed.DISK, "address": Billed.ADDRESS}
_RESERVED = "paid for by a reservation"


def booked(before: Cluster | None, after: Cluster, now: float) -> Booking:
    """What a step from `before` (None: nothing of it is in the ledger yet) to `after` does to the ledger."""
    had = {} if before is None else things(before, now)
    has = things(after, now)
    # What an instance is since then, it is instead of what was billed; of a cluster that is gone none is anything.
    told = {_name(each): each.since for each in after.instances if after.alive}
    reason = after.reason or (before.reason if before is not None else None) or after.phase.value.lower()
    ended = (
        Ending(kind, resource, after.id, told.get(resource) or now, reason)
        for kind, resource in had
        if (kind, resource) not in has
    )
    begun = (entry for key, entry in has.items() if key not in had)
    return Booking(tuple(ended), tuple(begun))


def things(cluster: Cluster, now: float) -> Things:
    """Everything of a cluster that costs money, as lines that would begin `now` if nothing is known better."""
    if not cluster.alive:
        return {}
    lines = [_of_stray(cluster, each) for each in cluster.strays]
    offer = cluster.placement.offer if cluster.placement else None
    if offer is not None:
        begun = next((begin for begin, end, _ in cluster.intervals if end is None), now)
        begun = now if cluster.entered else begun
        for each in cluster.instances:
            lines += _of_machine(cluster, offer, each, begun)
    if cluster.clone_of and offer is not None:
        lines.append(
            _line(cluster, offer, Billed.IMAGE, cluster.clone_of, now)._replace(price_hourly=0.0, note=NO_PRICE)
        )
    return {(line.kind, line.resource): line for line in lines}


def outlived(
    cluster: Cluster | None, cloud: str, what: tuple[str, str, str, str], since: float | None, now: float
) -> Entry | None:
    """The line of something that outlived its cluster (None: nothing is known of that) and was removed just now.

    `what` is kind, name, mark and region, `since` when it was made. None for what costs nothing: rules, groups.
    """
    kind, name, mark, region = what
    billed = _COSTS.get(kind)
    if billed is None:
        return None
    ended = cluster.ended_at if cluster is not None else None
    began = min(now, max(since or 0.0, ended or 0.0) or now)
    id, called, owner, workspace = (
        (cluster.id, cluster.name, cluster.user, cluster.workspace) if cluster is not None else (mark, "", "", "")
    )
    return Entry(billed, name, mark, id, called, owner, workspace, cloud, region, None, "", Market.ON_DEMAND, 0.0,
                 began, now, "removed by the sweep: its cluster was gone", NO_PRICE)  # fmt: skip


def unknown_machine(cloud: str, machine: str, mark: str, since: float, until: str) -> Entry:
    """The line of a machine that nobody knows of after a restore; its price and its owner are not known either."""
    return Entry(Billed.MACHINE, machine, mark, mark, "", "", "", cloud, "", None, "", Market.ON_DEMAND, 0.0, since,
                 note=f"{UNKNOWN}; kept until {until}")  # fmt: skip


def _of_machine(cluster: Cluster, offer: Offer, instance: Instance, begun: float) -> Iterator[Entry]:
    """The lines of a machine; of its disk and its address while it runs, too, where their prices are known."""
    began, placement, runs = instance.since or begun, cluster.placement, instance.state in _RUNS
    if runs:
        line = _line(cluster, offer, Billed.MACHINE, _name(instance), began)
        reserved = placement.reserved_nodes if placement else 0
        yield line._replace(price_hourly=0.0, note=_RESERVED) if instance.rank < reserved else line
    if offer.shared or not (runs or instance.state is InstanceState.STOPPED):
        return
    disk = placement.disk_hourly if placement else None
    if disk is not None:
        yield _line(cluster, offer, Billed.DISK, _name(instance), began)._replace(price_hourly=disk)
    elif not runs:
        yield _line(cluster, offer, Billed.DISK, _name(instance), began)._replace(price_hourly=0.0, note=NO_PRICE)
    address = placement.address_hourly if placement else None
    if runs and address is not None and instance.external_ip:
        yield _line(cluster, offer, Billed.ADDRESS, instance.external_ip, began)._replace(price_hourly=address)


def _of_stray(cluster: Cluster, stray: Stray) -> Entry:
    site = stray.site
    return Entry(Billed.MACHINE, f"{site.mark}@{site.region}", site.mark, cluster.id, cluster.name, cluster.user,
                 cluster.workspace, site.cloud, site.region, None, "", Market.ON_DEMAND, stray.price_hourly,
                 stray.since, note=MAYBE, labels=labels_of(cluster), origin=origin_of(cluster))  # fmt: skip


def _line(cluster: Cluster, offer: Offer, kind: Billed, resource: str, began: float) -> Entry:
    mark = cluster.site.mark if cluster.site else cluster.id
    return Entry(kind, resource, mark, cluster.id, cluster.name, cluster.user, cluster.workspace, offer.cloud,
                 offer.region, offer.zone, offer.instance_type, offer.market, offer.price_hourly, began,
                 labels=labels_of(cluster), origin=origin_of(cluster))  # fmt: skip


def origin_of(cluster: Cluster) -> str:
    """What its lines say it was made for."""
    return cluster.owner or cluster.id


def labels_of(cluster: Cluster) -> str:
    """The labels of its task, as lines of the ledger have them."""
    return labels_text(cluster.resources_config.get("labels"))


def labels_text(labels: object) -> str:
    """Labels as a line has them: the same text for the same labels, empty for none."""
    if not isinstance(labels, Mapping) or not labels:
        return ""
    return json.dumps({str(key): str(labels[key]) for key in sorted(labels)}, separators=(",", ":"))


def _name(instance: Instance) -> str:
    return instance.machine or instance.id


# --- what a cluster has cost -----------------------------------------------------------------------------------------


def bill(cluster: Cluster, entries: Sequence[Entry], now: float) -> Bill:
    """What a cluster has cost so far, by its lines; what is from before the ledger, by its own record."""
    if not entries:
        return _of_intervals(cluster.billed, now)
    first = min(entry.began for entry in entries)
    before = _of_intervals([each for each in cluster.billed if each[1] is not None and each[1] <= first], now)
    times: list[tuple[float, float | None]] = []
    for entry in sorted(entries, key=lambda each: each.began):
        if entry.kind is not Billed.MACHINE or entry.ended == entry.began:
            continue
        if times and (times[-1][1] is None or entry.began <= times[-1][1]):
            last = times[-1][1]
            open_ = last is None or entry.ended is None
            times[-1] = (times[-1][0], None if open_ else max(last or 0.0, entry.ended or 0.0))
        else:
            times.append((entry.began, entry.ended))
    return Bill((*before.times, *times), before.cost + sum(entry.cost(now) for entry in entries))


def _of_intervals(intervals: Iterable[tuple[float, float | None, float]], now: float) -> Bill:
    held = list(intervals)
    cost = sum(((now if end is None else end) - begin) / 3600 * price for begin, end, price in held)
    return Bill(tuple((begin, end) for begin, end, _ in held), cost)


# --- what a provider remembers ---------------------------------------------------------------------------------------


def settled(cluster: Cluster, lines: Sequence[Line], spans: Iterable[Span], cloud: str) -> Settlement:
    """What is to be changed so that the lines of a cluster that is gone are what its provider charged.

    Nothing is changed while the provider still charges for a machine, or a line is open: ending that is up to the
    record. Machines that the provider has forgotten keep their lines.
    """
    charged: defaultdict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda each: each.began):
        charged[span.machine].append(span)
    mine = [each for each in lines if each.entry.cloud == cloud and each.entry.kind is Billed.MACHINE]
    if any(each.entry.ended is None for each in mine) or any(
        span.ended is None for each in charged.values() for span in each
    ):
        return Settlement()
    corrected: list[tuple[int, float, float]] = []
    missing: list[Entry] = []
    for machine, told in charged.items():
        known = sorted((each for each in mine if each.entry.resource == machine), key=lambda each: each.entry.began)
        more, new = _of_one(cluster, known, told, cloud)
        corrected += more
        missing += new
    for line in mine:
        # Machines that did run there are told by their own names.
        if line.entry.note == MAYBE and line.entry.ended != line.entry.began:
            corrected.append((line.number, line.entry.began, line.entry.began))
    return Settlement(tuple(corrected), tuple(missing))


def _of_one(
    cluster: Cluster, known: list[Line], told: list[Span], cloud: str
) -> tuple[list[tuple[int, float, float]], list[Entry]]:
    """The same for one machine. A provider may have forgotten earlier times of it, so the last ones are compared."""
    corrected, missing = [], []
    pairs = list(zip(reversed(known), reversed(told), strict=False))
    for line, span in pairs:
        began, ended = span.began, span.ended or span.began
        if (line.entry.began, line.entry.ended) != (began, ended):
            corrected.append((line.number, began, ended))
    for span in told[: len(told) - len(pairs)]:
        price = _price(cluster, span)
        missing.append(
            Entry(Billed.MACHINE, span.machine, span.mark, cluster.id, cluster.name, cluster.user, cluster.workspace,
                  cloud, span.region, span.zone, span.instance_type, span.market, price or 0.0, span.began, span.ended,
                  "made by an attempt that failed", NO_PRICE if price is None else "", labels_of(cluster),
                  origin_of(cluster))
        )  # fmt: skip
    return corrected, missing


def _price(cluster: Cluster, span: Span) -> float | None:
    """USD per hour of a machine by what the cluster had asked for; None where nothing of it is on record any more."""
    asked = [each.offer for each in (cluster.placement, *cluster.beside, *cluster.candidates) if each is not None]
    spot = span.market is Market.SPOT
    for offer in asked:
        if (offer.region, offer.instance_type, offer.use_spot) == (span.region, span.instance_type, spot):
            return offer.price_hourly
    for refusal in reversed(cluster.refusals):
        here = refusal.place.split("/")[1:2] == [span.region]
        if here and refusal.instance_type == span.instance_type and refusal.use_spot == spot:
            return refusal.price_hourly
    return None

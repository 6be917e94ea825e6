"""Which rows of a price source are believed: a wrong bargain is worse than a missing row.

`judge` is called for each cloud that was asked anew (`store.catalog.merge`), and over the facts of the seed. Rules are
plain functions, told apart by what follows from them:

    on types    canonical_names, device_memory, odd_shapes        the type is set aside, and its prices with it
    on prices   currencies, zero_prices, unknown_types, duplicates,
                device_prices, uneven_sizes, uneven_regions       the row is set aside
    on spot     spot_not_below, spot_floors                       only the spot price is: no market, or a floor
    on a cloud  (`core.catalog.regression`)                       the cloud keeps what it had

Each gives findings: the row, and the figures in words. Passes are few and plain loops: a refresh has 300,000 rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sky.core.catalog.accelerators import canonical, devices, known
from sky.core.catalog.rows import CloudRows
from sky.core.model.catalog import InstanceType, Market, Price, Quality, Quarantined

#: USD per device and hour that can be true.
PER_DEVICE = (0.05, 25.0)
#: How far the price of a device may lie from the median over clouds.
FROM_MEDIAN = 4.0
#: How far sizes of a family, and its types in another region, may lie from their median.
UNEVEN = 0.12
#: A region's price over the usual one. True of real lists: 0.55 (one family in Mumbai) and 2.3 (southern Brazil).
REGION_RATIO = (0.5, 2.5)
#: Fewer than so many sizes show no pattern, and no more than one in so many may deviate from one.
_PATTERN = 5
#: What a host costs, roughly, in USD per vCPU and per GiB an hour: taken off a dear price before it is called too dear.
_HOST = (0.04, 0.005)
#: So many findings of one rule are kept in full; the rest is a number.
_TOLD = 100


class Finding(NamedTuple):
    """A row that a rule does not believe, and the figures."""

    row: InstanceType | Price
    rule: str
    detail: str


@dataclass(slots=True)
class Shelf:
    """Prices of one zone (of one region where there are none) by type, one for each market."""

    on_demand: dict[str, Price] = field(default_factory=dict)
    spot: dict[str, Price] = field(default_factory=dict)


@dataclass(slots=True)
class Book:
    """Prices of one cloud by (region, zone); what came twice is in `repeated`.

    `pairs`: each spot price with the on-demand price of the same type in the same zone, or region: in USD, and the row.
    """

    types: Mapping[str, InstanceType]
    shelves: dict[tuple[str, str | None], Shelf] = field(default_factory=dict)
    repeated: list[tuple[Price, Price]] = field(default_factory=list)
    pairs: list[tuple[float, float, Price]] = field(default_factory=list)

    @classmethod
    def of(cls, prices: Iterable[Price], types: Mapping[str, InstanceType]) -> Book:
        """Enter prices; of two for the same thing the dearer one stays."""
        made = cls(types)
        shelves, on_demand_market = made.shelves, Market.ON_DEMAND
        for price in prices:
            shelf = shelves.get(price[2:4])
            if shelf is None:
                shelf = shelves[price[2:4]] = Shelf()
            entries = shelf.on_demand if price[4] is on_demand_market else shelf.spot
            name = price[1]
            if name in entries:
                made.repeated.append((entries[name], price))
                if (price[5] or 0.0) <= (entries[name][5] or 0.0):
                    continue
            entries[name] = price
        made._pair()
        return made

    def _pair(self) -> None:
        nothing = Shelf()
        for (region, _), shelf in self.shelves.items():
            here = shelf.on_demand
            self.pairs += [(row[5], here[name][5], row) for name, row in shelf.spot.items() if name in here]  # type: ignore[misc]  # rows without a price are not entered
            if not shelf.spot.keys() <= here.keys():
                around = self.shelves.get((region, None), nothing).on_demand
                self.pairs += [
                    (row[5], around[name][5], row)  # type: ignore[misc]  # as above
                    for name, row in shelf.spot.items()
                    if name in around and name not in here
                ]


def judge(
    rows: CloudRows, *, earlier: Mapping[str, InstanceType] | None = None, medians: Mapping[str, float] | None = None
) -> CloudRows:
    """The rows that are believed; the others are in `quarantined`, with the rule and the figures.

    `earlier` are types of the last generation, for prices that come without their types. `medians` are USD per device
    and hour over clouds, see `medians`.
    """
    kept = _believed_types(rows)
    named = {price[1] for price in rows.prices} | {price[1] for price in rows.unpriced}
    kept.types |= {name: earlier[name] for name in named - rows.types.keys() if name in earlier} if earlier else {}
    findings = [*currencies(rows.prices), *zero_prices(rows.prices)]
    set_aside = rows.types.keys() - kept.types.keys()
    if not named <= kept.types.keys():
        findings += unknown_types((price for price in rows.prices if price[1] not in set_aside), kept.types)
    kept.prices, kept.unpriced = _without(rows.prices, findings), rows.unpriced
    if not named <= kept.types.keys():
        kept.prices = [price for price in kept.prices if price[1] in kept.types]
        kept.unpriced = [price for price in rows.unpriced if price[1] in kept.types]
    book = Book.of(kept.prices, kept.types)
    by_place = {zone or region: shelf.on_demand for (region, zone), shelf in book.shelves.items()}
    usual = usual_prices(by_place)
    later = [
        *duplicates(book),
        *device_prices(kept.prices, kept.types, medians or {}),
        *uneven_sizes(by_place, kept.types, usual),
        *uneven_regions(by_place, kept.types, usual),
        *spot_not_below(book),
        *spot_floors(book),
    ]
    kept.prices = _without(kept.prices, later)
    kept.quarantined += _told(rows.cloud, [*findings, *later])
    return kept


# --- on types --------------------------------------------------------------------------------------------------------


def _believed_types(rows: CloudRows) -> CloudRows:
    kept = CloudRows(
        rows.cloud, places=rows.places, egress=rows.egress, sources=rows.sources, unchanged=rows.unchanged,
        quarantined=list(rows.quarantined),
    )  # fmt: skip
    named, findings = canonical_names(rows.types.values())
    findings += [*device_memory(named), *odd_shapes(named)]
    bad = {each.row.cloud + "\0" + _name(each.row) for each in findings}
    kept.types = {made.name: _nominal(made) for made in named if made.cloud + "\0" + made.name not in bad}
    kept.quarantined += _told(rows.cloud, findings)
    return kept


def canonical_names(types: Iterable[InstanceType]) -> tuple[list[InstanceType], list[Finding]]:
    """Types with the canonical names of their accelerators; those with a name that is not known, such as one made of
    the memory of all devices (`A100-80GB-640GB`), are findings."""
    named, findings = [], []
    for made in types:
        if made.accelerator is None:
            named.append(made)
            continue
        name = canonical(made.accelerator, made.accelerator_memory_gib)
        if name is None:
            findings.append(Finding(made, "accelerator name", f"found '{made.accelerator[:60]}', which is not known"))
        else:
            named.append(made if name == made.accelerator else made._replace(accelerator=name))
    return named, findings


def device_memory(types: Iterable[InstanceType]) -> list[Finding]:
    """Memory that is not that of one device: the total of all devices, or MiB taken for GiB."""
    findings = []
    for made in types:
        said, nominal = made.accelerator_memory_gib, _nominal_memory(made)
        if said is None or nominal is None or 0.75 <= said / nominal <= 1.25 or _is_slice(made, said, nominal):
            continue
        why = "that of all devices" if abs(said / nominal - made.accelerator_count) < 0.25 else "another unit, perhaps"
        findings.append(
            Finding(made, "device memory", f"{said:g} GiB for one {made.accelerator}, which has {nominal:g}: {why}")
        )
    return findings


def odd_shapes(types: Iterable[InstanceType]) -> list[Finding]:
    """vCPUs, memory or a count of devices that no machine has."""
    return [
        Finding(
            made, "shape",
            f"{made.cpus:g} vCPUs, {made.memory_gib:g} GiB, {made.accelerator_count:g} {made.accelerator or 'devices'}",
        )
        for made in types
        if not (0 <= made.cpus <= 10_000 and 0 <= made.memory_gib <= 100_000)
        or not (0 < made.accelerator_count <= 1024 if made.accelerator else made.accelerator_count == 0)
    ]  # fmt: skip


def _nominal_memory(made: InstanceType) -> float | None:
    found = known(made.accelerator) if made.accelerator else None
    return found.memory_gib if found else None


def _is_slice(made: InstanceType, said: float, nominal: float) -> bool:
    """A part of a device may be told with its part of the memory."""
    return made.accelerator_count < 1 and 0.75 <= said / (nominal * made.accelerator_count) <= 1.25


def _nominal(made: InstanceType) -> InstanceType:
    """With the memory that the device is sold by: drivers keep some, and `24GB+` means a device of 24 GB."""
    nominal = _nominal_memory(made)
    said = made.accelerator_memory_gib
    if nominal is None or said == nominal:
        return made
    if said is None or 0.9 <= said / nominal <= 1.1 or made.accelerator_count < 1:
        return made._replace(accelerator_memory_gib=nominal)
    return made


# --- on prices -------------------------------------------------------------------------------------------------------


def currencies(prices: Iterable[Price]) -> list[Finding]:
    """Rows that are not in USD: a source converts, and says so, or is not believed."""
    return [
        Finding(price, "currency", f"{price[5]:g} {price[9]}, which nobody converted")
        for price in prices
        if price[9] != "USD"
    ]


def zero_prices(prices: Iterable[Price]) -> list[Finding]:
    """Prices that are not above zero, or not a number: missing ones, most often, written as 0."""
    return [
        Finding(price, "zero price", f"{price[5]} per hour, which is no price")
        for price in prices
        if not 0 < (price[5] or 0.0) < 100_000
    ]


def unknown_types(prices: Iterable[Price], types: Mapping[str, InstanceType]) -> list[Finding]:
    """Prices of a type of which nobody has said what it is."""
    return [
        Finding(price, "unknown type", f"{price[1]} has a price, and no vCPUs and memory")
        for price in prices
        if price[1] not in types
    ]


def duplicates(book: Book) -> list[Finding]:
    """The second row for the same (type, region, zone, market); of two prices the dearer is kept."""
    return [
        Finding(min(first, second, key=lambda row: row[5] or 0.0) if first[5] != second[5] else second, "duplicate",
                f"told twice, as {first[5]:g} and {second[5]:g}")
        for first, second in book.repeated
    ]  # fmt: skip


def device_prices(
    prices: Iterable[Price], types: Mapping[str, InstanceType], medians: Mapping[str, float]
) -> list[Finding]:
    """Prices per device and hour outside of what can be true, or far from the median over clouds.

    A dear price is looked at without its host (a small device in a large host is not a dear device), a cheap one
    whole. Cheap spot prices, and what a place says itself of its market at this moment, need not be near the median.
    """
    low, high = PER_DEVICE
    limits: dict[str, tuple[float, float, float, float]] = {}
    for made in types.values():
        if made.accelerator is None:
            continue
        count = devices(made.accelerator, made.accelerator_count)
        host = made.cpus * _HOST[0] + made.memory_gib * _HOST[1]
        median = medians.get(made.accelerator)
        dearest = high if median is None else min(high, FROM_MEDIAN * median)
        cheapest = low if median is None else max(low, median / FROM_MEDIAN)
        limits[made.name] = (low * count, cheapest * count, dearest * count, host)
    if not limits:
        return []
    findings, spot, live = [], Market.SPOT, Quality.LIVE
    for price in prices:
        limit = limits.get(price[1])
        if limit is None:
            continue
        least = limit[0] if price[4] is spot or price[6] is live else limit[1]
        usd = price[5] or 0.0
        if usd < least or usd - limit[3] > limit[2]:
            findings.append(_device_finding(price, types[price[1]], medians))
    return findings


def _device_finding(price: Price, made: InstanceType, medians: Mapping[str, float]) -> Finding:
    name = made.accelerator or ""
    each = (price.price or 0.0) / devices(name, made.accelerator_count)
    median = medians.get(name)
    beside = f"; the median over clouds is {median:.2f}" if median is not None else ""
    return Finding(
        price, "price per device", f"{each:.4g} per {name} and hour, allowed {PER_DEVICE[0]} to {PER_DEVICE[1]}{beside}"
    )


def uneven_sizes(
    by_place: Mapping[str, Mapping[str, Price]], types: Mapping[str, InstanceType], usual: Mapping[str, float]
) -> list[Finding]:
    """Sizes of a family without accelerators whose usual price per vCPU is not that of the other sizes.

    This is what a licence, a dedicated host or a missing discount in one row looks like. A family that is not linear as
    a whole is left alone. What is odd in one region only is found by `uneven_regions`.
    """
    findings = []
    for group in _families(types).values():
        each = [(usual[name] / cpus, name) for name, cpus in group if name in usual]
        for value, name, median in _deviants(each):
            told = f"{value:.4g} per vCPU where the family asks {median:.4g}"
            findings += [Finding(prices[name], "uneven size", told) for prices in by_place.values() if name in prices]
    return findings


def uneven_regions(
    by_place: Mapping[str, Mapping[str, Price]], types: Mapping[str, InstanceType], usual: Mapping[str, float]
) -> list[Finding]:
    """Prices whose ratio to what the type usually costs cannot be, or is not that of the rest of the family there.

    The usual price is the median over regions: a home region would have to be known, and may itself be wrong.
    Accelerated types are priced one by one, so only the bounds hold for them, and none for live prices of theirs.
    """
    groups = list(_families(types).values())
    single = [name for name, made in types.items() if made.accelerator and name in usual]
    findings: list[Finding] = []
    low, high = REGION_RATIO
    for place, prices in by_place.items():
        ratios = {name: price[5] / usual[name] for name, price in prices.items()}  # type: ignore[operator]  # as above
        least, most = min(ratios.values(), default=1.0), max(ratios.values(), default=1.0)
        if low <= least and most <= high and most <= least * (1 + UNEVEN):
            continue  # as one: no family can be apart
        for name in single:
            ratio = ratios.get(name, 1.0)
            if not low <= ratio <= high and prices[name][6] is not Quality.LIVE:
                findings.append(_ratio_finding(prices[name], ratio, place, f"allowed {low} to {high}"))
        for group in groups:
            each = [(ratios[name], name) for name, _ in group if name in ratios]
            outside = [(ratio, name) for ratio, name in each if not low <= ratio <= high]
            findings += [
                _ratio_finding(prices[name], ratio, place, f"allowed {low} to {high}") for ratio, name in outside
            ]
            findings += [
                _ratio_finding(prices[name], ratio, place, f"the family's is {median:.3g}")
                for ratio, name, median in _deviants(each)
                if (ratio, name) not in outside
            ]
    return findings


def usual_prices(by_place: Mapping[str, Mapping[str, Price]]) -> dict[str, float]:
    """The median price of each type over places."""
    seen: dict[str, list[float]] = {}
    for prices in by_place.values():
        for name, price in prices.items():
            here = seen.get(name)
            if here is None:
                here = seen[name] = []
            here.append(price[5])  # type: ignore[arg-type]  # rows without a price are not entered
    for each in seen.values():
        each.sort()
    return {name: each[(len(each) - 1) // 2] for name, each in seen.items()}


def _ratio_finding(price: Price, ratio: float, place: str, beside: str) -> Finding:
    return Finding(price, "uneven region", f"{ratio:.3g} times what it usually costs, in {place}; {beside}")


def _families(types: Mapping[str, InstanceType]) -> dict[tuple[object, ...], list[tuple[str, float]]]:
    """Types that should cost in proportion to their vCPUs: name and vCPUs by family and proportions."""
    made: dict[tuple[object, ...], list[tuple[str, float]]] = {}
    for each in types.values():
        if each.accelerator or not each.family or not each.cpus or not each.features.isdisjoint(_NOT_LINEAR):
            continue
        ratio = round(each.memory_gib / each.cpus, 1)
        disk = round(each.local_disk_gb / each.cpus, -1)
        made.setdefault((each.family, each.arch, ratio, disk), []).append((each.name, each.cpus))
    return made


_NOT_LINEAR = frozenset({"metal", "burstable", "shared_core"})


def _deviants(each: list[tuple[float, str]]) -> list[tuple[float, str, float]]:
    """The few that lie apart from the median of the many; nothing where there are not many that agree."""
    if len(each) < _PATTERN:
        return []
    low, high = min(each)[0], max(each)[0]
    if high <= low * (1 + UNEVEN):
        return []
    median = sorted(each)[len(each) // 2][0]
    apart = [(value, name, median) for value, name in each if abs(value - median) > UNEVEN * median]
    return apart if len(apart) * _PATTERN <= len(each) else []


# --- on spot ---------------------------------------------------------------------------------------------------------


def spot_not_below(book: Book) -> list[Finding]:
    """Spot prices that are no lower than on demand: a place without a spot market, or rows that were mixed up."""
    return [
        Finding(row, "spot not below on-demand", f"spot {spot:g}, on demand {on_demand:g}")
        for spot, on_demand, row in book.pairs
        if spot >= on_demand
    ]


def spot_floors(book: Book) -> list[Finding]:
    """Spot prices that are a floor, not a price: exactly a tenth of on demand, or exactly $1 or $0.01 per device."""
    findings = [
        Finding(row, "spot floor", f"spot {spot:g} is exactly a tenth of on demand {on_demand:g}")
        for spot, on_demand, row in book.pairs
        if abs(spot * 10 - on_demand) < 1e-9
    ]
    counts = {
        name: devices(made.accelerator, made.accelerator_count)
        for name, made in book.types.items()
        if made.accelerator and made.accelerator_count >= 1
    }
    for shelf in book.shelves.values():
        for name in shelf.spot.keys() & counts.keys():
            price, count, beside = shelf.spot[name], counts[name], shelf.on_demand.get(name)
            floor = price[5] in (count, count / 100) and price[4] is Market.SPOT
            if floor and (beside is None or (beside[5] or 0.0) > 2 * count):
                each = (price[5] or 0.0) / count
                findings.append(Finding(price, "spot floor", f"a bid of exactly {each:g} per device"))
    return findings


# --- over clouds -----------------------------------------------------------------------------------------------------


def lowest_per_device(rows: CloudRows) -> dict[str, float]:
    """The lowest on-demand price per device and hour of each accelerator in one cloud."""
    made: dict[str, float] = {}
    counted = {}
    for each in rows.types.values():
        name = canonical(each.accelerator, each.accelerator_memory_gib) if each.accelerator else None
        if name is not None and each.accelerator_count > 0:
            counted[each.name] = (name, devices(name, each.accelerator_count))
    on_demand = Market.ON_DEMAND
    for price in rows.prices:
        if price[1] in counted and price[4] is on_demand and price[5] and price[5] > 0:
            name, count = counted[price[1]]
            usd = price[5] / count
            made[name] = min(usd, made.get(name, usd))
    return made


def medians(clouds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The median over clouds of each accelerator's lowest price; of those that at least three clouds sell."""
    seen: dict[str, list[float]] = {}
    for prices in clouds:
        for name, usd in prices.items():
            seen.setdefault(name, []).append(usd)
    return {name: sorted(each)[len(each) // 2] for name, each in seen.items() if len(each) >= 3}


# --- bookkeeping -----------------------------------------------------------------------------------------------------


def _without(prices: list[Price], findings: list[Finding]) -> list[Price]:
    """The rows that no finding names."""
    bad = {id(each.row) for each in findings}
    return [price for price in prices if id(price) not in bad] if bad else prices


def _name(row: InstanceType | Price) -> str:
    return row.name if isinstance(row, InstanceType) else row.instance_type


def _told(cloud: str, findings: list[Finding]) -> list[Quarantined]:
    """Findings as rows to keep: each row once, with the first rule that named it."""
    made, seen, counts = [], set[int](), dict[str, int]()
    for row, rule, detail in findings:
        if id(row) in seen:
            continue
        seen.add(id(row))
        counts[rule] = counts.get(rule, 0) + 1
        if counts[rule] <= _TOLD:
            made.append(Quarantined(cloud, _what(row), rule, detail))
    made += [
        Quarantined(cloud, f"{count - _TOLD} more", rule, f"{count} rows in all")
        for rule, count in counts.items()
        if count > _TOLD
    ]
    return made


def _what(row: InstanceType | Price) -> str:
    if isinstance(row, InstanceType):
        return row.name
    return f"{row.instance_type} in {row.zone or row.region}, {row.market.replace('_', '-')}"

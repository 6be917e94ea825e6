"""A catalog that is a list of offers: every question is answered by looking at all of them. Counts what was taken."""

import random
from collections.abc import Iterator, Mapping, Sequence

from sky.core.model.catalog import InstanceType, Listing, Place, Query
from sky.core.model.offers import Offer

MEMORY = {"A100": 40, "A100-80GB": 80, "H100": 80, "L4": 24, "T4": 16, "V100": 16, "GH200": 96}
CPU = {"c2": (2, 4), "m4": (4, 16), "m8": (8, 32), "c8": (8, 16), "m16": (16, 64), "r8": (8, 64)}


class Shop:
    """See `sky.core.optimizer.sold.Sold`."""

    def __init__(self, on_sale: Sequence[Offer], names: Mapping[str, str] | None = None) -> None:
        self.on_sale = sorted(on_sale, key=lambda each: each.price_hourly)
        self.taken = 0
        self.asked = 0
        self._names = dict(names or {})

    def offers(self, query: Query) -> Iterator[Offer]:
        self.asked += 1
        for each in self.on_sale:
            if matches(query, each):
                self.taken += 1
                yield each

    def listings(self, query: Query) -> Iterator[Listing]:
        groups: dict[tuple[str, str, str], list[Offer]] = {}
        for each in self.on_sale:
            if matches(query, each):
                groups.setdefault((each.cloud, each.instance_type, each.region), []).append(each)
        for (cloud, name, region), some in groups.items():
            made = InstanceType(cloud, name, some[0].cpus, some[0].memory_gb)
            zones = tuple(sorted({each.zone for each in some if each.zone}))
            yield Listing(made, region, some[0].price_hourly, None, zones)

    def types(self, name: str, cloud: str | None = None) -> list[InstanceType]:
        found = {}
        for each in self.on_sale:
            if each.instance_type == name and cloud in (None, each.cloud):
                found[each.cloud] = InstanceType(each.cloud, name, each.cpus, each.memory_gb)
        return list(found.values())

    def places(self, cloud: str | None = None) -> list[Place]:
        found = {(each.cloud, each.region, each.zone) for each in self.on_sale if cloud in (None, each.cloud)}
        return [Place(*each) for each in sorted(found, key=str)]

    def accelerators(self) -> Mapping[str, str]:
        return {name.lower(): name for each in self.on_sale for name in each.accelerators} | self._names


def matches(query: Query, each: Offer) -> bool:
    accelerator = next(iter(each.accelerators), "")
    count = each.accelerators.get(accelerator, 0)
    checks = [
        (query.region, each.region),
        (query.zone, each.zone),
        (query.instance_type, each.instance_type),
        (query.accelerator, accelerator),
        (query.accelerator_count, count),
        (query.arch, each.arch),
        (query.market, each.market),
    ]
    bounds = [
        (query.min_cpus, each.cpus, query.max_cpus),
        (query.min_memory_gib, each.memory_gb, query.max_memory_gib),
        (query.min_accelerator_memory_gib, each.accelerator_memory_gb or 0, query.max_accelerator_memory_gib),
        (None, each.price_hourly, query.max_price),
    ]
    return (
        (query.clouds is None or each.cloud in query.clouds)
        and all(asked is None or asked == found for asked, found in checks)
        and all((low is None or low <= found) and (high is None or found <= high) for low, found, high in bounds)
        and (query.memory_per_cpu is None or each.memory_gb >= query.memory_per_cpu * each.cpus)
    )


def stocked(seed: int, *, clouds: int = 4, regions: int = 3, zones: int = 2, share: float = 0.8) -> Shop:
    """A random shop: every type of every cloud in most places, on demand by region and spot by zone."""
    chance = random.Random(seed)
    found = []
    for cloud in (f"c{number}" for number in range(clouds)):
        shapes = [(name, cpus, memory, None, 0) for name, (cpus, memory) in CPU.items()]
        shapes += [(f"g-{gpu}-{n}", 8 * n, 60 * n, gpu, n) for gpu in MEMORY for n in (1, 4, 8)]
        for name, cpus, memory, gpu, count in shapes:
            worth = chance.uniform(0.7, 1.4) * (cpus * 0.04 + (count * MEMORY[gpu] * 0.03 if gpu else 0))
            for region in (f"r{number}" for number in range(regions)):
                if chance.random() > share:
                    continue
                price = round(worth * chance.choice([1.0, 1.1, 1.25]), 4)
                made = Offer(
                    cloud, region, None, name, cpus, memory, price, {gpu: count} if gpu else {},
                    accelerator_memory_gb=MEMORY[gpu] if gpu else None, arch="arm64" if gpu == "GH200" else "x86_64",
                )  # fmt: skip
                found.append(made)
                for zone in range(zones):
                    spot = round(price * chance.uniform(0.2, 0.7), 4)
                    found.append(
                        Offer(
                            cloud,
                            region,
                            f"{region}{'abc'[zone]}",
                            name,
                            cpus,
                            memory,
                            spot,
                            made.accelerators,
                            use_spot=True,
                            accelerator_memory_gb=made.accelerator_memory_gb,
                            arch=made.arch,
                            interruption=chance.choice([None, 0.01, 0.1]),
                        )
                    )
    return Shop(found)

"""A made-up catalog in the shape of the real ones: 25 clouds, regions and zones, CPU families, accelerators, spot.

Not a benchmark of its own: `benchmarks/catalog.py`, `benchmarks/optimizer.py` and tests build their catalogs with it.
The same seed gives the same rows. Prices are drawn around plausible levels; no number is any vendor's.
"""

import argparse
import json
import random
from collections.abc import Iterator

from sky.core.model.catalog import InstanceType, Market, Place, Price, Quality, Row, Source

#: USD per device and hour, and the vCPUs and GiB of host that come with a device.
ACCELERATORS = {
    "T4": (0.35, 8, 30, 16), "L4": (0.6, 8, 32, 24), "A10G": (1.0, 8, 32, 24), "V100": (2.0, 8, 61, 16),
    "A100": (2.6, 12, 85, 40), "A100-80GB": (3.4, 12, 170, 80), "L40S": (1.6, 16, 64, 48), "H100": (6.5, 24, 240, 80),
    "H200": (8.0, 24, 250, 141), "B200": (12.0, 28, 250, 192), "MI300X": (6.0, 24, 220, 192),
    "RTX4090": (0.6, 8, 32, 24), "RTXA6000": (0.8, 8, 48, 48), "K80": (0.4, 4, 56, 12),
}  # fmt: skip
BIG = ("alta", "bora", "cirra")
OBSERVED = 1_790_000_000.0


def clouds() -> list[str]:
    """The names of the 25 clouds: three big ones, four of a middle size, eighteen small ones."""
    return [*BIG, *(f"mid{number}" for number in range(4)), *(f"neo{number:02}" for number in range(18))]


def rows(cloud: str, *, size: float = 1.0, seed: int = 0) -> Iterator[Row]:
    """All rows of one cloud; `size` scales the number of regions, and with it of offers (1.0: 300,000 in all)."""
    chance = random.Random(f"{seed}/{cloud}")
    rank = 0 if cloud in BIG else 1 if cloud.startswith("mid") else 2
    regions = max(1, round((28, 12, 9)[rank] * size))
    zones = (3, 2, 0)[rank]
    yield Source(cloud, f"https://prices.example/{cloud}", OBSERVED)
    factors = {f"{cloud}-r{number}": 1.0 if number == 0 else chance.uniform(0.95, 1.6) for number in range(regions)}
    for region in factors:
        yield Place(cloud, region, continent=chance.choice(["eu", "na", "as"]))
        for zone in range(zones):
            yield Place(cloud, region, f"{region}{'abc'[zone]}", zone_id=f"{region}-az{zone}")
    for made, price in _types(cloud, rank, chance):
        yield made
        yield from _prices(made, price, factors, zones, chance)


def _types(cloud: str, rank: int, chance: random.Random) -> Iterator[tuple[InstanceType, float]]:
    level = chance.uniform(0.8, 1.2) if rank < 2 else chance.uniform(0.5, 0.9)
    for family in range((58, 16, 3)[rank]):
        ratio = (2, 4, 8)[family % 3]
        per_cpu = level * (0.03 + 0.004 * ratio) * chance.uniform(0.85, 1.15)
        name, arch = f"{'cmr'[family % 3]}{family // 3 + 1}", "arm64" if family % 5 == 4 else "x86_64"
        for cpus in (2, 4, 8, 16, 32, 48, 64, 96):
            disk = 75.0 * cpus if family % 7 == 6 else 0.0
            yield (
                InstanceType(
                    cloud, f"{name}.{cpus}", float(cpus), float(cpus * ratio), arch, local_disk_gb=disk,
                    local_disk_kind="nvme" if disk else None, network_gbps=min(100.0, cpus * 0.8), family=name,
                ),
                per_cpu * cpus,
            )  # fmt: skip
    for name, (price, cpus, memory, device) in ACCELERATORS.items():
        if rank == 2 and chance.random() < 0.3:
            continue
        own = level * price * chance.uniform(0.9, 1.15)
        for count in (1, 2, 4, 8):
            family = f"g{name.lower()}"
            yield (
                InstanceType(
                    cloud, f"{family}.{count}", float(cpus * count), float(memory * count), accelerator=name,
                    accelerator_count=float(count), accelerator_memory_gib=float(device), family=family,
                ),
                own * count,
            )  # fmt: skip


def _prices(
    made: InstanceType, price: float, factors: dict[str, float], zones: int, chance: random.Random
) -> Iterator[Price]:
    cloud, name, *_ = made
    source = f"https://prices.example/{cloud}"
    for region, factor in factors.items():
        if made.accelerator and region != next(iter(factors)) and chance.random() < 0.35:
            continue
        spot = chance.uniform(0.3, 0.7)
        for zone in [f"{region}{letter}" for letter in "abc"[:zones]] or [None]:
            here = round(price * factor, 4)
            yield Price(cloud, name, region, zone, Market.ON_DEMAND, here, Quality.LIST, OBSERVED, source)
            there = round(here * spot * chance.uniform(0.97, 1.03), 4)
            yield Price(
                cloud, name, region, zone, Market.SPOT, there, Quality.LIVE, OBSERVED, source, "USD",
                round(chance.uniform(0.01, 0.2), 3),
            )  # fmt: skip


def world(size: float = 1.0, seed: int = 0) -> dict[str, list[Row]]:
    """The rows of all clouds by cloud."""
    return {cloud: list(rows(cloud, size=size, seed=seed)) for cloud in clouds()}


def main() -> None:
    """Print what a world holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=1.0, help="share of the regions")
    made = world(parser.parse_args().size)
    figures = {
        kind.__name__: sum(isinstance(row, kind) for each in made.values() for row in each)
        for kind in (InstanceType, Price, Place)
    }
    print(json.dumps({"clouds": len(made), **figures}, indent=2))


if __name__ == "__main__":
    main()

"""Compiles the catalog that the wheel brings: reviewed facts, and Amazon's own record of what it has.

Called by `hatch_build.py` when a wheel or a source archive is built, and by hand:
`python -m sky.store.catalog.seed --out seed.sqlite.z`. Equal inputs give equal bytes, as long as the SQLite library is
the same: nothing here asks for the time. An installed program only reads the result.
"""

import argparse
import datetime
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sky.core.catalog.accelerators import known
from sky.core.catalog.rows import CloudRows, gather
from sky.core.catalog.soundness import judge, lowest_per_device, medians
from sky.core.model.catalog import InstanceType, Market, Place, Price, Quality, Row, Source
from sky.store.catalog import descriptions, facts
from sky.store.catalog.build import build, replaced
from sky.store.catalog.facts import CloudFacts, FactsError

#: The release of the package that keeps Amazon's record, and when it was published.
RECORD_RELEASE = "5.2.5"
RECORD_DATE = datetime.date(2026, 10, 27)
RECORD_URL = f"https://github.com/getmoto/moto/tree/{RECORD_RELEASE}/moto/ec2/resources"
RECORD_LICENSE = "Apache-2.0"

NAME = "seed.sqlite.z"


class NoRecord(RuntimeError):
    """Amazon's record is wanted and the package that keeps it is not installed, or is another release."""


def record_folder() -> Path:
    """Where the record is. Raises NoRecord."""
    found, release = descriptions.resources(), descriptions.release()
    if found is None or release != RECORD_RELEASE:
        there = "it is not installed" if found is None else f"found {release}"
        raise NoRecord(
            f"the seed of the catalog needs moto=={RECORD_RELEASE} for Amazon's types and zones, {there}; install it "
            "(pip install --no-deps is enough), or compile from the facts alone with ALTOSTRATUS_SEED=facts"
        )
    return found


def rows(clouds: Iterable[CloudFacts], record: Path | None) -> Iterator[tuple[str, list[Row]]]:
    """Cloud by cloud, what the seed holds; with a record, types and zones of the cloud that it describes are its."""
    for each in clouds:
        yield each.cloud, list(_joined(each, record) if record is not None and each.described else each.rows())


def _joined(told: CloudFacts, record: Path) -> Iterator[Row]:
    """The facts of a cloud, mainly its prices, with what the record says of its types and zones."""
    recorded = Source(told.cloud, RECORD_URL, _seconds(RECORD_DATE), license=RECORD_LICENSE)
    types = dict(told.types) | {each.name: each for each in descriptions.types(record, told.cloud)}
    # A machine with a device that has no canonical name can neither be asked for nor be compared.
    types = {name: each for name, each in types.items() if each.accelerator is None or known(each.accelerator)}
    offered = list(_offered(record, recorded, types))
    priced = {price.instance_type for price in told.prices if price.price is not None}
    yield from told.sources
    yield recorded._replace(rows=len(types) + len(offered))
    # Also what is sold by capacity block alone is described as sold on demand: of that no price is published.
    yield from (_reserved(each) if each.name not in priced else each for each in types.values())
    yield from _places(told, record)
    yield from (price for price in told.prices if price.instance_type in types)
    yield from offered
    yield from told.egress


def _offered(record: Path, recorded: Source, types: Mapping[str, InstanceType]) -> Iterator[Price]:
    """That a zone sells a type, on which markets. It has no price of its own: a known one holds in the whole region."""
    cloud, seen, url = recorded.cloud, recorded.fetched, recorded.url
    for region, zone, names in descriptions.offerings(record):
        for name in names:
            if name not in types:
                continue
            yield Price(cloud, name, region, zone, Market.ON_DEMAND, None, Quality.LIST, seen, url)
            if "no_spot" not in types[name].features:
                yield Price(cloud, name, region, zone, Market.SPOT, None, Quality.LIST, seen, url)


def _reserved(kind: InstanceType) -> InstanceType:
    if "capacity_block" not in kind.features:
        return kind
    return kind._replace(features=kind.features | {"reservation_only"})


def _places(told: CloudFacts, record: Path) -> Iterator[Place]:
    of_region = {each.region: each for each in told.places if each.zone is None}
    for each in descriptions.places(record, told.cloud):
        ours = of_region.get(each.region)
        yield each._replace(country=ours.country, continent=ours.continent) if ours else each


def _seconds(day: datetime.date) -> float:
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp()


def judged(clouds: Iterable[CloudFacts], record: Path | None) -> list[CloudRows]:
    """What the seed holds, judged as live prices are. Raises FactsError: of a fact that is not believed, naming it."""
    gathered = [gather(cloud, made) for cloud, made in rows(clouds, record)]
    usual = medians([lowest_per_device(each) for each in gathered])
    believed = [judge(each, medians=usual) for each in gathered]
    if doubted := [each for cloud in believed for each in cloud.quarantined]:
        told = "; ".join(f"{each.cloud} {each.what}: {each.rule}: {each.detail}" for each in doubted[:5])
        raise FactsError(f"{len(doubted)} facts are not believed (rules: sky.core.catalog.soundness): {told}")
    return believed


def compile_seed(facts_folder: Path, out: Path, *, record: Path | None) -> int:
    """Write the compressed catalog to `out` in one step; its size in bytes. Raises FactsError."""
    believed = judged(facts.read_all(facts_folder), record)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.sqlite"
        build(path, believed)
        data = zlib.compress(path.read_bytes(), level=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Two builds of one tree may run at once: each has a file of its own until it is complete.
    with replaced(out) as unfinished:
        unfinished.write_bytes(data)
    return len(data)


def main(words: list[str] | None = None) -> int:
    """The command for developers; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sky.store.catalog.seed", description=main.__doc__)
    parser.add_argument("--facts", type=Path, default=Path("facts"), help="the folder of facts (default: facts)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name(NAME), help="the file to write")
    parser.add_argument("--facts-only", action="store_true", help="leave out what moto records of Amazon")
    asked = parser.parse_args(words)
    try:
        record = None if asked.facts_only else record_folder()
        size = compile_seed(asked.facts, asked.out, record=record)
    except (FactsError, NoRecord) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{asked.out}: {size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Reads the reviewed facts (`facts/*.toml`) into the rows of a catalog.

`store.catalog.seed` compiles them into the catalog that the wheel brings; nothing else calls this, and an installed
program never reads TOML for its prices. The form of the files is described for people in `docs/catalog-facts.md`. A
mistake in a file is an error that names the file, the place in it, what was found and what is allowed.
"""

import datetime
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sky.core.model.catalog import Egress, InstanceType, Market, Place, Price, Quality, Row, Source

_RATES = ("per_cpu", "per_gib", "per_accelerator", "per_machine")
#: The sections of a file and the keys of each.
_SECTIONS = {
    name: set(keys.split())
    for name, keys in {
        "cloud": "name title home described_by note",
        "source": "id url as_of quality via note",
        "place": "region zones country continent",
        "family": "name arch accelerator accelerator_memory_gib memory_gib_per_cpu disk_kind network_gbps features "
        "prefix suffix sizes columns rows note",
        "price": "family types regions source usd spot_usd note "
        + " ".join(f"{market}_{rate}" for market in ("usd", "spot_usd") for rate in _RATES),
        "egress": "region to usd_per_gb source note",
    }.items()
}
_COLUMNS = {"name", "cpus", "memory_gib", "accelerator", "count", "accelerator_memory_gib", "disk_gb"} | {
    "usd",
    "spot_usd",
}
_DIGITS = 6


class FactsError(ValueError):
    """A file of facts that cannot be believed: which file, where in it, what was found, and what is allowed."""


class Fact(NamedTuple):
    """A machine as its file lists it, with the prices of its own row."""

    type: InstanceType
    usd: float | None
    spot_usd: float | None


@dataclass(frozen=True)
class CloudFacts:
    """What one file says. `types` by name, in the order of the file; `described`: moto has its types and zones, too."""

    cloud: str
    title: str
    home: str | None
    described: bool
    types: Mapping[str, InstanceType]
    prices: tuple[Price, ...]
    places: tuple[Place, ...]
    egress: tuple[Egress, ...]
    sources: tuple[Source, ...]

    def rows(self) -> Iterator[Row]:
        """All of it, sources first."""
        yield from self.sources
        yield from self.types.values()
        yield from self.places
        yield from self.prices
        yield from self.egress


def read_all(folder: Path) -> list[CloudFacts]:
    """Every file of a folder, by name. Raises FactsError, also when there is none."""
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise FactsError(f"{folder}: no file of facts (*.toml) there; it is the folder `facts` of the source tree")
    return [read(path) for path in paths]


def read(path: Path) -> CloudFacts:
    """One cloud's file. Raises FactsError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FactsError(f"{path.name}: not TOML: {error}") from error
    return _File(path.name, document).facts()


class _Section:
    """One table of a file, which knows its place for the errors."""

    def __init__(self, where: str, values: object, allowed: set[str]) -> None:
        if not isinstance(values, dict):
            raise FactsError(f"{where}: found {values!r}; a table is wanted")
        for key in values:
            if key not in allowed:
                raise FactsError(f"{where}: unknown key {key!r}; allowed are {', '.join(sorted(allowed))}")
        self.where, self.values = where, values

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        value = self.values.get(key, default)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            wanted = kind.__name__ if isinstance(kind, type) else " or ".join(each.__name__ for each in kind)
            raise FactsError(f"{self.where}: {key} is {value!r}; a {wanted} is wanted")
        return value

    def need(self, key: str, kind: type | tuple[type, ...]) -> Any:
        if key not in self.values:
            raise FactsError(f"{self.where}: {key} is missing")
        return self.get(key, kind)

    def names(self, key: str) -> list[str]:
        found = self.get(key, list, [])
        for each in found:
            if not isinstance(each, str) or not each:
                raise FactsError(f"{self.where}: {key} has {each!r}; names are wanted")
        return list(found)


class _File:
    """One file on its way to rows."""

    def __init__(self, file: str, document: Mapping[str, Any]) -> None:
        for key in document:
            if key not in _SECTIONS:
                raise FactsError(f"{file}: unknown section {key!r}; allowed are {', '.join(_SECTIONS)}")
        self.file, self.document = file, document
        self.head = _Section(f"{file} [cloud]", document.get("cloud"), _SECTIONS["cloud"])
        self.cloud: str = self.head.need("name", str)
        if file != f"{self.cloud}.toml":
            raise FactsError(f"{file} [cloud]: name is {self.cloud!r}; a file is named after its cloud")
        self.sources = {each.need("id", str): self._source(each) for each in self._sections("source")}
        self.families = {each.need("name", str): list(self._family(each)) for each in self._sections("family")}
        self.types = self._types()

    def _sections(self, name: str) -> Iterator[_Section]:
        found = self.document.get(name, [])
        if not isinstance(found, list):
            raise FactsError(f"{self.file}: [{name}] is written [[{name}]]")
        for number, values in enumerate(found, 1):
            yield _Section(f"{self.file} [[{name}]] #{number}", values, _SECTIONS[name])

    def _source(self, section: _Section) -> tuple[Source, Quality]:
        url, as_of = section.need("url", str), section.need("as_of", datetime.date)
        if not url.startswith("https://"):
            raise FactsError(f"{section.where}: url is {url!r}; an https:// address is wanted")
        quality = section.need("quality", str)
        if quality not in ("list", "live", "derived", "estimate"):
            raise FactsError(f"{section.where}: quality is {quality!r}; list, live, derived or estimate is wanted")
        noon = datetime.datetime(as_of.year, as_of.month, as_of.day, tzinfo=datetime.UTC)
        return Source(self.cloud, url, noon.timestamp()), Quality(quality)

    def _types(self) -> dict[str, InstanceType]:
        types: dict[str, InstanceType] = {}
        for facts in self.families.values():
            for fact in facts:
                if fact.type.name in types:
                    raise FactsError(f"{self.file}: type {fact.type.name!r} is listed twice")
                types[fact.type.name] = fact.type
        return types

    def _family(self, section: _Section) -> Iterator[Fact]:
        if ("sizes" in section.values) == ("rows" in section.values):
            raise FactsError(f"{section.where}: either sizes (name = vCPUs) or columns and rows are wanted")
        for row in self._rows(section):
            cpus = row.get("cpus")
            memory = row.get("memory_gib")
            if memory is None and isinstance(cpus, int | float):
                memory = cpus * section.get("memory_gib_per_cpu", (int, float), 0.0)
            if not isinstance(row.get("name"), str) or not _positive(cpus) or not _positive(memory):
                raise FactsError(f"{section.where}: row {row} has to have a name, vCPUs and memory above zero")
            accelerator = row.get("accelerator", section.get("accelerator", str))
            count = float(row.get("count", 1 if accelerator else 0))
            made = InstanceType(
                cloud=self.cloud,
                name=row["name"],
                cpus=_figure(cpus),
                memory_gib=round(_figure(memory), _DIGITS),
                arch=section.get("arch", str, "x86_64"),
                accelerator=accelerator if count else None,
                accelerator_count=count,
                accelerator_memory_gib=_number(
                    row.get("accelerator_memory_gib", section.get("accelerator_memory_gib", (int, float)))
                    if accelerator and count
                    else None
                ),
                local_disk_gb=float(row.get("disk_gb", 0.0)),
                local_disk_kind=section.get("disk_kind", str, "ssd") if row.get("disk_gb") else None,
                network_gbps=_number(section.get("network_gbps", (int, float))),
                family=section.need("name", str),
                features=frozenset(section.names("features")),
            )
            yield Fact(made, _number(row.get("usd")), _number(row.get("spot_usd")))

    def _rows(self, section: _Section) -> Iterator[dict[str, Any]]:
        before, after = section.get("prefix", str, ""), section.get("suffix", str, "")
        for size, cpus in section.get("sizes", dict, {}).items():
            yield {"name": f"{before}{size}{after}", "cpus": cpus}
        columns = section.names("columns")
        if unknown := set(columns) - _COLUMNS:
            raise FactsError(f"{section.where}: unknown columns {sorted(unknown)}; allowed are {sorted(_COLUMNS)}")
        for row in section.get("rows", list, []):
            if not isinstance(row, list) or len(row) != len(columns):
                raise FactsError(f"{section.where}: row {row} does not match the columns {columns}")
            # TOML has no null: "-" leaves a cell open.
            yield {column: cell for column, cell in zip(columns, row, strict=True) if cell != "-"}

    def _prices(self, section: _Section) -> Iterator[Price]:
        source, quality = self._sourced(section)
        regions = section.names("regions")
        if not regions:
            raise FactsError(f"{section.where}: regions are missing")
        for fact in self._priced(section):
            figures = {
                Market.ON_DEMAND: self._figure(section, fact, "usd", fact.usd),
                Market.SPOT: self._figure(section, fact, "spot_usd", fact.spot_usd),
            }
            if all(each is None for each in figures.values()):
                raise FactsError(f"{section.where}: no price for {fact.type.name}")
            for market, figure in figures.items():
                if figure is not None and figure <= 0:
                    raise FactsError(f"{section.where}: {fact.type.name} costs {figure}; a price above zero is wanted")
                for region in regions if figure is not None else ():
                    yield Price(
                        self.cloud, fact.type.name, region, None, market, figure, quality, source.fetched, source.url
                    )

    def _described(self) -> bool:
        by = self.head.get("described_by", str)
        if by not in (None, "moto"):
            raise FactsError(f"{self.head.where}: described_by is {by!r}; moto is wanted, or nothing")
        return by is not None

    def _unpriced(self, prices: list[Price]) -> Iterator[Price]:
        """Types without any price are sold at home, where the cloud has one: they can be shown, and are not offered."""
        priced, home = {price.instance_type for price in prices}, self.head.get("home", str)
        source, quality = next(iter(self.sources.values()), (None, None))
        if home is None or source is None or quality is None:
            return
        for name in self.types:
            if name not in priced:
                yield Price(self.cloud, name, home, None, Market.ON_DEMAND, None, quality, source.fetched, source.url)

    def _sourced(self, section: _Section) -> tuple[Source, Quality]:
        name = section.need("source", str)
        if name not in self.sources:
            raise FactsError(f"{section.where}: source is {name!r}; known are {', '.join(self.sources) or 'none'}")
        return self.sources[name]

    def _priced(self, section: _Section) -> list[Fact]:
        """The machines that a price is of: those of a family, or the named ones."""
        family, wanted = section.get("family", str), section.names("types")
        if family is not None and family not in self.families:
            raise FactsError(f"{section.where}: family is {family!r}; known are {', '.join(self.families)}")
        known = self.families[family] if family else [fact for facts in self.families.values() for fact in facts]
        by_name = {fact.type.name: fact for fact in known}
        wanted = wanted or list(section.get("usd", dict, {})) or (list(by_name) if family else [])
        if unknown := [name for name in wanted if name not in by_name]:
            raise FactsError(f"{section.where}: no such type: {', '.join(unknown)}")
        if not wanted:
            raise FactsError(f"{section.where}: family, types or usd (type = price) is missing")
        return [by_name[name] for name in wanted]

    def _figure(self, section: _Section, fact: Fact, market: str, own: float | None) -> float | None:
        """The section's own figure, else the sum of its rates, else what the machine's row says."""
        named = section.get(market, dict, {}).get(fact.type.name)
        if named is not None:
            return _number(named)
        sizes = (fact.type.cpus, fact.type.memory_gib, fact.type.accelerator_count, 1.0)
        rates = [section.get(f"{market}_{rate}", (int, float)) for rate in _RATES]
        if any(rate is not None for rate in rates):
            return round(sum((rate or 0.0) * size for rate, size in zip(rates, sizes, strict=True)), _DIGITS)
        # A price that names other figures says nothing of the row's own.
        return None if section.values.get("usd") or section.values.get("spot_usd") else own

    def _place(self, section: _Section) -> Iterator[Place]:
        region = section.need("region", str)
        rest = (section.get("country", str), section.get("continent", str))
        yield Place(self.cloud, region, None, None, *rest)
        for zone in section.names("zones"):
            yield Place(self.cloud, region, zone, None, *rest)

    def _egress(self, section: _Section) -> Egress:
        source, quality = self._sourced(section)
        cost = section.need("usd_per_gb", (int, float))
        if cost < 0:
            raise FactsError(f"{section.where}: usd_per_gb is {cost}; zero or more is wanted")
        region, to = section.get("region", str, "*"), section.need("to", str)
        return Egress(self.cloud, region, to, float(cost), quality, source.url)

    def _addresses(self, prices: list[Price]) -> Iterator[Source]:
        """The sources by address: a page that was read on several days counts as of the last of them."""
        by_url: dict[str, Source] = {}
        for each, _ in self.sources.values():
            known = by_url.get(each.url)
            by_url[each.url] = each if known is None or known.fetched < each.fetched else known
        for each in by_url.values():
            yield each._replace(rows=sum(price.source == each.url for price in prices))

    def facts(self) -> CloudFacts:
        prices = [price for section in self._sections("price") for price in self._prices(section)]
        places = [place for section in self._sections("place") for place in self._place(section)]
        seen: set[tuple[str, str, Market]] = set()
        for price in prices:
            key = (price.instance_type, price.region, price.market)
            if key in seen:
                raise FactsError(f"{self.file}: {' '.join(key)} has two prices")
            seen.add(key)
        if missing := {price.region for price in prices} - {place.region for place in places}:
            raise FactsError(f"{self.file}: prices in {', '.join(sorted(missing))}, which is no [[place]] of the file")
        home = self.head.get("home", str)
        if home is not None and home not in {place.region for place in places}:
            raise FactsError(f"{self.file} [cloud]: home is {home!r}, which is no [[place]] of the file")
        return CloudFacts(
            cloud=self.cloud,
            title=self.head.need("title", str),
            home=self.head.get("home", str),
            described=self._described(),
            types=self.types,
            prices=(*prices, *self._unpriced(prices)),
            places=tuple(places),
            egress=tuple(self._egress(section) for section in self._sections("egress")),
            sources=tuple(self._addresses(prices)),
        )


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _figure(value: object) -> float:
    """A number that was checked already."""
    assert isinstance(value, int | float)
    return float(value)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None

"""Answers questions about one generation of the catalog: `core.ports.Catalog` over an immutable SQLite file.

`generations` opens the files; the server and the optimizer ask through the port. Nothing but the standard library is
imported on the way here: a cold process answers in milliseconds. Offers are found lazily in the order of price, by
two walks: over types, each with the lowest of its prices as the bound from which its offers are worth opening (exact,
since no offer is below the bound of its type), or over the places of one region, whose index is in the order of price.
"""

# ruff: noqa: S608 - only our own names of columns and question marks are put together; every value is bound

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush, heapreplace
from heapq import merge as merge_sorted
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sky.core.model.catalog import (
    CloudSummary,
    Egress,
    InstanceType,
    Listing,
    Market,
    Place,
    Quality,
    Quarantined,
    Query,
    Sale,
    Source,
)
from sky.store.catalog.schema import APPLICATION_ID, MARKETS, QUALITIES, VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from sky.core.model.offers import Offer

_QUALITY_OF: tuple[Quality, ...] = tuple(QUALITIES)
_MARKET_OF: tuple[Market, ...] = tuple(MARKETS)
_LEAST = {None: "least", Market.ON_DEMAND: "least_on_demand", Market.SPOT: "least_spot", Market.RESERVED: "least"}
_TYPE = """t.id, t.cloud, t.name, t.cpus, t.memory_gib, t.arch, a.name, t.accelerator_count, t.accelerator_memory_gib,
    t.local_disk_gb, t.local_disk_kind, t.network_gbps, t.family, t.features"""
#: Times the lowest price in a cloud: up to there nearly all of its regions sell something of what is asked for.
_NEAR = 2.2
#: What SQLite gives for `_OFFER`; begins with the price and the number of the type.
Row = tuple[Any, ...]
_OFFER = "o.price, o.itype, p.region, p.zone, o.market, o.provenance, o.interruption"


class Unusable(Exception):
    """A file that is no catalog of this version, or not whole; the text says which and why."""


class CatalogFile:
    """See `core.ports.Catalog`. May be asked from several threads; what it returned stays readable when it is gone."""

    def __init__(self, connection: sqlite3.Connection, generation: str, uri: str | None = None) -> None:
        self._db = connection
        self._uri = uri
        self._generation = generation
        self._types: dict[int, _Type] = {}
        self._spellings: dict[str, str] | None = None
        self._provenance: dict[int, tuple[Quality, float, str]] = {}

    @classmethod
    def open(cls, path: "Path | str", generation: str | None = None) -> "CatalogFile":
        """Open a file that nobody writes to again. Raises Unusable."""
        name = os.path.abspath(path)
        try:
            with open(name, "rb") as file:
                header = file.read(100)
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise Unusable(f"{path}: {error.strerror or error}") from error
        _check_header(header, size, name)
        uri = f"file:{_quoted(name)}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
        return cls(connection, generation or os.path.basename(name).removesuffix(".sqlite"), uri)

    @classmethod
    def current(cls, folder: "Path | str") -> "CatalogFile":
        """The current generation of a folder, without the care of `generations`. Raises Unusable."""
        try:
            with open(os.path.join(folder, "current"), encoding="utf-8") as pointer:
                named = pointer.read().partition(" ")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unusable(f"{folder}: no current generation: {error}") from error
        return cls.open(os.path.join(folder, f"{os.path.basename(named)}.sqlite"), named)

    @classmethod
    def of_bytes(cls, content: bytes, generation: str) -> "CatalogFile":
        """A catalog that is in memory only. Raises Unusable."""
        _check_header(content[:100], len(content), generation)
        connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        connection.deserialize(content)
        return cls(connection, generation)

    @property
    def generation(self) -> str:
        """Its name, different for each content."""
        return self._generation

    def close(self) -> None:
        """Let go of the file. Questions that are still being answered fail."""
        self._db.close()

    def attach_to(self, connection: sqlite3.Connection, name: str) -> None:
        """Let another connection, which is in no transaction, read this generation under a name."""
        if self._uri is not None:
            connection.execute(f"attach ? as {name}", (self._uri,))
        else:
            connection.execute(f"attach ':memory:' as {name}")
            connection.deserialize(self._db.serialize(), name=name)

    # --- offers ------------------------------------------------------------------------------------------------------

    def offers(self, query: Query) -> Iterator["Offer"]:
        """What has a price, cheapest first, found lazily; equal prices in an order that is the same every time."""
        return map(self._offer, self._rows(query))

    def sales(self, query: Query) -> Iterator[Sale]:
        """The same as bare rows: for a process that asks once and ends, before it could have loaded more."""
        for price, itype, region, zone, market, provenance, interruption in self._rows(query):
            known = self._provenance_of(provenance)
            yield Sale(self._type(itype).type, region, zone, _MARKET_OF[market], price, *known, interruption)

    def _rows(self, query: Query) -> Iterator[Row]:
        places = self._places_of(query)
        if places == []:
            return
        by_place = places is not None and query.accelerator in (None, "") and query.instance_type is None
        rows = self._by_place(query, places or []) if by_place else self._by_type(query, places)
        for row in rows:
            if query.max_price is not None and row[0] > query.max_price:
                return
            yield row

    def _places_of(self, query: Query) -> list[int] | None:
        """The places that a query is restricted to; `None` where it is not."""
        if query.clouds is not None and not query.clouds:
            return []
        if query.region is None and query.zone is None:
            return None
        where = _Where()
        where.equal("region", query.region)
        where.equal("zone", query.zone)
        where.among("cloud", query.clouds)
        return [number for (number,) in self._db.execute(f"select id from place{where}", where.values)]

    def _by_type(self, query: Query, places: list[int] | None) -> Iterator[Row]:
        """Merge the offers of types; a type is opened once no known offer is below its bound."""
        least = _LEAST[query.market]
        where = _of_types(query)
        where.add(f"t.{least} is not null")
        # Named: SQLite would sort all types by its own figures, where walking them in the order of price ends soon.
        hint = "" if query.accelerator or query.instance_type else f"indexed by itype_{least}"
        types = self._db.execute(
            f"select t.{least}, {_TYPE} from itype t {hint} left join accelerator a on a.id = t.accelerator"
            f"{where} order by t.{least}, t.id",
            where.values,
        )
        inner = _of_one_type(query, places)
        sql = f"select {_OFFER} from offer o cross join place p on p.id = o.place{inner} order by o.price, o.place"
        heap: list[tuple[Row, Iterator[Row]]] = []
        for bound, *fields in types:
            while heap and heap[0][0][0] < bound:
                yield _next_of(heap)
            number = fields[0]
            if number not in self._types:
                self._types[number] = _Type(fields)
            stream = self._db.execute(sql, (number, *inner.values))
            first = stream.fetchone()
            if first is not None:
                # Price and type come first and are unlike between streams, so that no two streams are compared.
                heappush(heap, (first, stream))
        while heap:
            yield _next_of(heap)

    def _by_place(self, query: Query, places: list[int]) -> Iterator[Row]:
        """Merge the offers of places; types are looked up as they come."""
        where = _Where("o.place = ?")
        if query.market is not None:
            where.equal("o.market", MARKETS[query.market])
        where.also(_of_types(query))
        sql = (
            f"select {_OFFER} from offer o indexed by offer_place cross join itype t on t.id = o.itype "
            f"cross join place p on p.id = o.place{where} order by o.price, o.market, o.itype"
        )
        streams = [self._db.execute(sql, (place, *where.values)) for place in places]
        return merge_sorted(*streams, key=itemgetter(0))

    def lowest(self, query: Query) -> Iterator["Offer"]:
        """The cheapest offer of each region that has one, in no order, without asking region by region.

        One pass over what costs little more than the cheapest of its cloud finds nearly all; the other regions are
        walked in the order of price.
        """
        market = query.market or Market.ON_DEMAND
        least, where = _LEAST[market], _of_types(query)
        # Of few types everything is looked at; then what is not found is not sold.
        few = bool(query.accelerator or query.instance_type or query.min_accelerator_memory_gib)
        places = _Where()
        places.equal("p.region", query.region)
        places.equal("p.zone", query.zone)
        places.among("p.cloud", query.clouds)
        near = _Where(f"t.{least} <= c.highest")
        near.add("o.price <= c.highest")
        near.equal("o.market", MARKETS[market])
        near.also(where)
        near.also(places)
        factor = 1e9 if few else _NEAR
        # Beside a minimum, SQLite gives the other columns of the row that has it.
        rows = self._db.execute(
            "select min(o.price), o.itype, p.region, p.zone, o.market, o.provenance, o.interruption, p.cloud from "
            f"(select t.cloud, {factor} * min(t.{least}) as highest from itype t{where} group by t.cloud) c "
            "cross join itype t on t.cloud = c.cloud cross join offer o on o.itype = t.id "
            f"cross join place p on p.id = o.place{near} group by p.cloud, p.region",
            (*where.values, *near.values),
        ).fetchall()
        found = {(row[-1], row[2]) for row in rows}
        yield from (self._offer(row[:-1]) for row in rows if query.max_price is None or row[0] <= query.max_price)
        # Where one region is asked for, what is near the cheapest of the whole cloud says nothing about it.
        one_region = query.region is not None or query.zone is not None
        sold = {cloud for cloud, _ in found}
        for cloud, region in self._db.execute(
            f"select distinct p.cloud, p.region from place p{places}", places.values
        ).fetchall():
            if not few and (cloud in sold or one_region) and (cloud, region) not in found:
                one = query._replace(clouds=frozenset([cloud]), region=region, market=market)
                yield from islice(self.offers(one), 1)

    def _offer(self, row: Row) -> "Offer":
        from sky.core.model.offers import Offer  # noqa: PLC0415 - `dataclasses` is half of what `sales` takes

        price, itype, region, zone, market, provenance, interruption = row
        made = self._type(itype)
        quality, observed, source = self._provenance_of(provenance)
        return Offer(
            made.type.cloud, region, zone, made.type.name, made.type.cpus, made.type.memory_gib,
            price, made.accelerators, market == 1, False, made.type.accelerator_memory_gib, made.type.arch,
            made.type.local_disk_gb, made.type.local_disk_kind, made.type.network_gbps, made.type.family,
            made.type.features, quality, observed, source, interruption,
        )  # fmt: skip

    def _type(self, number: int) -> "_Type":
        found = self._types.get(number)
        if found is None:
            row = self._db.execute(
                f"select {_TYPE} from itype t left join accelerator a on a.id = t.accelerator where t.id = ?", (number,)
            ).fetchone()
            found = self._types[number] = _Type(row)
        return found

    def _provenance_of(self, number: int) -> tuple[Quality, float, str]:
        found = self._provenance.get(number)
        if found is None:
            quality, observed, url = self._db.execute(
                "select v.quality, v.observed, s.url from provenance v join source s on s.id = v.source where v.id = ?",
                (number,),
            ).fetchone()
            found = self._provenance[number] = (_QUALITY_OF[quality], observed, url)
        return found

    # --- listings ----------------------------------------------------------------------------------------------------

    def listings(self, query: Query) -> Iterator[Listing]:
        """One for each type and region, also without a price; by accelerator, count, price."""
        places = self._places_of(query)
        if places == []:
            return
        where = _of_types(query)
        types = self._db.execute(
            f"select {_TYPE} from itype t left join accelerator a on a.id = t.accelerator{where} "
            "order by ifnull(a.name, ''), t.accelerator_count, t.id",
            where.values,
        )
        made = (_Type(fields) for fields in types)
        for _, group in groupby(made, key=lambda each: (each.type.accelerator, each.type.accelerator_count)):
            listed = [listing for each in group for listing in self._listed(each, query, places)]
            listed.sort(key=_by_price)
            yield from listed

    def _listed(self, made: "_Type", query: Query, places: list[int] | None) -> Iterator[Listing]:
        """The listings of one type, in no order."""
        inner = _of_one_type(query, places)
        sold = f"from {{}} o cross join place p on p.id = o.place{inner}"
        rows = self._db.execute(
            f"select p.region, p.zone, o.market, o.price, o.provenance {sold.format('offer')} union all "
            f"select p.region, p.zone, o.market, null, null {sold.format('offering')} order by 1, 4",
            (made.number, *inner.values) * 2,
        ).fetchall()
        for region, group in groupby(rows, key=itemgetter(0)):
            here = list(group)
            prices = [row for row in here if row[3] is not None]
            on_demand = next((row for row in prices if row[2] == 0), None)
            spot = next((row for row in prices if row[2] == 1), None)
            if query.max_price is not None and (not prices or prices[0][3] > query.max_price):
                continue
            shown = on_demand or spot
            known = self._provenance_of(shown[4]) if shown else (None, None, None)
            zones = tuple(sorted({row[1] for row in here if row[1] is not None}))
            yield Listing(made.type, region, on_demand and on_demand[3], spot and spot[3], zones, *known)

    # --- all of a kind -----------------------------------------------------------------------------------------------

    def types(self, name: str, cloud: str | None = None) -> list[InstanceType]:
        """The types of this name, by cloud."""
        where = _Where("t.name = ?", name)
        where.equal("t.cloud", cloud)
        return [
            _Type(fields).type
            for fields in self._db.execute(
                f"select {_TYPE} from itype t left join accelerator a on a.id = t.accelerator{where} order by t.cloud",
                where.values,
            )
        ]

    def types_of(self, cloud: str) -> list[InstanceType]:
        """All types of a cloud, in the order in which they were told."""
        rows = self._db.execute(
            f"select {_TYPE} from itype t left join accelerator a on a.id = t.accelerator where t.cloud = ? order by 1",
            (cloud,),
        )
        return [_Type(fields).type for fields in rows]

    def lowest_of_types(self) -> list[tuple[str, str, float, float]]:
        """Cloud, accelerator, count, and the lowest on-demand price in USD per hour of each type that has them."""
        return self._db.execute(
            "select t.cloud, a.name, t.accelerator_count, t.least_on_demand from itype t "
            "join accelerator a on a.id = t.accelerator where t.least_on_demand is not null and t.accelerator_count > 0"
        ).fetchall()

    def type_names(self, cloud: str | None = None) -> list[str]:
        """The names of all types, each once, sorted."""
        where = _Where()
        where.equal("cloud", cloud)
        return [
            name for (name,) in self._db.execute(f"select distinct name from itype{where} order by 1", where.values)
        ]

    def places(self, cloud: str | None = None) -> list[Place]:
        """Regions and zones in which something is sold, by name."""
        where = _Where()
        where.equal("cloud", cloud)
        return [
            Place(*fields)
            for fields in self._db.execute(
                f"select cloud, region, zone, zone_id, country, continent from place{where} order by 1, 2, 3",
                where.values,
            )
        ]

    def accelerators(self) -> Mapping[str, str]:
        """Every known spelling in lower case to the canonical name."""
        if self._spellings is not None:
            return self._spellings
        named = self._db.execute("select lower(name), name from accelerator")
        spelt = self._db.execute(
            "select s.spelling, a.name from spelling s join accelerator a on a.id = s.accelerator order by 1"
        )
        self._spellings = dict([*spelt, *named])
        return self._spellings

    def egress(self) -> Sequence[Egress]:
        """What moving data out costs."""
        rows = self._db.execute("select cloud, region, destination, usd_per_gb, quality, source from egress")
        return [
            Egress(cloud, region, to, usd, _QUALITY_OF[quality], url) for cloud, region, to, usd, quality, url in rows
        ]

    def sources(self) -> Sequence[Source]:
        """The documents that the rows came from, by cloud and address."""
        rows = self._db.execute(
            "select cloud, url, fetched, rows, etag, last_modified, sha256, license from source order by 1, 2"
        )
        return [Source(*row) for row in rows]

    def quarantined(self) -> Sequence[Quarantined]:
        """The rows that were not believed."""
        return [Quarantined(*row) for row in self._db.execute("select cloud, what, rule, detail from quarantine")]

    def summary(self) -> Sequence[CloudSummary]:
        """What it holds of each cloud."""
        from sky.store.catalog.summary import summarize  # noqa: PLC0415 - seldom asked

        return summarize(self._db)


class _Type:
    """A row of `itype`, made once for all offers of it."""

    __slots__ = ("accelerators", "number", "type")

    def __init__(self, fields: Sequence[Any]) -> None:
        self.number: int = fields[0]
        self.type = InstanceType._make((*fields[1:-1], frozenset(fields[-1].split())))
        self.accelerators: dict[str, float] = {}
        if self.type.accelerator is not None:
            whole = self.type.accelerator_count
            self.accelerators[self.type.accelerator] = int(whole) if whole == int(whole) else whole


class _Where:
    """Conditions of a statement and their values, in the same order."""

    def __init__(self, *first: Any) -> None:
        self.conditions: list[str] = list(first[:1])
        self.values: list[object] = list(first[1:])

    def add(self, condition: str, *values: object) -> None:
        self.conditions.append(condition)
        self.values.extend(values)

    def also(self, other: "_Where") -> None:
        self.conditions.extend(other.conditions)
        self.values.extend(other.values)

    def equal(self, column: str, value: object) -> None:
        """Nothing where the value is left open."""
        if value is not None:
            self.add(f"{column} = ?", value)

    def least(self, column: str, value: float | None) -> None:
        if value is not None:
            self.add(f"{column} >= ?", value)

    def most(self, column: str, value: float | None) -> None:
        if value is not None:
            self.add(f"{column} <= ?", value)

    def among(self, column: str, values: frozenset[str] | None) -> None:
        if values is not None:
            self.add(f"{column} in ({','.join('?' * len(values))})", *sorted(values))

    def __str__(self) -> str:
        return f" where {' and '.join(self.conditions)}" if self.conditions else ""


def _quoted(name: str) -> str:
    """A path within an URI; `urllib` would take 3 ms to load for the three characters that mean something there."""
    return name.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _of_types(query: Query) -> _Where:
    """What a query asks of types."""
    where = _Where()
    where.among("t.cloud", query.clouds)
    where.equal("t.name", query.instance_type)
    if query.accelerator == "":
        where.add("t.accelerator is null")
    elif query.accelerator is not None:
        where.add("t.accelerator = (select id from accelerator where name = ?)", query.accelerator)
    where.equal("t.accelerator_count", query.accelerator_count)
    if query.vendor is not None:
        where.add("t.accelerator in (select id from accelerator where vendor = ?)", query.vendor)
    if query.min_accelerator_memory_gib is not None or query.max_accelerator_memory_gib is not None:
        where.add("t.accelerator is not null")
    # One of unknown memory has at least zero; it is left out by any bound above.
    where.least("ifnull(t.accelerator_memory_gib, 0)", query.min_accelerator_memory_gib)
    where.most("t.accelerator_memory_gib", query.max_accelerator_memory_gib)
    where.least("t.cpus", query.min_cpus)
    where.most("t.cpus", query.max_cpus)
    where.least("t.memory_gib", query.min_memory_gib)
    where.most("t.memory_gib", query.max_memory_gib)
    if query.memory_per_cpu is not None:
        where.add("t.memory_gib >= ? * t.cpus", query.memory_per_cpu)
    where.equal("t.arch", query.arch)
    return where


def _of_one_type(query: Query, places: list[int] | None) -> _Where:
    """What a query asks of the offers `o` of one type, whose number is bound first."""
    where = _Where("o.itype = ?")
    if query.market is not None:
        where.equal("o.market", MARKETS[query.market])
    if places is not None:
        where.add(f"o.place in ({','.join(map(str, places))})")
    return where


def _next_of(heap: list[tuple[Row, Iterator[Row]]]) -> Row:
    """Take the cheapest row off and put the next of its stream in its place."""
    row, stream = heap[0]
    following = next(stream, None)
    if following is None:
        heappop(heap)
    else:
        heapreplace(heap, (following, stream))
    return row


def _by_price(listing: Listing) -> tuple[bool, float, str, str, str]:
    """The cheapest first, those without a price last."""
    known = [price for price in (listing.price, listing.spot_price) if price is not None]
    price = listing.price if listing.price is not None else min(known, default=0.0)
    return (not known, price, listing.type.cloud, listing.type.name, listing.region)


def _check_header(header: bytes, size: int, name: str) -> None:
    """The first page says how long the file is, and that it is ours. Raises Unusable."""
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise Unusable(f"{name} is not a catalog file ({size} bytes)")
    pages, version, application = (int.from_bytes(header[at : at + 4], "big") for at in (28, 60, 68))
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page
    if application != APPLICATION_ID or version != VERSION:
        raise Unusable(f"{name} is a catalog of version {version}; this version reads {VERSION}")
    if size != pages * page:
        raise Unusable(f"{name} is not whole: it has {size} bytes of {pages * page}")

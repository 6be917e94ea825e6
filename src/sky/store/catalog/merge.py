"""Makes the next generation of the catalog: clouds that were asked anew, judged, beside the others as they were.

The server calls `rebuild` with what the price sources brought. A cloud whose source failed, or whose rows are not
believed, keeps what it had and says so; no cloud holds up another. Rows that stay are copied inside SQLite.
"""

# ruff: noqa: S608 - only our own names of columns and question marks are put together; every value is bound

import gc
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sky.core.catalog.accelerators import devices
from sky.core.catalog.golden import GOLDEN
from sky.core.catalog.regression import MOVE, Change, Golden, refused
from sky.core.catalog.rows import CloudRows, gather
from sky.core.catalog.soundness import judge, lowest_per_device, medians
from sky.core.errors import ProviderFailure
from sky.core.model.catalog import InstanceType, Price, Quality, Row, Unchanged
from sky.store.catalog.build import finish, new_file, write_cloud
from sky.store.catalog.generations import Generations
from sky.store.catalog.read import CatalogFile, Unusable
from sky.store.catalog.schema import MARKETS, QUALITIES


@dataclass(frozen=True, slots=True)
class Fresh:
    """What the source of one cloud brought: its rows, or `failure`, in words, when it failed."""

    rows: Iterable[Row] = ()
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one cloud. `reason` is why it `kept` what it had; `rows` are its prices in the new generation."""

    cloud: str
    kept: bool
    rows: int
    types: int
    quarantined: int
    reason: str | None = None


def rebuild(
    generations: Generations,
    fresh: Mapping[str, Fresh],
    *,
    golden: Golden = GOLDEN,
    accept: frozenset[str] = frozenset(),
) -> dict[str, Outcome]:
    """Publish a generation with these clouds anew. Raises OSError, sqlite3.Error.

    `accept` names clouds whose new rows are taken even if they differ too much from the last generation's. Rows are
    consumed here; a source that fails while it is read is a failure of its cloud.
    """
    with generations.writing(), _without_collector():
        try:
            last: CatalogFile | None = generations.reader()
        except Unusable:
            last = None
        gathered, failures = _gathered(fresh)
        middle = medians([*(lowest_per_device(rows) for rows in gathered), *_lowest_of_others(last, gathered)])
        judged = [judge(rows, earlier=_earlier_types(last, rows), medians=middle) for rows in gathered]
        outcomes = dict[str, Outcome]()

        def write(path: Path) -> None:
            with new_file(path) as connection:
                outcomes.update(_write(connection, last, judged, failures, golden, accept))
                finish(connection)
                _count(connection, outcomes)

        generations.publish(write)
        return outcomes


@contextmanager
def _without_collector() -> Iterator[None]:
    """A rebuild makes a million tuples and no cycles; looking through them for some takes a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _gathered(fresh: Mapping[str, Fresh]) -> tuple[list[CloudRows], dict[str, str]]:
    rows, failures = [], {}
    for cloud, each in sorted(fresh.items()):
        if each.failure is not None:
            failures[cloud] = each.failure
            continue
        try:
            rows.append(gather(cloud, each.rows))
        except ProviderFailure as error:
            failures[cloud] = str(error)
    return rows, failures


def _earlier_types(last: CatalogFile | None, rows: CloudRows) -> dict[str, InstanceType]:
    """Types of the last generation that have prices here, and are not told."""
    if last is None:
        return {}
    missing = {price[1] for part in (rows.prices, rows.unpriced) for price in part} - rows.types.keys()
    return {each.name: each for each in last.types_of(rows.cloud) if each.name in missing} if missing else {}


def _lowest_of_others(last: CatalogFile | None, gathered: list[CloudRows]) -> list[dict[str, float]]:
    """Per device, of each cloud that was not asked."""
    asked = {rows.cloud for rows in gathered}
    made: dict[str, dict[str, float]] = {}
    for cloud, name, count, usd in last.lowest_of_types() if last is not None else ():
        if cloud not in asked:
            each = usd / devices(name, count)
            here = made.setdefault(cloud, {})
            here[name] = min(each, here.get(name, each))
    return list(made.values())


def _write(
    connection: sqlite3.Connection,
    last: CatalogFile | None,
    judged: list[CloudRows],
    failures: Mapping[str, str],
    golden: Golden,
    accept: frozenset[str],
) -> dict[str, Outcome]:
    outcomes = {cloud: Outcome(cloud, True, 0, 0, 0, reason) for cloud, reason in failures.items()}
    earlier: set[str] = set()
    if last is not None:
        connection.execute("commit")
        last.attach_to(connection, "last")
        connection.execute("begin")
        earlier = {cloud for (cloud,) in connection.execute("select distinct cloud from last.itype")}
    taken: list[CloudRows] = []
    for rows in judged:
        reason = None
        if not rows.prices and not rows.unpriced and not rows.unchanged:
            reason = "the source gave no rows that are believed"
        elif rows.cloud not in accept:
            change = _change(connection, rows) if rows.cloud in earlier else None
            reason = refused(rows.cloud, rows.prices, change, golden)
        if reason is None:
            taken.append(rows)
        outcomes[rows.cloud] = Outcome(rows.cloud, reason is not None, 0, 0, len(rows.quarantined), reason)
    if last is not None:
        _copy_clouds(connection, earlier - {rows.cloud for rows in taken})
    for rows in taken:
        write_cloud(connection, rows)
        if rows.cloud in earlier:
            _carry_over(connection, rows)
    # What was found wrong with rows that were not taken is kept beside the old ones, for whoever asks why.
    refusals = [rows for rows in judged if outcomes[rows.cloud].kept]
    for rows in refusals:
        connection.execute("delete from quarantine where cloud = ?", (rows.cloud,))
        connection.executemany("insert into quarantine values (?, ?, ?, ?)", rows.quarantined)
    connection.executemany(
        "insert into quarantine values (?, 'the whole cloud', 'refresh', ?)",
        [(cloud, each.reason) for cloud, each in sorted(outcomes.items()) if each.kept],
    )
    return outcomes


# --- what stays ------------------------------------------------------------------------------------------------------

#: In order: later ones name earlier ones. Numbers of types, places and sources stay; accelerators go by name, since
#: the table of known ones is that of this version.
_COPIES = (
    """insert into accelerator(name, vendor, memory_gib)
       select name, vendor, memory_gib from last.accelerator where name not in (select name from main.accelerator)""",
    """insert into itype
       select t.id, t.cloud, t.name, t.cpus, t.memory_gib, t.arch,
              (select n.id from main.accelerator n join last.accelerator o on o.name = n.name
               where o.id = t.accelerator),
              t.accelerator_count, t.accelerator_memory_gib, t.local_disk_gb, t.local_disk_kind, t.network_gbps,
              t.family, t.features, null, null, null
       from last.itype t where t.cloud in {clouds}""",
    "insert into place select * from last.place where cloud in {clouds}",
    "insert into source select * from last.source where cloud in {clouds}",
    """insert into provenance select v.* from last.provenance v
       where v.source in (select id from last.source where cloud in {clouds})""",
    """insert into offer select o.* from last.offer o
       where o.itype in (select id from last.itype where cloud in {clouds})""",
    """insert into offering select o.* from last.offering o
       where o.itype in (select id from last.itype where cloud in {clouds})""",
    "insert into egress select * from last.egress where cloud in {clouds}",
    "insert into quarantine select * from last.quarantine where cloud in {clouds} and rule <> 'refresh'",
)


def _copy_clouds(connection: sqlite3.Connection, clouds: set[str]) -> None:
    """Take clouds over from the last generation as they are."""
    connection.execute("create temp table kept_cloud(cloud text primary key)")
    connection.executemany("insert into kept_cloud values (?)", [(cloud,) for cloud in sorted(clouds)])
    for statement in _COPIES:
        connection.execute(statement.format(clouds="(select cloud from temp.kept_cloud)"))


def _carry_over(connection: sqlite3.Connection, rows: CloudRows) -> None:
    """What of the last generation still holds for a cloud that was asked anew.

    Rows of documents that have not changed; and, where the new rows know no zones, in which zones a type is sold.
    """
    cloud = rows.cloud
    for table in ("type_now", "place_now"):
        connection.execute(f"drop table if exists temp.{table}")
    connection.execute("create temp table type_now(old integer primary key, new integer not null)")
    connection.execute("create temp table place_now(old integer primary key, new integer not null)")
    if rows.unchanged:
        _carry_documents(connection, rows)
    _match(connection, cloud)
    zoned = any(price[3] is not None for part in (rows.prices, rows.unpriced) for price in part)
    if not zoned:
        _carry_zones(connection, rows)
    if not rows.egress:
        connection.execute("insert into egress select * from last.egress where cloud = ?", (cloud,))


def _match(connection: sqlite3.Connection, cloud: str) -> None:
    """The new numbers of the types and places that were there before."""
    connection.execute(
        "insert or replace into temp.type_now select o.id, n.id from last.itype o "
        "join main.itype n on n.cloud = o.cloud and n.name = o.name where o.cloud = ?",
        (cloud,),
    )
    connection.execute(
        "insert or replace into temp.place_now select o.id, n.id from last.place o "
        "join main.place n on n.cloud = o.cloud and n.region = o.region and n.zone is o.zone where o.cloud = ?",
        (cloud,),
    )


def _carry_zones(connection: sqlite3.Connection, rows: CloudRows) -> None:
    """In which zones types are sold, for rows that speak of regions only."""
    cloud = rows.cloud
    has_zones = "select exists(select 1 from last.place where cloud = ? and zone is not null)"
    if not connection.execute(has_zones, (cloud,)).fetchone()[0]:
        return
    connection.execute(
        """insert into place(cloud, region, zone, zone_id, country, continent)
           select cloud, region, zone, zone_id, country, continent from last.place o
           where cloud = ? and zone is not null
           and exists (select 1 from main.place n where n.cloud = o.cloud and n.region = o.region)
           and not exists (select 1 from main.place n
                           where n.cloud = o.cloud and n.region = o.region and n.zone = o.zone)""",
        (cloud,),
    )
    _match(connection, cloud)
    carry = """insert or ignore into offering select t.new, p.new, o.market from temp.type_now t
        cross join last.{table} o on o.itype = t.old cross join temp.place_now p on p.old = o.place
        cross join last.place z on z.id = o.place and z.zone is not null {told}"""
    connection.execute(carry.format(table="offering", told=""))
    # Prices of zones say where a type is sold too, as long as its region has a new price to spread over them.
    connection.execute("create temp table told_region(itype integer, region text, primary key(itype, region))")
    connection.executemany(
        "insert or ignore into temp.told_region select id, ? from main.itype where cloud = ? and name = ?",
        {(price[2], cloud, price[1]) for price in rows.prices},
    )
    told = "join temp.told_region f on f.itype = t.new and f.region = z.region"
    connection.execute(carry.format(table="offer", told=told))
    connection.execute("drop table temp.told_region")


def _carry_documents(connection: sqlite3.Connection, rows: CloudRows) -> None:
    """Rows of the last generation that come from documents which have not changed, unless they were told anew."""
    cloud = rows.cloud
    connection.execute("create temp table told as select itype, place, market from main.offer limit 0")
    connection.execute(
        "insert into temp.told select itype, place, market from main.offer "
        "where itype in (select id from main.itype where cloud = ?)",
        (cloud,),
    )
    connection.execute("create unique index temp.told_key on told(itype, place, market)")
    for document in rows.unchanged:
        _carry_document(connection, document)
    connection.execute("drop table temp.told")


def _scope_of(connection: sqlite3.Connection, document: Unchanged) -> tuple[str | None, str | None]:
    """The address that rows of a document name as their source, if any does, and its region.

    Where no row names the document, all rows of its region, or of the whole cloud, are taken to be of it.
    """
    named = connection.execute(
        "select 1 from last.source s join last.provenance v on v.source = s.id where s.cloud = ? and s.url = ? limit 1",
        (document.cloud, document.url),
    ).fetchone()
    return (document.url if named else None), document.region


def _carry_document(connection: sqlite3.Connection, document: Unchanged) -> None:
    cloud, url, region = document
    own, _ = _scope_of(connection, document)
    of_document = "and v.source = (select id from last.source where cloud = :cloud and url = :url)" if own else ""
    values = {"cloud": cloud, "region": region, "url": url}
    held = f"""from last.offer o join last.place p on p.id = o.place join last.provenance v on v.id = o.provenance
        where p.cloud = :cloud and (:region is null or p.region = :region) {of_document}"""
    connection.execute(
        f"""insert or ignore into itype
            select null, t.cloud, t.name, t.cpus, t.memory_gib, t.arch,
                   (select n.id from main.accelerator n join last.accelerator a on a.name = n.name
                    where a.id = t.accelerator),
                   t.accelerator_count, t.accelerator_memory_gib, t.local_disk_gb, t.local_disk_kind, t.network_gbps,
                   t.family, t.features, null, null, null
            from last.itype t where t.id in (select o.itype {held})""",
        values,
    )
    connection.execute(
        f"""insert into place(cloud, region, zone, zone_id, country, continent)
            select cloud, region, zone, zone_id, country, continent from last.place old
            where old.id in (select o.place {held}) and not exists (
              select 1 from main.place n where n.cloud = old.cloud and n.region = old.region and n.zone is old.zone)""",
        values,
    )
    connection.execute(
        f"""insert or ignore into source
            select null, cloud, url, fetched, rows, etag, last_modified, sha256, license from last.source s
            where s.cloud = :cloud and (s.url = :url or s.id in (select v.source {held}))""",
        values,
    )
    _match(connection, cloud)
    connection.execute("create temp table provenance_now(old integer primary key, new integer not null)")
    connection.execute(
        f"""insert into temp.provenance_now
            select v.id, (select ifnull(max(id), 0) from main.provenance) + row_number() over (order by v.id)
            from last.provenance v where v.id in (select o.provenance {held})""",
        values,
    )
    connection.execute(
        """insert into provenance select w.new, n.id, v.quality, v.observed from temp.provenance_now w
           join last.provenance v on v.id = w.old join last.source s on s.id = v.source
           join main.source n on n.cloud = s.cloud and n.url = s.url"""
    )
    connection.execute(
        f"""insert or ignore into offer
            select t.new, o.price, q.new, o.market, w.new, o.interruption {
            held.replace(
                "where",
                "join temp.type_now t on t.old = o.itype join temp.place_now q on q.old = o.place "
                "join temp.provenance_now w on w.old = o.provenance where",
                1,
            )
        }
            and not exists (select 1 from temp.told f
                            where f.itype = t.new and f.place = q.new and f.market = o.market)""",
        values,
    )
    connection.execute("drop table temp.provenance_now")


# --- figures ---------------------------------------------------------------------------------------------------------


#: So many types of a cloud are compared with the last generation: enough for shares of a fiftieth, quick at any size.
_SAMPLE = 80


def _change(connection: sqlite3.Connection, rows: CloudRows) -> Change | None:
    """The new rows of a cloud beside the last generation's, by region: zones come and go with the documents.

    Rows are counted over every so manieth type. `None` where all of the cloud's documents are the ones of before.
    """
    cloud = rows.cloud
    sold = [name for (name,) in connection.execute(
        "select name from last.itype where cloud = ? and least is not null order by name", (cloud,)
    )]  # fmt: skip
    sample = sold[:: max(1, len(sold) // _SAMPLE)]
    # Rows of documents that have not changed are not told again: they are missing on one side only.
    urls, regions = set[str | None](), set[str | None]()
    for document in rows.unchanged:
        url, region = _scope_of(connection, document)
        if url is None and region is None:
            return None
        (urls if url else regions).add(url or region)
    before = dict[tuple[str, str, int], float]()
    live = 0
    for name in sample:
        for region, market, usd, quality, url in connection.execute(_REGIONAL, (cloud, name)):
            if url not in urls and region not in regions:
                before[name, region, market] = usd
                live += quality == QUALITIES[Quality.LIVE]
    after = _regional(rows.prices, set(sample))
    moves = [max(usd / after[key], after[key] / usd) for key, usd in before.items() if key in after]
    gone = len(before.keys() - after.keys())
    told = {price[1] for price in rows.prices}
    partly = bool(rows.unchanged)
    return Change(
        len(before), len(before) - gone, 0 if partly else len(sold), 0 if partly else len(told),
        len(moves), sum(move > MOVE for move in moves), live=live * 2 > len(before),
    )  # fmt: skip


_REGIONAL = """
    select p.region, o.market, min(o.price), v.quality, s.url
    from last.itype t cross join last.offer o on o.itype = t.id cross join last.place p on p.id = o.place
    cross join last.provenance v on v.id = o.provenance cross join last.source s on s.id = v.source
    where t.cloud = ? and t.name = ? group by p.region, o.market"""


def _regional(prices: list[Price], types: set[str]) -> dict[tuple[str, str, int], float]:
    """The lowest price of each of these types in each region, by market."""
    lowest = dict[tuple[str, str, int], float]()
    for price in prices:
        if price[1] in types and price[5]:
            key = (price[1], price[2], MARKETS[price[4]])
            lowest[key] = min(price[5], lowest.get(key, price[5]))
    return lowest


def _count(connection: sqlite3.Connection, outcomes: dict[str, Outcome]) -> None:
    """Enter what each cloud has in the generation that was made."""
    for cloud, each in outcomes.items():
        rows, types = connection.execute(
            "select count(*), count(distinct o.itype) from itype t join offer o on o.itype = t.id where t.cloud = ?",
            (cloud,),
        ).fetchone()
        (quarantined,) = connection.execute(
            "select count(*) from quarantine where cloud = ? and rule <> 'refresh'", (cloud,)
        ).fetchone()
        outcomes[cloud] = Outcome(cloud, each.kept, rows, types, quarantined, each.reason)

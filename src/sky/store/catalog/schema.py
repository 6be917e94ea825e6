"""The tables of a catalog file; `build` and `merge` write them, `read` asks them.

Types × places × offers. An offer's key begins with its type and its price, so that a type's offers are read in the
order of price; the index by place serves questions about one region. `offering` says what is sold where without a
price: such rows are shown, never offered. A type carries the lowest of its prices per market, a bound for the search.
"""

from sky.core.model.catalog import Market, Quality

#: `PRAGMA user_version` of a file; a file of another version is passed over.
VERSION = 1
#: `PRAGMA application_id`: "skyc".
APPLICATION_ID = 0x736B7963

#: Numbers that stand for the enumerations in a file; never given a new meaning.
MARKETS = {Market.ON_DEMAND: 0, Market.SPOT: 1, Market.RESERVED: 2}
QUALITIES = {Quality.LIST: 0, Quality.LIVE: 1, Quality.DERIVED: 2, Quality.ESTIMATE: 3, Quality.OWN: 4}

TABLES = """
create table accelerator(id integer primary key, name text not null unique, vendor text, memory_gib real);
create table spelling(spelling text primary key, accelerator integer not null) without rowid;
create table itype(
  id integer primary key, cloud text not null, name text not null, cpus real not null, memory_gib real not null,
  arch text not null, accelerator integer, accelerator_count real not null, accelerator_memory_gib real,
  local_disk_gb real not null, local_disk_kind text, network_gbps real, family text not null, features text not null,
  least_on_demand real, least_spot real, least real, unique(cloud, name));
create table place(
  id integer primary key, cloud text not null, region text not null, zone text, zone_id text, country text,
  continent text);
create table source(
  id integer primary key, cloud text not null, url text not null, fetched real not null, rows integer not null,
  etag text, last_modified text, sha256 text, license text, unique(cloud, url));
create table provenance(
  id integer primary key, source integer not null, quality integer not null, observed real not null);
create table offer(
  itype integer not null, price real not null, place integer not null, market integer not null,
  provenance integer not null, interruption real,
  primary key(itype, price, place, market)) without rowid;
create table offering(
  itype integer not null, place integer not null, market integer not null,
  primary key(itype, place, market)) without rowid;
create table egress(
  cloud text not null, region text not null, destination text not null, usd_per_gb real not null,
  quality integer not null, source text not null);
create table quarantine(cloud text not null, what text not null, rule text not null, detail text not null);
"""

#: Made once the rows are in. `least` of a type is set before, from its offers.
INDEXES = """
create unique index place_name on place(cloud, region, ifnull(zone, ''));
create index place_region on place(region, cloud);
create index itype_accelerator on itype(accelerator, accelerator_count, least);
create index itype_least on itype(least, cpus, memory_gib, cloud, accelerator);
create index itype_least_spot on itype(least_spot, cpus, memory_gib, cloud, accelerator);
create index itype_least_on_demand on itype(least_on_demand, cpus, memory_gib, cloud, accelerator);
create index itype_name on itype(name);
create index offer_place on offer(place, price, market);
"""

#: A type's lowest price per market and over both; the bound from which a search begins.
LEAST = """
with seen as (
  select itype, min(case market when 0 then price end) as od, min(case market when 1 then price end) as spot,
         min(price) as least
  from offer group by itype)
update itype set least_on_demand = seen.od, least_spot = seen.spot, least = seen.least
from seen where seen.itype = itype.id;
"""

#: A price that holds in a whole region is spread over the zones of which it is known that they sell the type.
SPREAD = """
create temp table spread as
  select z.itype, o.price, z.place, o.market, o.provenance, o.interruption, r.id as region_place
  from offering z
  join place zp on zp.id = z.place and zp.zone is not null
  join place r on r.cloud = zp.cloud and r.region = zp.region and r.zone is null
  join offer o on o.itype = z.itype and o.place = r.id and o.market = z.market;
delete from offer where (itype, price, place, market) in (select itype, price, region_place, market from temp.spread);
insert into offer
  select itype, price, place, market, provenance, interruption from temp.spread s
  where not exists (
    select 1 from offer o where o.itype = s.itype and o.place = s.place and o.market = s.market);
drop table temp.spread;
"""

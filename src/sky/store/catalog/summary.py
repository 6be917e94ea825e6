"""What a catalog file holds of each cloud, counted for `sky catalog status`. Called by `read.CatalogFile`."""

import sqlite3

from sky.core.model.catalog import CloudSummary
from sky.store.catalog.schema import QUALITIES

_CLOUDS = """
select t.cloud, count(*), (select count(distinct region) from place p where p.cloud = t.cloud),
  (select max(fetched) from source s where s.cloud = t.cloud),
  (select count(*) from quarantine q where q.cloud = t.cloud)
from itype t group by t.cloud order by t.cloud
"""
_PRICED = """
select t.cloud, v.quality, count(*), min(v.observed), max(v.observed)
from offer o join itype t on t.id = o.itype join provenance v on v.id = o.provenance group by 1, 2
"""
_UNPRICED = "select t.cloud, count(*) from offering g join itype t on t.id = g.itype group by 1"


def summarize(connection: sqlite3.Connection) -> list[CloudSummary]:
    """One summary per cloud, by name. Reads every offer: tenths of a second for hundreds of thousands."""
    qualities = {number: quality for quality, number in QUALITIES.items()}
    priced: dict[str, list[tuple[int, int, float, float]]] = {}
    for cloud, quality, count, oldest, newest in connection.execute(_PRICED):
        priced.setdefault(cloud, []).append((quality, count, oldest, newest))
    unpriced = dict(connection.execute(_UNPRICED).fetchall())
    found = []
    for cloud, types, regions, fetched, quarantined in connection.execute(_CLOUDS):
        rows = priced.get(cloud, [])
        sold = sum(count for _, count, _, _ in rows)
        found.append(
            CloudSummary(
                cloud,
                types,
                regions,
                sold + unpriced.get(cloud, 0),
                sold,
                (min(row[2] for row in rows), max(row[3] for row in rows)) if rows else None,
                fetched,
                tuple((qualities[quality], count) for quality, count, _, _ in rows),
                quarantined,
            )
        )
    return found

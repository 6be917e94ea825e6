"""The catalog of prices: what it holds, and how to have it made new."""

from __future__ import annotations

from collections.abc import Sequence

from sky.sdk.ids import RequestId
from sky.sdk.records import Record
from sky.sdk.requests import read, submit


def status(quarantined: bool = False) -> RequestId[Record]:
    """What the catalog holds of each cloud. Value: a record with `generation`, `clouds` and `quarantined`."""
    return read("catalog_status", {"quarantined": quarantined})


def refresh(clouds: Sequence[str] | None = None, if_older_s: float | None = None) -> RequestId[list[Record]]:
    """Ask clouds (None: all that can be asked) for their prices, unless the known ones are younger than `if_older_s`.

    Value: one record per cloud with `cloud`, `state`, `detail`, `offers` and `quarantined`.
    """
    return submit("catalog_refresh", {"clouds": None if clouds is None else list(clouds), "if_older_s": if_older_s})

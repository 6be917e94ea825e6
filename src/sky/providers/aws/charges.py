"""When machines began and ended to cost money, as EC2 remembers it: the last time of each, for an hour."""

import re
from datetime import UTC, datetime

from sky.core.model.catalog import Market
from sky.core.model.ledger import Span
from sky.providers.aws import marks
from sky.providers.aws.clients import Answer

#: As in `User initiated (2026-01-31 23:59:59 GMT)`.
_WHEN = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
_OVER = ("stopped", "shutting-down", "terminated")


def since_of(raw: Answer) -> float | None:
    """When the state of a machine began, in seconds since the epoch; None where EC2 does not say."""
    if _state(raw) in ("pending", "running"):
        return _launched(raw)
    found = _WHEN.search(str(raw.get("StateTransitionReason") or ""))
    try:
        return datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp() if found else None
    except ValueError:
        return None


def span_of(region: str, raw: Answer) -> Span | None:
    """The last time for which a machine was charged; None where EC2 does not tell when it ended."""
    began, over = _launched(raw), _state(raw) in _OVER
    ended = since_of(raw) if over else None
    mark = marks.read(raw.get("Tags")).get(marks.CLUSTER, "")
    if began is None or not mark or (over and ended is None):
        return None
    market = Market.SPOT if raw.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND
    # EC2 tells whole seconds: a machine that was ended at once must not have ended before it began.
    until = None if ended is None else max(began, ended)
    kind = str(raw.get("InstanceType", ""))
    return Span(
        mark,
        str(raw.get("InstanceId", "")),
        region,
        str((raw.get("Placement") or {}).get("AvailabilityZone") or "") or None,
        kind,
        market,
        began,
        until,
    )


def _launched(raw: Answer) -> float | None:
    told = raw.get("LaunchTime")
    return told.timestamp() if isinstance(told, datetime) else None


def _state(raw: Answer) -> str:
    return str((raw.get("State") or {}).get("Name", ""))

"""Messages about the ledger: which lines are wanted, and a line as it is told."""

from sky.core.model.ledger import Line, Question
from sky.wire.codec import Body, Record

#: Characters of a name that is asked for.
_LONGEST = 256
_DAY_S = 86400.0
_MOST_DAYS = 100_000


class LedgerBody(Body):
    """Arguments of `/ledger`; `all` brings what has ended, too, `days` only what had not ended so long ago."""

    all: bool = False
    cluster: str | None = None
    user: str | None = None
    cloud: str | None = None
    days: int | None = None

    def __post_init__(self) -> None:
        for name in ("cluster", "user", "cloud"):
            if len(getattr(self, name) or "") > _LONGEST:
                raise ValueError(f"{name}: longer than {_LONGEST} characters")
        if self.days is not None and not 0 <= self.days <= _MOST_DAYS:
            raise ValueError(f"days: found {str(self.days)[:20]}; allowed: 0 to {_MOST_DAYS}")


class LedgerRecord(Record):
    """A billed thing. Times in seconds since the epoch, `ended` None while it costs money; USD, `cost` until now."""

    number: int
    kind: str
    resource: str
    cluster: str
    cluster_hash: str
    user: str
    workspace: str
    cloud: str
    region: str
    zone: str | None
    instance_type: str
    market: str
    price_hourly: float
    began: float
    ended: float | None
    cost: float
    reason: str
    note: str
    labels: str = ""
    origin: str = ""


def question(body: LedgerBody, now: float) -> Question:
    """What the store is asked for."""
    since = now - body.days * _DAY_S if body.days else None
    return Question(body.all, body.cluster, body.user, body.cloud, since)


def ledger_record(line: Line, now: float) -> LedgerRecord:
    """A line as it is told."""
    entry = line.entry
    return LedgerRecord(
        number=line.number,
        kind=entry.kind.value,
        resource=entry.resource,
        cluster=entry.cluster_name,
        cluster_hash=entry.cluster_id,
        user=entry.owner,
        workspace=entry.workspace,
        cloud=entry.cloud,
        region=entry.region,
        zone=entry.zone,
        instance_type=entry.instance_type,
        market=entry.market.value,
        price_hourly=entry.price_hourly,
        began=entry.began,
        ended=entry.ended,
        cost=entry.cost(now),
        reason=entry.reason,
        note=entry.note,
        labels=entry.labels,
        origin=entry.origin,
    )

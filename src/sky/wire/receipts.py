"""Messages about receipts. Used by the server's routes."""

from sky.core.model.ledger import Line
from sky.core.policy.receipts import Receipt
from sky.wire.codec import Body, Record
from sky.wire.ledger import LedgerRecord, ledger_record
from sky.wire.managed_jobs import MOST_NUMBER


class ReceiptBody(Body):
    """Arguments of `/receipt`: of a managed job by its number, or of a cluster by its name, living or gone."""

    job_id: int | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        """One of the two."""
        if (self.job_id is None) == (self.cluster is None):
            raise ValueError("job_id, cluster: one of them")
        if self.job_id is not None and not 0 <= self.job_id <= MOST_NUMBER:
            raise ValueError(f"job_id: found {str(self.job_id)[:40]}, which is no number of a managed job")


class IntervalRecord(Record):
    """Machines at one place and price. `ended` None: they run; `ran` seconds of it with a job, None for unknown."""

    cluster: str
    place: str
    instance_type: str
    spot: bool
    nodes: int
    price_hourly: float
    began: float
    ended: float | None
    cost: float
    ran: float | None
    notes: list[str]


class RecoveryRecord(Record):
    """A loss: when, seconds until it ran again, and what machines cost meanwhile."""

    at: float
    seconds: float | None
    cost: float


class AlternativeRecord(Record):
    """The plan's second-best offer: USD per hour for all nodes, and for the same hours."""

    place: str
    instance_type: str
    spot: bool
    price_hourly: float
    cost: float


class ReceiptRecord(Record):
    """What a managed job or a cluster has cost. USD, seconds; None for what is not known.

    `open`: machines run, and all figures are until now. `lines` are those of the ledger that it adds up.
    """

    job_id: int | None
    name: str
    user: str
    workspace: str
    status: str
    intervals: list[IntervalRecord]
    recoveries: list[RecoveryRecord]
    total: float
    machines: float
    other: float
    held: float
    ran: float | None
    idle_share: float | None
    idle_cost: float | None
    transfer: float | None
    second_best: AlternativeRecord | None
    open: bool
    lines: list[LedgerRecord]


class About(Record):
    """Whose receipt it is."""

    job_id: int | None
    name: str
    user: str
    workspace: str
    status: str


def receipt_record(about: About, made: Receipt, lines: list[Line], now: float) -> ReceiptRecord:
    """A receipt as it is told."""
    second = made.second_best
    return ReceiptRecord(
        job_id=about.job_id,
        name=about.name,
        user=about.user,
        workspace=about.workspace,
        status=about.status,
        intervals=[
            IntervalRecord(
                cluster=each.cluster,
                place=each.place,
                instance_type=each.instance_type,
                spot=each.spot,
                nodes=each.nodes,
                price_hourly=each.price_hourly,
                began=each.began,
                ended=each.ended,
                cost=each.cost,
                ran=each.ran,
                notes=list(each.notes),
            )
            for each in made.intervals
        ],
        recoveries=[RecoveryRecord(at=each.at, seconds=each.seconds, cost=each.cost) for each in made.recoveries],
        total=made.total,
        machines=made.machines,
        other=made.other,
        held=made.held,
        ran=made.ran,
        idle_share=made.idle_share,
        idle_cost=made.idle_cost,
        transfer=made.transfer,
        second_best=None
        if second is None
        else AlternativeRecord(
            place=second.place,
            instance_type=second.instance_type,
            spot=second.spot,
            price_hourly=second.price_hourly,
            cost=second.cost,
        ),
        open=made.open,
        lines=[ledger_record(line, now) for line in lines],
    )

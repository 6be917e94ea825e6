"""What is billed: one line for each thing that costs money, for as long as it did, at the price of the time.

`core.lifecycle.billing` makes the lines, the store writes them with the commit that they follow from, `sky ledger` and
`sky cost-report` read them.
"""

import enum
from typing import NamedTuple

from sky.core.model.catalog import Market


class Billed(enum.StrEnum):
    """What a line is about."""

    MACHINE = "machine"
    DISK = "disk"
    ADDRESS = "address"
    IMAGE = "image"
    BALANCER = "balancer"


class Entry(NamedTuple):
    """One line. Times in seconds since the epoch, `price_hourly` in USD; `ended` is None while it goes on.

    `resource` is the provider's own name of the thing, `mark` the one that things of its cluster carry there. `note`
    says what is not as it should be: a price that nobody knows, a machine that may or may not run. `labels` are those
    of the task as JSON, empty for none; `origin` is what the cluster was made for, `managed:<id>` of a managed job,
    else the cluster's own id.
    """

    kind: Billed
    resource: str
    mark: str
    cluster_id: str
    cluster_name: str
    owner: str
    workspace: str
    cloud: str
    region: str
    zone: str | None
    instance_type: str
    market: Market
    price_hourly: float
    began: float
    ended: float | None = None
    reason: str = ""
    note: str = ""
    labels: str = ""
    origin: str = ""

    def cost(self, now: float, since: float = 0.0) -> float:
        """USD from `since` (or its beginning) until it ended, or `now`."""
        until = now if self.ended is None else self.ended
        return max(0.0, until - max(self.began, since)) / 3600 * self.price_hourly


class Ending(NamedTuple):
    """The open line of this thing ends."""

    kind: Billed
    resource: str
    cluster_id: str
    ended: float
    reason: str


class Booking(NamedTuple):
    """What one commit does to the ledger."""

    ended: tuple[Ending, ...] = ()
    begun: tuple[Entry, ...] = ()


class Bill(NamedTuple):
    """What a cluster has cost: the times in which machines of it ran (end None: still), and USD for all of it."""

    times: tuple[tuple[float, float | None], ...]
    cost: float


class Line(NamedTuple):
    """An entry as it is on record, with its number."""

    number: int
    entry: Entry


class Span(NamedTuple):
    """A time for which a provider charged for a machine, as it remembers itself; `ended` None: it still does."""

    mark: str
    machine: str
    region: str
    zone: str | None
    instance_type: str
    market: Market
    began: float
    ended: float | None


class Settlement(NamedTuple):
    """What the ledger lacks of what a provider remembers: times of lines that differ, and lines that are missing."""

    corrected: tuple[tuple[int, float, float], ...] = ()
    missing: tuple[Entry, ...] = ()


class Question(NamedTuple):
    """Which lines are wanted: of these names or ids, None for whatever; `since`: those that had not ended then."""

    ended: bool = False
    cluster: str | None = None
    owner: str | None = None
    cloud: str | None = None
    since: float | None = None

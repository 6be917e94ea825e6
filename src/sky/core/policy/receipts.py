"""What something cost, line by line, from the ledger and its own record: plain functions, called by `engine.receipts`.

A receipt adds up what the ledger has, to the last digit; nothing is estimated but what the second-best offer would have
cost, which is said so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from sky.core.model.ledger import Billed, Entry
from sky.core.model.offers import Placement


class Run(NamedTuple):
    """A time for which a job ran on a cluster; `ended` None: it still does. `task` is its place in a managed job."""

    cluster_id: str
    began: float
    ended: float | None
    task: int | None = None


class Interval(NamedTuple):
    """Machines of one attempt at one place and price. `idle` are seconds in which its job did not run."""

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
    notes: tuple[str, ...]

    def held(self, now: float) -> float:
        """Seconds."""
        return max(0.0, (now if self.ended is None else self.ended) - self.began)


class Recovery(NamedTuple):
    """Beginning anew after a loss: seconds without a running job, and what machines cost until it ran again."""

    at: float
    seconds: float | None
    cost: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """The second-best offer of the plan: its price for all nodes, and what it would have cost for the same hours."""

    place: str
    instance_type: str
    spot: bool
    price_hourly: float
    cost: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """What something cost, in USD and seconds. None is what is not known.

    `held` is the time for which it had machines, `ran` that in which its job ran; `idle_share` is the part of the cost
    of machines that went on while no job ran. `transfer` is None where bytes out of a place cost money that nobody
    counted.
    """

    intervals: tuple[Interval, ...]
    recoveries: tuple[Recovery, ...]
    total: float
    machines: float
    other: float
    held: float
    ran: float | None
    idle_share: float | None
    idle_cost: float | None
    transfer: float | None
    second_best: Alternative | None
    open: bool


#: Offers of a plan that are kept with its cluster.
_KEPT = 3
#: Places that take nothing for what leaves them.
_FREE = frozenset(["local", "ssh", "slurm"])


def receipt(entries: Sequence[Entry], runs: Sequence[Run] | None, second: Placement | None, now: float) -> Receipt:
    """The receipt of what these lines are of; `runs` None where it is not on record when its job ran."""
    intervals = _intervals(entries, runs, now)
    machines = sum(each.cost for each in intervals)
    total = sum(entry.cost(now) for entry in entries)
    held = sum(each.held(now) for each in intervals)
    ran = idle = None
    if runs is not None:
        ran = sum(each.ran or 0.0 for each in intervals)
        # The share of each interval's own cost: prices differ between them.
        idle = sum(each.cost * (1 - min(1.0, (each.ran or 0.0) / span)) for each in intervals
                   if (span := each.held(now)) > 0)  # fmt: skip
    return Receipt(
        intervals=intervals,
        recoveries=_recoveries(entries, runs or (), now),
        total=total,
        machines=machines,
        other=total - machines,
        held=held,
        ran=ran,
        idle_share=None if idle is None else idle / machines if machines else _share(ran or 0.0, held),
        idle_cost=idle,
        transfer=0.0 if all(entry.cloud in _FREE for entry in entries) else None,
        second_best=None if second is None else _alternative(second, held),
        open=any(entry.ended is None for entry in entries),
    )


def _share(ran: float, held: float) -> float:
    return 1 - min(1.0, ran / held) if held else 0.0


def _intervals(entries: Sequence[Entry], runs: Sequence[Run] | None, now: float) -> tuple[Interval, ...]:
    """Machines that a cluster had at the same time, place and price are one interval; times differ by moments."""
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for entry in sorted(entries, key=lambda each: (each.began, each.resource)):
        if entry.kind is not Billed.MACHINE or entry.ended == entry.began:
            continue
        key = (entry.cluster_id, entry.cloud, entry.region, entry.zone, entry.instance_type, entry.market,
               entry.price_hourly)  # fmt: skip
        groups.setdefault(key, []).append(entry)
    return tuple(
        interval
        for group in groups.values()
        for together in _overlapping(group)
        for interval in [_interval(together, runs, now)]
    )


def _overlapping(group: Sequence[Entry]) -> Iterable[list[Entry]]:
    """Machines that ran at the same time, each such time by itself."""
    held: list[Entry] = []
    for entry in group:
        if held and all(each.ended is not None and each.ended < entry.began for each in held):
            yield held
            held = []
        held.append(entry)
    if held:
        yield held


def _interval(group: Sequence[Entry], runs: Sequence[Run] | None, now: float) -> Interval:
    first = group[0]
    began = first.began
    ended = None if any(each.ended is None for each in group) else max(each.ended or 0.0 for each in group)
    until = now if ended is None else ended
    ran = None if runs is None else _covered(first.cluster_id, runs, began, until)
    parts = (first.cloud, first.region if first.region != first.cloud else "", first.zone or "")
    return Interval(
        cluster=first.cluster_name,
        place="/".join(part for part in parts if part),
        instance_type=first.instance_type,
        spot=first.market.value == "spot",
        nodes=len({each.resource for each in group}),
        price_hourly=first.price_hourly,
        began=began,
        ended=ended,
        cost=sum(each.cost(now) for each in group),
        ran=ran,
        notes=tuple(sorted({each.note for each in group if each.note})),
    )


def _covered(cluster_id: str, runs: Sequence[Run], begin: float, end: float) -> float:
    """Seconds in which any job ran; several at once count once."""
    mine = sorted((each.began, end if each.ended is None else each.ended) for each in runs
                  if each.cluster_id == cluster_id)  # fmt: skip
    covered, at = 0.0, begin
    for began, ended in mine:
        covered += max(0.0, min(ended, end) - max(began, at))
        at = max(at, min(ended, end))
    return covered


def _recoveries(entries: Sequence[Entry], runs: Sequence[Run], now: float) -> tuple[Recovery, ...]:
    """From the end of a run to the beginning of the next one of the same task."""
    told = []
    ordered = sorted((each for each in runs if each.task is not None), key=lambda each: (each.task, each.began))
    for before, after in pairwise(ordered):
        if before.ended is None or before.task != after.task:
            continue
        lost, again = before.ended, after.began
        cost = sum(_between(entry, lost, again, now) for entry in entries)
        told.append(Recovery(lost, max(0.0, again - lost), cost))
    return tuple(told)


def _between(entry: Entry, begin: float, end: float, now: float) -> float:
    until = min(now if entry.ended is None else entry.ended, end)
    return max(0.0, until - max(entry.began, begin)) / 3600 * entry.price_hourly


def _alternative(second: Placement, held: float) -> Alternative:
    offer = second.offer
    return Alternative(
        str(offer.place), offer.instance_type, offer.use_spot, second.price_hourly,
        held / 3600 * second.price_hourly,
    )  # fmt: skip


def remembered(placements: Sequence[Placement]) -> tuple[Placement, ...]:
    """What is kept of a plan, to be compared with later: its best offers of different place, type and market."""
    kept: dict[object, Placement] = {}
    for each in placements:
        offer = each.offer
        kept.setdefault((offer.cloud, offer.region, offer.instance_type, offer.market), each)
        if len(kept) == _KEPT:
            break
    return tuple(kept.values())


def second_best(planned: Sequence[Placement], used: Iterable[Entry]) -> Placement | None:
    """The best offer of a plan that was not used, by place, type and market."""
    had = {(each.cloud, each.region, each.instance_type, each.market) for each in used}
    for placement in planned:
        offer = placement.offer
        if (offer.cloud, offer.region, offer.instance_type, offer.market) not in had:
            return placement
    return None

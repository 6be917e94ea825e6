"""Asks the policies of managed jobs with a deadline: gathers prices and what is known of spot for the core.

Called by `managed_jobs` for the orders `Launch` and `Weigh` of such jobs. What is decided is in `core.policy.pacing`.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from sky.core.errors import ResourcesUnavailableError
from sky.core.lifecycle import managed_events as events
from sky.core.lifecycle.managed_pace import terms_of
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.managed_jobs import ManagedJob
from sky.core.model.offers import Placement
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.goals import Goal
from sky.core.policy import pacing
from sky.core.policy.deadlines import Offer
from sky.core.policy.rights import infra_for
from sky.engine.desk import Desk
from sky.engine.plans import Said
from sky.kit.frozen import replace
from sky.kit.ids import new_id

#: Zones that are weighed, the cheapest of each market.
_MOST_ZONES = 64
#: Why a job does not move although its policy would have it move.
_HELD = "waiting for what it had beside its cluster to be ended"


@dataclass(frozen=True, slots=True)
class Choice:
    """Where to launch, in the order in which it is tried, with what the job carries along from there."""

    placements: tuple[Placement, ...]
    text: str
    pace: dict[str, object]
    look_at: float


#: Job, task, id of the cluster, where: the cluster as recorded.
Order = Callable[[ManagedJob, TaskSpec, str, tuple[Placement, ...]], Awaitable[Cluster]]


class Pacer:
    """See the module."""

    def __init__(self, desk: Desk, order: Order) -> None:
        """`order` puts a cluster of a job on record."""
        self._desk = desk
        self._order = order

    async def choose(self, job: ManagedJob, task: TaskSpec) -> Choice | events.Postponed:
        """Where an attempt begins now; or how long it waits. Raises ResourcesUnavailableError where nobody has any."""
        offered = await self._offered(job, task)
        now, terms, verdict, pace = self._decided(job, offered, works=False)
        text = pacing.told(verdict, terms, await self._spent(job, now), now)
        kept = pacing.dump(pace)
        if verdict.offer is None:
            return events.Postponed(verdict.review - now, text, kept)
        wanted = [each for each in offered if each.offer.use_spot == verdict.offer.spot]
        first = [each for each in wanted if zone_of(each) == verdict.offer.zone]
        # On demand every place will do; another zone's spot is for the policy to choose.
        others = [] if verdict.offer.spot else [each for each in wanted if zone_of(each) != verdict.offer.zone]
        return Choice((*first, *others), text, kept, verdict.review)

    def found(self, job: ManagedJob, cluster: Cluster) -> dict[str, object]:
        """What a job carries along whose cluster was recorded, and whose decision was not."""
        pace, placement = pacing.load(job.pace, job.at), cluster.placement or cluster.candidates[0]
        first = rates([placement])[0]
        return pacing.dump(replace(
            pace, asked=first.zone, spot=first.spot, region=first.region, price=first.price,
            asked_at=cluster.created_at,
        ))  # fmt: skip

    async def weigh(self, job: ManagedJob, task: TaskSpec) -> events.Weighed:
        """Whether a job stays on what it has, or on what is on its way to it."""
        try:
            offered = await self._offered(job, task)
        except ResourcesUnavailableError:
            offered = ()
        works, ready = job.task.running_since is not None, False
        if pacing.load(job.pace, job.at).probe:
            job, ready = await self._probed(job)
        now, terms, verdict, pace = self._decided(job, offered, works=works)
        text = pacing.told(verdict, terms, await self._spent(job, now), now)
        moves, look_at = verdict.moves, verdict.review
        if works and verdict.moves and verdict.offer is not None and verdict.offer.spot:
            moves, look_at = ready, now + terms.grain
            if ready:
                pace = pacing.adopting(pace, job.attempt + 1)
            elif not pace.probe and await self._has_another(job):
                # What is still to be ended may cost money, and more beside it more.
                pace = replace(pace, reason=_HELD)
                text = f"{_HELD}, then {text}"
            elif not pace.probe:
                pace = await self._ask(job, task, offered, verdict.offer, pace)
                text = f"asking for {text}"
            elif pacing.overdue(pace, terms, now):
                pace = pacing.unprobed(pace, terms, now, refused=True)
        elif pace.probe:
            # Nobody wants it any more; that it is nobody's is seen soon, and it goes.
            pace = pacing.unprobed(pace, terms, now, refused=False)
        notice = terms.notice if works else 0.0
        return events.Weighed(pacing.dump(pace), look_at, text, text if moves else "", notice)

    async def _probed(self, job: ManagedJob) -> tuple[ManagedJob, bool]:
        """The job with what became of the cluster that was asked for, and whether that is there."""
        terms, pace = terms_of(job), pacing.load(job.pace, job.at)
        assert terms is not None
        there = await self._desk.store.clusters.get(pace.probe)
        if there is not None and there.phase not in (Phase.TERMINATING, Phase.TERMINATED):
            return job, there.phase is Phase.UP
        gone = pacing.unprobed(pace, terms, self._desk.clock.now(), refused=True)
        return replace(job, pace=pacing.dump(gone)), False

    async def _has_another(self, job: ManagedJob) -> bool:
        """Whether there is, or may be, more than the one cluster of a job that it works on."""
        return len(await self._desk.store.clusters.owned_by(job.owner)) > 1

    async def _ask(
        self, job: ManagedJob, task: TaskSpec, offered: Iterable[Placement], offer: Offer, pace: pacing.Pace
    ) -> pacing.Pace:
        """Ask for spot while the job runs on: nothing that works is left for what may refuse."""
        now = self._desk.clock.now()
        wanted = tuple(each for each in offered if each.offer.use_spot and zone_of(each) == offer.zone)
        cluster = await self._order(job, task, new_id(now), wanted)
        return pacing.probing(pace, offer, cluster.id, now)

    def _decided(
        self, job: ManagedJob, offered: Iterable[Placement], *, works: bool
    ) -> tuple[float, pacing.Terms, pacing.Verdict, pacing.Pace]:
        terms = terms_of(job)
        assert terms is not None
        now, pace = self._desk.clock.now(), pacing.load(job.pace, job.at)
        facts = pacing.Facts(job.task.running_since)
        if works and not pace.done > pace.base:
            # Nothing was seen of it yet but that it runs.
            pace = pacing.noted(pace, terms, facts, now)
        asked = rates(offered)
        seen = pacing.observation(terms, pace, asked, now, self._refused(offered), works=works)
        verdict, after = pacing.decide(terms, pace, seen, sold=any(rate.spot for rate in asked))
        return now, terms, verdict, after

    def _refused(self, offered: Iterable[Placement]) -> Callable[[str], float | None]:
        """When each zone last refused spot to anybody."""
        first = {zone_of(each): each.offer for each in reversed(tuple(offered)) if each.offer.use_spot}

        def at(zone: str) -> float | None:
            offer = first.get(zone)
            return None if offer is None else self._desk.planner.refused_at(offer)

        return at

    async def _offered(self, job: ManagedJob, task: TaskSpec) -> tuple[Placement, ...]:
        """What can be had in both markets. Raises ResourcesUnavailableError where that is nothing."""
        desk = self._desk
        within = infra_for(job.reach, await desk.workspaces.get(job.workspace))
        found: list[Placement] = []
        failure: ResourcesUnavailableError | None = None
        for spot in (True, False):
            wanted = replace(task, resources=tuple(each.copy(use_spot=spot) for each in task.resources))
            try:
                found += (await desk.planner.place(wanted, Goal.COST, Said.of(job.layers), within)).placements
            except ResourcesUnavailableError as error:
                failure = error
        if not found and failure is not None:
            raise failure
        return tuple(found)

    async def _spent(self, job: ManagedJob, now: float) -> float:
        return (await self._desk.store.budgets.spent_by([job.owner], now)).get(job.owner, 0.0)


def zone_of(placement: Placement) -> str:
    """The zone by which a policy knows a placement."""
    return placement.offer.place


def rates(offered: Iterable[Placement]) -> list[pacing.Rate]:
    """What each zone asks in each market: its cheapest placement."""
    found: dict[tuple[str, bool], pacing.Rate] = {}
    count = {True: 0, False: 0}
    for each in offered:
        offer = each.offer
        key = (zone_of(each), offer.use_spot)
        if key in found or count[offer.use_spot] >= _MOST_ZONES:
            continue
        count[offer.use_spot] += 1
        region = "/".join(zone_of(each).split("/")[:2])
        found[key] = pacing.Rate(key[0], region, offer.use_spot, each.price_hourly)
    return list(found.values())

"""Messages about plans: where tasks would run, why there, and why not elsewhere. Used by the server's routes."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from sky.core.model.dags import DagSpec
from sky.core.model.offers import Offer, Placement, Plan, Rejection, Standing
from sky.wire.clusters import accelerators_text, check_target
from sky.wire.codec import Body, Record, field


class DagBody(Body):
    """Arguments of `/optimize`, `/optimize_types` and `/validate`: a DAG as `core.model.dags` writes it, and questions.

    `edges` are pairs of positions in `tasks`. `explain`: say for every place why it was not taken. `why_not`: the same
    for patterns of infra, instance types or accelerators. `what_if`: `spot`, `on-demand`, `region=…`, `infra=…`,
    `cpus=…` and so on, each compared with the plan. `when`: chances from what places answered before. `all_infra`: plan
    over places that cannot be used yet, too. `estimates`: for each task, seconds by `cloud/instance_type`. `config` is
    the client's layered configuration. `blocked_resources`: for each task, resources that are not to be planned for.
    `workspace`: whose infra to plan with; by default as for a launch.
    """

    tasks: list[dict[str, Any]]
    name: str | None = None
    edges: list[list[int]] | None = None
    execution: str | None = None
    primary_tasks: list[str] | None = None
    termination_delay: dict[str, float] | None = None
    inter_connection: bool | None = None
    minimize: str = "COST"
    workdir_only: bool = False
    explain: bool = False
    why_not: list[str] | None = None
    what_if: list[str] | None = None
    when: bool = False
    all_infra: bool = False
    estimates: list[dict[str, float]] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    blocked_resources: list[list[dict[str, Any]]] | None = None
    workspace: str | None = None

    def __post_init__(self) -> None:
        """Refuse what the optimizer cannot make small, and what is nothing at all."""
        check_target(self.minimize)
        if not self.tasks:
            raise ValueError("tasks: found none; a plan is for one task at least")

    def dag(self) -> DagSpec:
        """The tasks with what binds them. Raises InvalidSkyPilotConfigError."""
        header = ("name", "execution", "primary_tasks", "termination_delay", "inter_connection")
        told: dict[str, Any] = {key: getattr(self, key) for key in header if getattr(self, key) is not None}
        return DagSpec.from_config({**told, "tasks": self.tasks, "edges": self.edges or []})


class CandidateType(Record):
    """An instance type that a task could take; the estimator of its time is asked about it."""

    cloud: str
    instance_type: str
    accelerators: dict[str, float] | None
    use_spot: bool


class StandingRecord(Record):
    """Why a placement stands where it does; money in USD over the whole run, `hours` with transfers."""

    objective: float
    price: float
    data: float
    expected_loss: float
    hours: float
    why: str


class PlacementRecord(Record):
    """A place where a task can run; `price_hourly` in USD for all nodes, memory in GiB per node.

    `quality` and `observed` (seconds since the epoch) say how well the price is known; `enabled` whether the place can
    be used now.
    """

    infra: str
    cloud: str
    region: str
    zone: str | None
    instance_type: str
    num_nodes: int
    cpus: float
    memory_gb: float
    accelerators: str | None
    use_spot: bool
    price_hourly: float
    chosen: bool
    reserved_nodes: int
    enabled: bool
    quality: str | None
    observed: float | None
    standing: StandingRecord | None


class RejectionRecord(Record):
    """An offer that was not chosen, and why: words, and a code with the two figures that do not meet."""

    infra: str
    instance_type: str
    reason: str
    code: str | None
    asked: str
    found: str
    remedy: str


class PlanRecord(Record):
    """Placements of one task from best to worst, what was left out, and answers to what was asked besides.

    `placements` are tried in this order; `places` are the best placement of each cloud and accelerator. `more`: how
    many placements follow. `data`: what has to be moved, `note`: how tasks were brought together, each in one line.
    `answers`: to `explain` and `why_not`. `comparisons` to `what_if`, `chances` to `when`: lines for people.
    """

    task: str | None
    placements: list[PlacementRecord]
    places: list[PlacementRecord]
    rejections: list[RejectionRecord]
    more: int | None
    data: str
    answers: list[RejectionRecord]
    comparisons: list[str]
    chances: list[str]
    note: str = ""


def _placement(placement: Placement, standing: Standing | None, *, chosen: bool, enabled: bool) -> PlacementRecord:
    """A placement as it is told."""
    offer = placement.offer
    return PlacementRecord(
        infra=offer.place,
        cloud=offer.cloud,
        region=offer.region,
        zone=offer.zone,
        instance_type=offer.instance_type,
        num_nodes=placement.num_nodes,
        cpus=placement.cpus,
        memory_gb=placement.memory_gb,
        accelerators=accelerators_text(placement.accelerators),
        use_spot=offer.use_spot,
        price_hourly=placement.price_hourly,
        chosen=chosen,
        reserved_nodes=placement.reserved_nodes,
        enabled=enabled,
        quality=offer.quality.value if offer.quality else None,
        observed=offer.observed,
        standing=_standing_record(standing) if standing else None,
    )


def _standing_record(standing: Standing) -> StandingRecord:
    return StandingRecord(
        objective=standing.objective,
        price=standing.price,
        data=standing.data,
        expected_loss=standing.expected_loss,
        hours=standing.hours,
        why=standing.why,
    )


def rejection_record(rejection: Rejection) -> RejectionRecord:
    """A rejection as it is told."""
    return RejectionRecord(
        infra=rejection.place,
        instance_type=rejection.instance_type,
        reason=rejection.reason,
        code=rejection.code.value if rejection.code else None,
        asked=rejection.asked,
        found=rejection.found,
        remedy=rejection.remedy,
    )


def plan_record(
    name: str | None,
    plan: Plan,
    enabled: frozenset[str] | None = None,
    places: Sequence[tuple[Placement, Standing]] = (),
    *,
    answers: Sequence[Rejection] = (),
    comparisons: Sequence[str] = (),
    chances: Sequence[str] = (),
    note: str = "",
) -> PlanRecord:
    """A plan as it is told; the first placement is the chosen one. `enabled` None: every place in it can be used."""

    def usable(offer: Offer) -> bool:
        return enabled is None or offer.cloud in enabled

    told = [
        _placement(placement, standing, chosen=at == 0, enabled=usable(placement.offer))
        for at, (placement, standing) in enumerate(zip_longest(plan.placements, plan.standings))
    ]
    return PlanRecord(
        task=name,
        placements=told,
        places=[
            _placement(
                placement,
                standing,
                chosen=bool(plan.placements) and placement == plan.placements[0],
                enabled=usable(placement.offer),
            )
            for placement, standing in places
        ],
        rejections=[rejection_record(each) for each in plan.rejections],
        more=plan.more,
        data=plan.data,
        answers=[rejection_record(each) for each in answers],
        comparisons=list(comparisons),
        chances=list(chances),
        note=note,
    )


def candidate_type(placement: Placement) -> CandidateType:
    """The type of a placement as it is told."""
    offer = placement.offer
    accelerators = dict(offer.accelerators) or None
    return CandidateType(
        cloud=offer.cloud, instance_type=offer.instance_type, accelerators=accelerators, use_spot=offer.use_spot
    )

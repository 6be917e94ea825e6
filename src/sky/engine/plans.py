"""Gathers what a plan depends on, and lets `core.optimizer` decide; used by launch, dry runs and `sky.optimize`.

The catalog and the user's overrides are files, access is remembered for minutes, outcomes for as long as none is
added: a plan costs milliseconds.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sky.core.catalog.inference import resolve
from sky.core.catalog.overrides import Overrides
from sky.core.errors import InvalidSkyPilotConfigError, NotSupportedError, ProviderFailure, ResourcesUnavailableError
from sky.core.model.catalog import Market, Query
from sky.core.model.clouds import cloud_named
from sky.core.model.clusters import Phase
from sky.core.model.dags import DagSpec
from sky.core.model.infra import Infra
from sky.core.model.layers import merge
from sky.core.model.ledger import Entry
from sky.core.model.offers import Offer, Placement, Plan, Reason, Rejection, Standing
from sky.core.model.outcomes import Outcome, OutcomeKind
from sky.core.model.place_rules import check
from sky.core.model.resources import Resources
from sky.core.model.tasks import TaskSpec
from sky.core.model.workspaces import Workspace
from sky.core.optimizer.conditions import Conditions, Repriced, Tempo
from sky.core.optimizer.explain import known_clouds
from sky.core.optimizer.goals import Goal
from sky.core.optimizer.gravity import Holding, money, span
from sky.core.optimizer.holdings import holdings
from sky.core.optimizer.locations import Search
from sky.core.optimizer.memory import Key, Memory
from sky.core.optimizer.plan import plan_task
from sky.core.optimizer.relax import similar_accelerators
from sky.core.optimizer.several import Chosen, flows, plan_dag
from sky.core.optimizer.transfers import Tariff, tariff
from sky.core.optimizer.wanted import of_task
from sky.core.ports import Catalog, Catalogs, Providers, Store
from sky.engine import answers
from sky.engine.access import AccessBoard
from sky.kit.clock import Clock
from sky.kit.frozen import replace

#: Seconds of the past that are learnt from; older outcomes weigh nothing by then.
_PAST_S = 7 * 86400.0
#: Instance types that are told for an estimator of time; a task that leaves more open had better say more.
_MOST_TYPES = 2000
#: Placements that are told of all tasks of a pipeline or group together.
_MOST_TOGETHER = 200
#: Ways out that are told when there is no place.
_MOST_NEAREST = 5


@dataclass(frozen=True, slots=True)
class Said:
    """What a client says of one plan, over what the server's configuration says of all.

    `allowed` are the only clouds that it wants (it cannot have more than the server allows), `buckets` where data is;
    `left_out` what each task must not get.
    """

    allowed: frozenset[str] | None = None
    buckets: Mapping[str, object] = field(default_factory=dict)
    left_out: Sequence[Sequence[Resources]] = ()

    @classmethod
    def of(cls, config: Mapping[str, object], left_out: Iterable[Iterable[object]] | None = None) -> "Said":
        """From the client's layers, and what is left out for each task. Raises InvalidSkyPilotConfigError."""
        allowed, data = config.get("allowed_clouds"), config.get("data")
        buckets = data.get("buckets") if isinstance(data, Mapping) else None
        return cls(
            _canonical(allowed) if isinstance(allowed, list | tuple) else None,
            buckets if isinstance(buckets, Mapping) else {},
            [[found for each in one for found in _blocked(each)] for one in left_out or ()],
        )

    def refuses(self, at: int) -> Callable[[Offer], str | None] | None:
        """Why an offer is left out for the task at this place; None where nothing is."""
        blocked = self.left_out[at] if at < len(self.left_out) else ()

        def why(offer: Offer) -> str | None:
            named = next((each for each in blocked if _within(each, offer)), None)
            return None if named is None else f"the task's blocked_resources name {str(named).removesuffix('()')}"

        return why if blocked else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What is asked of a plan besides the plan. See `wire.plans.DagBody`; `estimates` in seconds, one map per task."""

    goal: Goal = Goal.COST
    explain: bool = False
    why_not: tuple[str, ...] = ()
    what_if: tuple[str, ...] = ()
    when: bool = False
    all_infra: bool = False
    estimates: Sequence[Mapping[str, float]] = ()
    said: Said = field(default_factory=Said)
    workspace: Workspace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A plan with what was asked besides.

    `enabled` are the clouds that can be used now, `places` the best placement of each cloud and accelerator, `note` how
    the tasks of a group were brought together.
    """

    task: str | None
    plan: Plan
    enabled: frozenset[str]
    places: tuple[tuple[Placement, Standing], ...] = ()
    note: str = ""
    answers: tuple[Rejection, ...] = ()
    comparisons: tuple[str, ...] = ()
    chances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Ground:
    """What holds for every task that is planned now."""

    catalog: Catalog
    conditions: Conditions
    enabled: frozenset[str]
    said: Said
    allowed: frozenset[str] | None
    unasked: tuple[Rejection, ...] = field(default=())


class Planner:
    """See the module. `section` gives a section of the configuration as it is now."""

    def __init__(
        self,
        providers: Providers,
        catalogs: Catalogs,
        access: AccessBoard,
        store: Store,
        clock: Clock,
        section: Callable[[str], Mapping[str, object]],
        allowed: Callable[[], Sequence[str] | None],
    ) -> None:
        self._providers = providers
        self._catalogs = catalogs
        self._access = access
        self._outcomes = store.outcomes
        self._clusters = store.clusters
        self._clock = clock
        self._section = section
        self._allowed = allowed
        self._learning: tuple[object, Memory] | None = None
        self._tariff: tuple[str, Tariff] | None = None

    async def offers(self) -> tuple[list[Offer], list[Rejection]]:
        """What the places that can be asked sell at this moment, and the places that did not answer."""
        return await self._live(self._providers.names())

    async def place(
        self, task: TaskSpec, goal: Goal = Goal.COST, said: Said | None = None, workspace: Workspace | None = None
    ) -> Plan:
        """The ranked placements of a task. Raises ResourcesUnavailableError with every reason when there is none."""
        ground = await self._ground(said or Said(), workspace)
        resolved = self._resolved(task, ground)
        made = plan_task(resolved, ground.catalog, self._for(resolved, ground), goal)
        made = replace(made, rejections=(*made.rejections, *ground.unasked))
        if not made.placements:
            raise self._nowhere(resolved, made, ground)
        return made

    async def listed(self, line: Entry) -> float | None:
        """USD per hour of a machine like that of a line, as it is sold now; None where it is not.

        Raises the ProviderFailure of a place that tells its prices itself and did not answer, and
        InvalidSkyPilotConfigError.
        """
        own, like = self._catalogs.overrides(), (line.region, line.instance_type, line.market)
        asked = Query(frozenset({line.cloud}), line.region, instance_type=line.instance_type, market=line.market)
        sold = await self._providers.compute(line.cloud).offers() or self._catalogs.current().offers(asked)
        mine = (each for each in own.extra if each.cloud == line.cloud)
        found = [
            own.price_of(each)
            for each in (*mine, *sold)
            if (each.region, each.instance_type, each.market) == like and each.zone in (None, line.zone)
        ]
        return min((each.price_hourly for each in found), default=None)

    def refused_at(self, offer: Offer) -> float | None:
        """When a machine of an offer was last refused, to anybody, as far as the last plan knew."""
        found = self._learning[1].records.get(Key.of(offer)) if self._learning is not None else None
        return None if found is None else found.refused_at

    async def optimize(self, dag: DagSpec, questions: Questions) -> list[Answer]:
        """One answer per task. Raises ResourcesUnavailableError when a task fits nowhere."""
        ground = await self._ground(questions.said, questions.workspace, all_infra=questions.all_infra)
        tasks = tuple(self._resolved(task, ground) for task in dag.tasks)
        conditions = [
            self._for(task, ground, questions.estimates[at] if at < len(questions.estimates) else {}, at=at)
            for at, task in enumerate(tasks)
        ]
        if len(tasks) == 1:
            search = Search.of(tasks[0], ground.catalog, conditions[0], questions.goal)
            made = plan_task(tasks[0], ground.catalog, conditions[0], questions.goal)
            chosen = Chosen((made,), None, "", (search,), (next(search.ranking(), None),))
        else:
            most = max(1, _MOST_TOGETHER // len(tasks))
            together = replace(dag, tasks=tasks)
            chosen = plan_dag(together, ground.catalog, _handed_on(dag, conditions), questions.goal, most=most)
        for task, plan in zip(tasks, chosen.plans, strict=True):
            if not plan.placements:
                raise self._nowhere(task, plan, ground, among=len(tasks))
        return [self._answer(task, chosen, at, ground, questions) for at, task in enumerate(tasks)]

    async def types(
        self, dag: DagSpec, *, all_infra: bool, said: Said | None = None, workspace: Workspace | None = None
    ) -> list[list[Placement]]:
        """For each task one placement of every (cloud, instance type) that it could take, cheapest first."""
        ground = await self._ground(said or Said(), workspace, all_infra=all_infra)
        found: list[list[Placement]] = []
        for at, task in enumerate(dag.tasks):
            resolved = self._resolved(task, ground)
            first: dict[tuple[str, str], Placement] = {}
            for each in Search.of(resolved, ground.catalog, self._for(resolved, ground, at=at), Goal.COST).ranking():
                first.setdefault((each.offer.cloud, each.offer.instance_type), each.placement())
                if len(first) >= _MOST_TYPES:
                    break
            found.append(list(first.values()))
        return found

    # --- the ground ----------------------------------------------------------------------------------------------

    async def _ground(self, said: Said, workspace: Workspace | None, *, all_infra: bool = False) -> _Ground:
        catalog, overrides = self._catalogs.current(), self._catalogs.overrides()
        enabled = await self._access.enabled()
        allowed = self._allowed()
        may = None if allowed is None else _canonical(allowed)
        if said.allowed is not None:
            may = said.allowed if may is None else may & said.allowed
        if may is not None:
            enabled &= may
        if workspace is not None:
            enabled = frozenset(cloud for cloud in enabled if not workspace.disabled(cloud))
        live, unasked = await self._live(sorted(enabled))
        conditions = Conditions(
            enabled=None if all_infra else enabled,
            features=self._features(),
            reservations=overrides.reservations,
            quotas=overrides.quotas,
            price_of=overrides.price_of if overrides.prices else None,
            denied=_denied(overrides, workspace),
            least_multiplier=overrides.least_factor,
            repriced=tuple(_repriced(overrides)),
            extra=(*live, *overrides.extra),
            replaced=frozenset(offer.cloud for offer in live),
            memory=await self._learnt(),
            tariff=self._rates(catalog),
            now=self._clock.now(),
        )
        for taken in await self._taken() if overrides.reservations or overrides.quotas else ():
            conditions = conditions.beside(taken.offer, taken.num_nodes)
        return _Ground(catalog, conditions, enabled, said, may, tuple(unasked))

    async def _taken(self) -> list[Placement]:
        """What living clusters hold: it comes out of reservations and quotas. Stopped machines count with neither."""
        living = await self._clusters.living()
        return [each.placement for each in living if each.placement is not None and each.phase is not Phase.STOPPED]

    async def _live(self, names: Sequence[str]) -> tuple[list[Offer], list[Rejection]]:
        answers = await asyncio.gather(*(self._ask(name) for name in names))
        found = [offer for answer in answers if not isinstance(answer, Rejection) for offer in answer]
        return found, [answer for answer in answers if isinstance(answer, Rejection)]

    async def _ask(self, name: str) -> Iterable[Offer] | Rejection:
        try:
            return await self._providers.compute(name).offers()
        except (ProviderFailure, NotSupportedError) as error:
            return Rejection(name, "*", str(error), Reason.UNREACHABLE, remedy=f"sky check {name}")

    def _features(self) -> dict[str, frozenset[str]]:
        known = {name: self._providers.offered(name) for name in self._providers.places()}
        return {name: features for name, features in known.items() if features is not None}

    async def _learnt(self) -> Memory:
        """The memory of outcomes; made again when one was added here, and now and then for those of other servers."""
        now = self._clock.now()
        of = (self._outcomes.revision, now // 60)
        if self._learning is None or self._learning[0] != of:
            outcomes = await self._outcomes.since(now - _PAST_S)
            asked = (each for each in outcomes if each.kind is not OutcomeKind.LOST)
            told = ((_key(each), each.kind is OutcomeKind.GRANTED, each.at, each.reason) for each in asked)
            self._learning = of, Memory.of(told)
        return self._learning[1]

    def _rates(self, catalog: Catalog) -> Tariff:
        if self._tariff is None or self._tariff[0] != catalog.generation:
            self._tariff = catalog.generation, tariff(catalog.egress(), catalog.places())
        return self._tariff[1]

    # --- one task ------------------------------------------------------------------------------------------------

    def _resolved(self, task: TaskSpec, ground: _Ground) -> TaskSpec:
        """The task with what its resources leave open filled in where there is one answer."""
        conditions = ground.conditions
        for each in task.resources:
            if each.infra.cloud is not None:
                check(each, self._providers.rules(each.infra.cloud))
        resources = tuple(
            resolve(each, ground.catalog, ground.enabled, own=conditions.extra, path=("resources",))
            for each in task.resources
        )
        return task if resources == task.resources else replace(task, resources=resources)

    def _for(
        self, task: TaskSpec, ground: _Ground, estimates: Mapping[str, float] | None = None, *, at: int = 0
    ) -> Conditions:
        """The conditions with what this task alone brings: its data, what it must not get, how long it runs where."""
        made = replace(
            ground.conditions,
            holdings=self._holdings(task, ground.said.buckets),
            unsuited=self._unsuited(task),
            denied=_either(ground.conditions.denied, ground.said.refuses(at)),
        )
        if not estimates:
            return made
        hours = {name: seconds / 3600 for name, seconds in estimates.items()}
        longest = max(hours.values())

        def of(offer: Offer) -> float:
            # A type that came up between the two questions has no estimate; the longest is the careful guess.
            return hours.get(f"{offer.cloud}/{offer.instance_type}", longest)

        return replace(made, tempo=Tempo(hours=min(hours.values()), hours_of=of))

    def _unsuited(self, task: TaskSpec) -> Callable[[Offer], str | None] | None:
        """Places that cannot take the task's labels or images as they are."""
        if not any(each.labels or each.image_id for each in task.resources):
            return None
        broken: dict[str, str | None] = {}

        def unsuited(offer: Offer) -> str | None:
            if offer.cloud not in broken:
                rules = self._providers.rules(offer.cloud)
                each_wrong = [rules.broken(each) for each in task.resources]
                broken[offer.cloud] = each_wrong[0] if all(each_wrong) else None
            return broken[offer.cloud]

        return unsuited

    def _holdings(self, task: TaskSpec, told: Mapping[str, object]) -> tuple[Holding, ...]:
        known = self._section("data").get("buckets") or {}
        if not isinstance(known, Mapping):
            raise InvalidSkyPilotConfigError(
                f"data.buckets: found {known!r}; allowed: a map such as s3://name: {{region: …, size: 1TB}}"
            )
        return holdings(task, merge(known, told))

    def _nowhere(self, task: TaskSpec, made: Plan, ground: _Ground, among: int = 1) -> ResourcesUnavailableError:
        asked = " or ".join(str(each).removesuffix("()") for each in task.resources)
        reasons = _summed_up(made.rejections)
        if ground.allowed is not None:
            left = ", ".join(sorted(ground.allowed)) or "nothing"
            reasons.append(f"allowed_clouds in your configuration leaves {left}")
        named = {each.infra.cloud for each in task.resources if each.infra.cloud}
        reasons += [f"not supported yet on {cloud}" for cloud in sorted(named - set(self._providers.names()))]
        reasons += [f"{cloud} cannot be used: {why}" for cloud in sorted(named) if (why := self._access.why_not(cloud))]
        reasons += _misspelt(task, ground)
        if not ground.catalog.places():
            reasons.append("the catalog is empty: `sky catalog refresh` asks clouds for their prices")
        search = Search.of(task, ground.catalog, self._for(task, ground), Goal.COST)
        rentable = frozenset(self._providers.names())
        reasons += [f"nearest: {line}" for line in answers.opened(search, rentable)[:_MOST_NEAREST]]
        said = "\n".join(f"  {line}" for line in dict.fromkeys(reasons)) or "  nothing is on sale"
        whose = f"the task {task.name}: " if among > 1 and task.name else ""
        hint = "`sky check` lists the places that can be used"
        if ground.conditions.enabled is not None:
            hint += "; `sky optimize --all-infra` plans over all that are known"
        return ResourcesUnavailableError(
            f"No place for {whose}{task.num_nodes}x {asked}.\n{said}\n{hint}.",
            no_failover=True,
        )

    def _answer(self, task: TaskSpec, chosen: Chosen, at: int, ground: _Ground, questions: Questions) -> Answer:
        made, search, best = chosen.plans[at], chosen.searches[at], chosen.firsts[at]
        # The tasks of a group are bound to one place: not by what was asked, and so not by what is explained.
        asked = replace(search, wishes=of_task(task, ground.catalog.accelerators()))
        clouds = known_clouds(search) if search.conditions.enabled is None else sorted(ground.enabled)
        return Answer(
            task=task.name,
            plan=replace(made, rejections=(*made.rejections, *ground.unasked)),
            enabled=ground.enabled,
            places=tuple(answers.best_of_places(search, clouds, best)),
            answers=tuple(
                answers.explained(
                    asked,
                    ground.catalog,
                    best,
                    questions.why_not,
                    everywhere=questions.explain,
                    note=chosen.note,
                )
            ),
            comparisons=tuple(answers.compared(search, questions.what_if)),
            chances=tuple(answers.chances(search)) if questions.when else (),
            note=_total(chosen, questions.goal) if len(chosen.plans) > 1 else "",
        )


def _canonical(names: Iterable[object]) -> frozenset[str]:
    return frozenset(cloud_named(str(name)).canonical_name() for name in names)


def _blocked(config: object) -> list[Resources]:
    if not isinstance(config, Mapping):
        raise InvalidSkyPilotConfigError(f"blocked_resources: found {config!r}; allowed: resources such as infra: aws")
    return list(Resources.from_yaml_config(config))


def _within(blocked: Resources, offer: Offer) -> bool:
    """Whether an offer has all that is fixed; what is left open matches: `Resources.should_be_blocked_by`."""
    named = blocked.accelerator_request
    return (
        blocked.infra.covers(Infra(offer.cloud, offer.region, offer.zone))
        and blocked.instance_type in (None, offer.instance_type)
        and (named is None or offer.accelerators.get(named.name) == named.count)
        and (not blocked.use_spot_specified or blocked.use_spot == offer.use_spot)
    )


def _either(
    one: Callable[[Offer], str | None] | None, other: Callable[[Offer], str | None] | None
) -> Callable[[Offer], str | None] | None:
    if one is None or other is None:
        return one or other
    return lambda offer: one(offer) or other(offer)


def _key(outcome: Outcome) -> Key:
    return Key(outcome.cloud, outcome.region, outcome.zone, outcome.instance_type, Market(outcome.market))


def _handed_on(dag: DagSpec, conditions: Sequence[Conditions]) -> list[Conditions]:
    """What a task hands to the next goes along the edge between them, and is not written elsewhere as well."""
    before = set() if dag.is_job_group else {edge.source for edge in flows(dag)}
    return [
        replace(given, holdings=tuple(each for each in given.holdings if not each.outgoing)) if at in before else given
        for at, given in enumerate(conditions)
    ]


def _total(chosen: Chosen, goal: Goal) -> str:
    """The line about all tasks: what they cost or last together, and how a group was placed."""
    figure = "" if chosen.total is None else span(chosen.total) if goal is Goal.TIME else money(chosen.total)
    return ", ".join(part for part in (f"all tasks together: {figure}" if figure else "", chosen.note) if part)


def _repriced(overrides: Overrides) -> Iterable[Repriced]:
    """Offers for which the user names a price: with these looked up, the search need not fear lower ones."""
    for rule in overrides.prices:
        if rule.price is not None:
            yield Repriced(rule.scope.infra.cloud, rule.scope.infra.region, rule.scope.type_name, rule.scope.covers)


def _summed_up(rejections: Iterable[Rejection]) -> list[str]:
    """One line for each place and rule, with how many more there are: zones and sizes of it say the same."""
    alike: dict[object, list[Rejection]] = {}
    for each in rejections:
        alike.setdefault((each.place.partition("/")[0], each.code), []).append(each)
    lines = []
    for first, *others in alike.values():
        more = f" (and {len(others)} more like it)" if others else ""
        lines.append(f"{first.place} {first.instance_type}: {first.reason}{more}")
    return lines


def _misspelt(task: TaskSpec, ground: _Ground) -> list[str]:
    """A line for each accelerator that nobody sells, with the names that are like it."""
    sold = dict(ground.catalog.accelerators())
    sold.update((name.lower(), name) for offer in ground.conditions.extra for name in offer.accelerators)
    found = []
    for each in task.resources:
        request = each.accelerator_request
        if request is None or request.is_filter or request.name.lower() in sold:
            continue
        near = similar_accelerators(request.name, sold)
        hint = f"did you mean {' or '.join(near)}?" if near else "`sky gpus list -a` shows what there is"
        found.append(f"no accelerator is called {request.name}; {hint}")
    return found


def _denied(overrides: Overrides, workspace: Workspace | None) -> Callable[[Offer], str | None] | None:
    """Why an offer may not be taken, by the user's rules or those of the workspace; None where neither has any."""
    if workspace is None or not (workspace.infra or workspace.allowed_clouds is not None):
        return overrides.denied if overrides.denials else None

    def why(offer: Offer) -> str | None:
        return workspace.refuses(offer.cloud, offer.region) or (overrides.denied(offer) if overrides.denials else None)

    return why

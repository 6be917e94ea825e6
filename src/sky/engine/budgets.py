"""Promises money at admission, and acts as budgets and jobs' own limits are used up. Run by `plane`.

What is to be done is said by `core.policy.budgets` from how each budget stands. Only what was told is remembered:
each round looks anew, and every letter it posts means the same a second time.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from sky.core.errors import NotSupportedError, ResourcesUnavailableError
from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle.managed_events import CancelAsked
from sky.core.lifecycle.pools import DownAsked as PoolDown
from sky.core.model.budgets import Action, Budget, Reservation, Rung, Standing, Whose, read_budget
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.jobs import JobPhase
from sky.core.model.managed_jobs import ManagedJob, Stage
from sky.core.model.notifications import Parcel
from sky.core.model.offers import Placement
from sky.core.model.pools import OWNED as POOL
from sky.core.model.pools import Pool, PoolStage
from sky.core.model.requests import Request
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.goals import Goal
from sky.core.policy import budgets as policy
from sky.core.policy.recovery import NONE, strategy_name
from sky.core.policy.rights import infra_for
from sky.core.ports import JobQuery
from sky.engine.desk import Desk
from sky.engine.duties import Alone, Duties
from sky.engine.plans import Said
from sky.engine.sinks import configured, parcels
from sky.kit.frozen import replace

log = logging.getLogger(__name__)

#: Seconds between rounds: what is spent in one, and in ending, is kept back of a job's `max_cost`.
PERIOD_S = 10.0
#: Seconds that what is stopped has after it was told.
GRACE_S = 60.0
_TOLD = "budget-told:"
#: Who has set what stands in the configuration; no user has such a name.
CONFIGURED = "(configuration)"
#: Seconds after which a cluster that was told and did not go is told again.
_FORGET_S = 3600.0

#: Tells the nodes of a cluster that they will be taken away in so many seconds, and why.
Warn = Callable[[Cluster, float, str], Awaitable[None]]


async def _tell_nobody(cluster: Cluster, seconds: float, reason: str) -> None:
    log.info("cluster %s is to be stopped in %.0f s: %s", cluster.name, seconds, reason)


class BudgetCare:
    """The loop. `warn` gives the notice of preemption, where nodes can be given it."""

    def __init__(self, desk: Desk, duties: Duties | None = None, warn: Warn = _tell_nobody) -> None:
        self._desk = desk
        self._duties = duties or Alone()
        self._warn = warn
        #: Clusters that were told, and when. After a crash they are told again.
        self._warned: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if self._duties.has("budgets"):
                    await self.once()
            except Exception:  # a full disk, say: there is another round
                log.exception("budgets cannot be looked at just now")
            await self._desk.clock.sleep(PERIOD_S)

    async def once(self) -> None:
        """One round."""
        now, store = self._desk.clock.now(), self._desk.store
        self._warned = {id: at for id, at in self._warned.items() if now < at + _FORGET_S}
        await self._as_configured(now)
        await self._limit(now)
        standings = await store.budgets.standings(now)
        if not standings:
            return
        await store.budgets.tidy(now)
        for one in standings:
            await self._tell(one, now)
        wanted = {rung.action for one in standings for rung in policy.due(one)}
        if wanted & {Action.CHECKPOINT_AND_STOP, Action.STOP_ALL}:
            await self._stop_jobs(standings)
        if wanted & {Action.STOP_IDLE, Action.STOP_ALL}:
            await self._stop_clusters(standings, now)
            await self._stop_pools(standings)

    async def _as_configured(self, now: float) -> None:
        """Budgets of the server's configuration are set as they stand there, and go when they are taken out."""
        rows, said = self._desk.store.budgets, self._desk.section("budgets")
        known = {each.name: each for each in await rows.all() if each.made_by == CONFIGURED or each.name in said}
        for name, config in said.items():
            try:
                wanted = configured_budget(name, config, now)
            except (ValueError, TypeError) as error:
                log.warning("budgets.%s in the configuration: %s", name, error)
                continue
            there = known.get(name)
            if there is not None:
                wanted = replace(wanted, created_at=there.created_at)
            if there != wanted:
                await rows.put(wanted)
        for name in known.keys() - said.keys():
            await rows.remove(name)

    # --- jobs that may cost only so much -------------------------------------------------------------------------

    async def _limit(self, now: float) -> None:
        jobs = await self._desk.store.managed_jobs.limited()
        if not jobs:
            return
        spent = await self._desk.store.budgets.spent_by([job.owner for job in jobs], now)
        for job in jobs:
            most = policy.max_cost(job.task_configs)
            used = spent.get(job.owner, 0.0)
            price = job.task.where.price_hourly if job.cluster_id is not None and job.task.where is not None else 0.0
            if most is None or job.cancel_asked or job.stage in (Stage.CANCELLING, Stage.ENDING):
                continue
            if policy.reaches(used, price, most, policy.ENDING_S + PERIOD_S):
                words = f"it has cost {policy.usd(used)} and would reach its max_cost of {policy.usd(most)}"
                await self._end(job, CancelAsked(graceful=True, timeout=GRACE_S, failed=words), words)
            elif price and policy.downgrades(job.task_configs, used):
                await self._to_spot(job, now)

    async def _to_spot(self, job: ManagedJob, now: float) -> None:
        """Have the cluster go: what begins anew then runs on spot (`on_spot`)."""
        where = job.task.where
        cluster = await self._desk.store.clusters.get(job.cluster_id) if job.cluster_id else None
        recovers = strategy_name(policy.recovery_of(job.task_configs.get(str(job.at)))) != NONE
        if where is None or where.use_spot or cluster is None or not recovers:
            return
        if cluster.phase not in (Phase.UP, Phase.DEGRADED) or job.stage is not Stage.RUNNING:
            return
        if cluster.id not in self._warned:
            self._warned[cluster.id] = now
            await self._warned_now(cluster, "most of its max_cost is spent; it goes on on spot")
        elif now >= self._warned[cluster.id] + GRACE_S:
            await self._desk.tell(cluster, cluster_life.DownAsked(), once=f"spot:{job.id}:{job.attempt}")

    async def _end(self, job: ManagedJob, letter: CancelAsked, reason: str) -> None:
        """Tell its nodes, give what its task wants done then its time, and have it end."""
        desk, now = self._desk, self._desk.clock.now()
        cluster = await desk.store.clusters.get(job.cluster_id) if job.cluster_id else None
        if cluster is not None and cluster.phase is Phase.UP and job.stage is Stage.RUNNING:
            told = self._warned.get(cluster.id)
            if told is None:
                self._warned[cluster.id] = told = now
                await self._warned_now(cluster, reason)
            if now < told + farewell_of(job):
                return
        rows = desk.store.managed_jobs
        await desk.post.send("managed_job", rows, job.id, letter, once=f"money:{job.id}:{job.attempt}")

    async def _warned_now(self, cluster: Cluster, reason: str) -> None:
        try:
            await self._warn(cluster, GRACE_S, reason)
        except Exception as error:  # noqa: BLE001 - who cannot be told is stopped all the same
            log.warning("cluster %s could not be told of its end: %s", cluster.name, error)

    # --- budgets -------------------------------------------------------------------------------------------------

    async def _tell(self, one: Standing, now: float) -> None:
        """News of rungs that were reached, once in each period."""
        store, budget = self._desk.store, one.budget
        reached = policy.due(one)
        if not reached:
            return
        key = f"{_TOLD}{budget.name}"
        said = await store.get_value(key)
        period = f"{budget.created_at}:{one.began}"
        known = json.loads(said) if said else {}
        told = known.get("told", []) if known.get("period") == period else []
        fresh = [rung for rung in reached if _name(rung) not in told]
        if not fresh:
            return
        sinks = configured(self._desk.section("notifications"))
        news: list[Parcel] = []
        for rung in fresh:
            log.warning("budget %s: %s of %s spent: %s", budget.name, policy.usd(one.spent),
                        policy.usd(budget.amount), rung.action)  # fmt: skip
            id = f"budget:{budget.name}:{period}:{_name(rung)}"
            news += parcels(id, "budget", _news(one, rung, now), sinks, now)
        await store.outbox.put(news)
        await store.set_value(key, json.dumps({"period": period, "told": [_name(rung) for rung in reached]}))

    async def _stop_jobs(self, standings: Sequence[Standing]) -> None:
        for job in (await self._desk.store.managed_jobs.listed(JobQuery(unfinished=True, with_clusters=True))).jobs:
            if job.cancel_asked:
                continue
            whose = whose_job(job)
            asked = policy.actions(standings, whose)
            if Action.STOP_ALL in asked or (Action.CHECKPOINT_AND_STOP in asked and preemptible(job)):
                names = ", ".join(_blamed(standings, whose))
                letter = CancelAsked(f"budget {names}", graceful=True, timeout=GRACE_S)
                await self._end(job, letter, f"the budget {names} is used up")

    async def _stop_clusters(self, standings: Sequence[Standing], now: float) -> None:
        living = [each for each in await self._desk.store.clusters.living() if each.owner is None]
        for cluster in living:
            whose = whose_cluster(cluster)
            asked = policy.actions(standings, whose)
            stops = Action.STOP_ALL in asked or (Action.STOP_IDLE in asked and await self._idle(cluster))
            if not stops or cluster.phase not in (Phase.UP, Phase.DEGRADED):
                self._warned.pop(cluster.id, None)
                continue
            reason = f"the budget {', '.join(_blamed(standings, whose))} is used up"
            if cluster.id not in self._warned:
                self._warned[cluster.id] = now
                await self._warned_now(cluster, reason)
            elif now >= self._warned[cluster.id] + GRACE_S:
                await self._stop(cluster, everything=Action.STOP_ALL in asked)

    async def _stop_pools(self, standings: Sequence[Standing]) -> None:
        """Pools go whole: those for which nobody has a job where what is idle is to stop, else all of them."""
        rows = self._desk.store.pools
        for pool in await rows.living():
            whose = whose_pool(pool)
            asked = policy.actions(standings, whose)
            idle = Action.STOP_IDLE in asked and not (await rows.situation(pool.id)).unfinished
            if pool.stage is PoolStage.ACTIVE and (idle or Action.STOP_ALL in asked):
                words = f"the budget {', '.join(_blamed(standings, whose))}, which is used up"
                await self._desk.post.send("pool", rows, pool.id, PoolDown(words))

    async def _idle(self, cluster: Cluster) -> bool:
        jobs = await self._desk.store.jobs.of_cluster(cluster.id)
        return all(job.phase is JobPhase.DONE for job in jobs)

    async def _stop(self, cluster: Cluster, *, everything: bool) -> None:
        """Stop it; what cannot be stopped goes only where everything is to end, for its disk goes with it."""
        try:
            self._desk.provisioner.check_stoppable(cluster)
        except NotSupportedError:
            if everything:
                await self._desk.tell(cluster, cluster_life.DownAsked())
            return
        await self._desk.tell(cluster, cluster_life.StopAsked())


def configured_budget(name: str, said: object, now: float) -> Budget:
    """A budget as the configuration says it: `amount`, and perhaps one of `user`, `workspace` and `label`, `period`
    and `actions`. Raises ValueError."""
    if not isinstance(said, Mapping):
        raise ValueError("found no mapping; allowed: amount, user, workspace, label, period, actions")
    if unknown := sorted(set(said) - {"amount", "user", "workspace", "label", "period", "actions"}):
        raise ValueError(f"found {unknown[0]!r}; allowed: amount, user, workspace, label, period, actions")
    scopes = [each for each in ("user", "workspace", "label") if said.get(each) is not None]
    if len(scopes) > 1:
        raise ValueError(f"found {' and '.join(scopes)}; allowed: one of them")
    scope, of = (scopes[0], str(said[scopes[0]])) if scopes else ("all", "")
    actions = said.get("actions") or ()
    listed = [actions] if isinstance(actions, str) else [str(each) for each in actions]
    period = str(said.get("period") or "total")
    return read_budget(
        name, scope, of, float(said.get("amount") or 0), period=period, actions=listed, made_by=CONFIGURED, now=now
    )


def _name(rung: Rung) -> str:
    return f"{rung.share:g}:{rung.action}"


def _blamed(standings: Iterable[Standing], whose: Whose) -> list[str]:
    stops = (Action.STOP_IDLE, Action.CHECKPOINT_AND_STOP, Action.STOP_ALL)
    return [
        f"'{one.budget.name}'"
        for one in standings
        if policy.covers(one.budget, whose) and any(rung.action in stops for rung in policy.due(one))
    ]


def _news(one: Standing, rung: Rung, now: float) -> dict[str, object]:
    return {
        "event": "budget", "budget": one.budget.name, "scope": one.budget.shown, "amount": one.budget.amount,
        "period": one.budget.period.value, "spent": round(one.spent, 4), "reserved": round(one.reserved, 4),
        "share": rung.share, "action": rung.action.value, "time": now,
    }  # fmt: skip


def preemptible(job: ManagedJob) -> bool:
    """Whether a job is one that goes on from a checkpoint: it runs on spot, or says where it writes them."""
    config = job.task_configs.get(str(job.at))
    declared = isinstance(config, Mapping) and bool(config.get("checkpoint"))
    return declared or (job.task.where is not None and job.task.where.use_spot)


def farewell_of(job: ManagedJob) -> float:
    """Seconds that a job's task has for what it does when it is told of its end; nothing where it does nothing."""
    config = job.task_configs.get(str(job.at))
    if not isinstance(config, Mapping) or not config.get("on_preemption"):
        return 0.0
    spec = TaskSpec.from_config(config).on_preemption
    return min(GRACE_S, spec.grace) if spec is not None else 0.0


def whose_job(job: ManagedJob) -> Whose:
    """Whom a managed job costs money."""
    return Whose(job.user, job.workspace, policy.labels_of(job.task_configs.get(str(job.at))), job.owner)


def whose_cluster(cluster: Cluster) -> Whose:
    """Whom a cluster costs money."""
    labels = cluster.resources_config.get("labels")
    named = {str(key): str(value) for key, value in labels.items()} if isinstance(labels, Mapping) else {}
    return Whose(cluster.user, cluster.workspace, named, cluster.owner or cluster.id)


def whose_pool(pool: Pool) -> Whose:
    """Whom a pool costs money."""
    return Whose(pool.user, pool.workspace, policy.labels_of(pool.tasks.get(str(pool.revision))), f"{POOL}{pool.id}")


async def on_spot(desk: Desk, job: ManagedJob, task: TaskSpec) -> TaskSpec:
    """The task as it is to be placed now: on spot, where most of what its job may cost is spent and it says so."""
    if policy.max_cost(job.task_configs) is None:
        return task
    spent = (await desk.store.budgets.spent_by([job.owner], desk.clock.now())).get(job.owner, 0.0)
    if not policy.downgrades(job.task_configs, spent):
        return task
    return replace(task, resources=tuple(each.copy(use_spot=True) for each in task.resources))


# --- admission -------------------------------------------------------------------------------------------------------


async def reserve_cluster(desk: Desk, request: Request, cluster: Cluster, placement: Placement | None) -> None:
    """Promise a cluster what it will cost at least. Raises BudgetExceededError."""
    if placement is None or not await desk.store.budgets.all():
        return
    now = desk.clock.now()
    amount = policy.estimate({}, placement.price_hourly)
    await desk.store.budgets.reserve([Reservation(cluster.id, request.id, whose_cluster(cluster), amount, now)], now)


async def reserve_pool(desk: Desk, request: Request, pool: Pool) -> None:
    """Promise a pool what its least number of workers will cost. Raises BudgetExceededError."""
    if not await desk.store.budgets.all():
        return
    now, within = desk.clock.now(), infra_for(pool.reach, await desk.workspaces.get(pool.workspace))
    try:
        made = await desk.planner.place(pool.task, Goal.COST, Said.of(pool.layers), within)
    except (ResourcesUnavailableError, NotSupportedError, ValueError):
        # The pool will say so itself.
        return
    amount = pool.policy.min_replicas * policy.estimate({}, made.placements[0].price_hourly)
    wanted = Reservation(f"{POOL}{pool.id}", request.id, whose_pool(pool), amount, now)
    await desk.store.budgets.reserve([wanted], now)


async def reserve_jobs(desk: Desk, request: Request, jobs: Sequence[ManagedJob], tasks: Sequence[TaskSpec]) -> None:
    """Promise jobs of the same tasks what they will cost, or none of them. Raises BudgetExceededError."""
    if not await desk.store.budgets.all() or await desk.store.managed_jobs.of_request(request.id):
        return
    now = desk.clock.now()
    most = policy.max_cost(jobs[0].task_configs)
    expected = [await _expected(desk, jobs[0], task) for task in tasks]
    amount = sum(expected) if most is None else min(most, sum(expected)) or most
    wanted = [Reservation(job.owner, request.id, whose_job(job), amount, now) for job in jobs]
    await desk.store.budgets.reserve(wanted, now)


async def reserve_members(
    desk: Desk, request: Request, members: Sequence[ManagedJob], tasks: Sequence[TaskSpec]
) -> None:
    """Promise the members of a parent, each of its own task, what they will cost, or none of them.

    Raises BudgetExceededError.
    """
    if not await desk.store.budgets.all() or await desk.store.managed_jobs.of_request(request.id):
        return
    now = desk.clock.now()
    known: dict[str, float] = {}
    wanted = []
    for job, task in zip(members, tasks, strict=True):
        # What differs in its variables alone costs the same.
        alike = repr((task.resources, task.num_nodes))
        if alike not in known:
            known[alike] = await _expected(desk, job, task)
        most = policy.max_cost(job.task_configs)
        amount = known[alike] if most is None else min(most, known[alike]) or most
        wanted.append(Reservation(job.owner, request.id, whose_job(job), amount, now))
    await desk.store.budgets.reserve(wanted, now)


async def _expected(desk: Desk, job: ManagedJob, task: TaskSpec) -> float:
    within = infra_for(job.reach, await desk.workspaces.get(job.workspace))
    try:
        made = await desk.planner.place(task, Goal.COST, Said.of(job.layers), within)
    except (ResourcesUnavailableError, NotSupportedError, ValueError):
        # The job will say so itself, in the words of its own story.
        return 0.0
    return policy.estimate(task.resources[0].job_recovery or {}, made.placements[0].price_hourly)

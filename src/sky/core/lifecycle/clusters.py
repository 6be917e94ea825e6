"""The life of a cluster as one table: what was seen or asked, and what is to be done about it.

The engine's cluster driver (`engine.clusters`) carries out the orders and brings back their outcomes as events.
"""

from collections.abc import Iterable

from sky.core.lifecycle.cluster_facts import (
    EVENTS,
    ORDERS,
    AgentSilent,
    AgentsReady,
    AutostopAsked,
    AutostopBegan,
    AutostopConfigured,
    AutostopFailed,
    Bootstrap,
    BootstrapFailed,
    ConfigureAutostop,
    DownAsked,
    Due,
    EndStrays,
    EndWork,
    HookEnded,
    LookFailed,
    NodesCreated,
    NodesObserved,
    NodesRemoved,
    NodesStopped,
    NodesTerminated,
    NoticeHeard,
    NotPlanned,
    Observe,
    Planned,
    Provision,
    ProvisionRefused,
    Released,
    RepairAsked,
    Replace,
    Replan,
    Resize,
    ResizeAsked,
    Resume,
    SideRefusal,
    StartAsked,
    StopAsked,
    StopNodes,
    StraysEnded,
    Swept,
    TeardownFailed,
    TerminateNodes,
    WorkEnded,
    WorkNotEnded,
)
from sky.core.lifecycle.cluster_repair import add_to
from sky.core.lifecycle.cluster_seen import AUTODOWN, AUTOSTOP_OVERDUE, AUTOSTOPPED, UNSEEN, as_seen
from sky.core.lifecycle.cluster_words import (
    all_of,
    billing_begins,
    billing_ends,
    gone,
    moved,
    nodes,
    noted,
)
from sky.core.lifecycle.machine import Step, Table
from sky.core.lifecycle.placing import (
    BOOTSTRAP,
    BOOTSTRAP_TRIES,
    HEDGED,
    HOPELESS,
    asking,
    condemned,
    described,
    strays_to_end,
    unfit,
    without_strays,
)
from sky.core.model.clusters import Autostop, Cluster, Instance, Phase
from sky.kit.frozen import replace

#: The words of the table are reached through it.
__all__ = [
    "AUTODOWN",
    "AUTOSTOPPED",
    "AUTOSTOP_AGAIN",
    "AUTOSTOP_OVERDUE",
    "BOOTSTRAP",
    "DEGRADED_LOOK_MOST",
    "EVENTS",
    "HEDGED",
    "HOPELESS",
    "LOOK_AGAIN",
    "ORDERS",
    "REFUSALS_KEPT",
    "RETRY_UNTIL_UP_GAP",
    "TABLE",
    "TEARDOWN_RETRY",
    "AgentSilent",
    "AgentsReady",
    "AutostopAsked",
    "AutostopBegan",
    "AutostopConfigured",
    "AutostopFailed",
    "Bootstrap",
    "BootstrapFailed",
    "ConfigureAutostop",
    "DownAsked",
    "Due",
    "EndStrays",
    "EndWork",
    "HookEnded",
    "LookFailed",
    "NodesCreated",
    "NodesObserved",
    "NodesRemoved",
    "NodesStopped",
    "NodesTerminated",
    "NotPlanned",
    "NoticeHeard",
    "Observe",
    "Planned",
    "Provision",
    "ProvisionRefused",
    "Released",
    "RepairAsked",
    "Replace",
    "Replan",
    "Resize",
    "ResizeAsked",
    "Resume",
    "SideRefusal",
    "StartAsked",
    "StopAsked",
    "StopNodes",
    "StraysEnded",
    "Swept",
    "TeardownFailed",
    "TerminateNodes",
    "WorkEnded",
    "WorkNotEnded",
    "condemned",
    "due_at",
    "opening",
]

#: Seconds between looks at a cluster in each phase; a phase that is not named waits for its orders alone.
LOOK_AGAIN = {Phase.UP: 30.0, Phase.DEGRADED: 10.0, Phase.AUTOSTOPPING: 1.0, Phase.STOPPED: 300.0}
#: Seconds before a teardown that failed is tried again: first, and at most.
TEARDOWN_RETRY = (2.0, 120.0)
#: The most seconds between looks at a degraded cluster whose agent would not start again and again.
DEGRADED_LOOK_MOST = 300.0
#: Seconds before a node that could not be told when to stop is told again.
AUTOSTOP_AGAIN = 30.0
#: Seconds between rounds over all placements when the user asked to retry until up.
RETRY_UNTIL_UP_GAP = 30.0
#: What is told of a machine that its provider will take away, by the provider's word.
_NOTICES = {
    "terminate": "the machine of rank {rank} is taken away{when}",
    "stop": "the machine of rank {rank} is stopped{when}",
    "hibernate": "the machine of rank {rank} is put to sleep{when}",
    "rebalance": "the machine of rank {rank} is likely to be taken away soon",
}
#: Refusals that a record holds, the newest: who retries until up collects them for days.
REFUSALS_KEPT = 200

TABLE: Table[Cluster] = Table("cluster", Phase, EVENTS, lambda cluster: cluster.phase)

P = Phase
_BUILDING = (P.PROVISIONING, P.BOOTSTRAPPING, P.RESUMING, P.RESIZING, P.REPAIRING)
_STANDING = (P.UP, P.DEGRADED, P.AUTOSTOPPING)


def opening(cluster: Cluster) -> Step[Cluster]:
    """The first step of a new record: its placement is to be provisioned. The cluster must have a candidate."""
    again = cluster.candidates if cluster.retry_until_up else ()
    begun, order = asking(replace(cluster, phase=P.PROVISIONING, rounds=again, entered=True), cluster.candidates)
    return Step(begun, (order,), f"asked for {all_of(order)}")


def due_at(cluster: Cluster, now: float) -> float | None:
    """When to look at the cluster again without being woken, in seconds since the epoch; None for never."""
    wait = LOOK_AGAIN.get(cluster.phase)
    if cluster.phase is Phase.DEGRADED and wait is not None:
        wait = min(wait * 2 ** min(cluster.strikes, 10), DEGRADED_LOOK_MOST)
    return None if wait is None else now + wait


# --- building --------------------------------------------------------------------------------------------------------


@TABLE.on((P.PROVISIONING, P.RESUMING), NodesCreated, to={P.BOOTSTRAPPING})
def nodes_created(cluster: Cluster, event: NodesCreated, now: float) -> Step[Cluster]:
    """Machines answer to their provider; next they need the agent. From here on they cost money."""
    placement, site = event.placement or cluster.placement, event.site or cluster.site
    started = replace(
        moved(cluster, P.BOOTSTRAPPING, now),
        instances=event.instances,
        placement=placement,
        resources=described(placement) if placement else cluster.resources,
        sites=(site,) if site else (),
        strays=(*cluster.strays, *event.left),
        identity=event.identity or cluster.identity,
        refusals=(*cluster.refusals, *(noted(each, now) for each in event.refused)),
        launched_at=now,
    )
    hedged = event.placement is not None and cluster.hedge > 1
    where = f" on {placement.offer.place}" if placement and hedged else ""
    told = "".join(f"{each.placement.offer.place} refused: {each.reason}; " for each in event.refused)
    left = "".join(
        f"; what was begun on {each.site.cloud}/{each.site.region} cannot be ended yet" for each in event.left
    )
    text = f"{told}{nodes(len(event.instances))} running{where}; starting the agent{left}"
    return Step(billing_begins(started, now), (Bootstrap(),), text)


@TABLE.on(P.PROVISIONING, ProvisionRefused, to={P.PROVISIONING, P.TERMINATING})
def try_next_placement(cluster: Cluster, event: ProvisionRefused, now: float) -> Step[Cluster]:
    """Keep the refusal for the user and try the next best placement that it does not condemn."""
    if cluster.placement is None:
        raise ValueError(f"cluster {cluster.name} was refused a placement it never had")
    refused = (SideRefusal(cluster.placement, event.scope, event.reason), *event.others)
    left = tuple(
        each
        for each in cluster.candidates
        if not any(condemned(each, other.placement, other.scope) for other in refused)
    )
    wrong = tuple(unfit(other.placement) for other in refused if other.scope == "request")
    kept = replace(
        cluster,
        refusals=(*cluster.refusals, *(noted(each, now) for each in refused))[-REFUSALS_KEPT:],
        status_at=now,
        sites=(),
        strays=(*cluster.strays, *event.left),
        # What was wrong with a request is wrong in the next round, too.
        rounds=tuple(each for each in cluster.rounds if unfit(each) not in wrong),
        wrong=tuple(dict.fromkeys((*cluster.wrong, *wrong))),
        reason=event.reason,
    )
    told = "; ".join(f"{each.placement.offer.place} refused: {each.reason}" for each in refused)
    if left:
        chosen, order = asking(kept, left)
        return Step(chosen, (order,), f"{told}; trying {all_of(order)}")
    if cluster.retry_until_up:
        text = f"{told}; trying again in {RETRY_UNTIL_UP_GAP:.0f} s"
        orders = (*strays_to_end(kept), Replan(RETRY_UNTIL_UP_GAP))
        return Step(replace(kept, candidates=()), orders, text)
    reason = f"no placement left: {event.reason}"
    return Step(moved(kept, P.TERMINATING, now, reason), (TerminateNodes(),), told)


@TABLE.on(P.PROVISIONING, Planned, to={P.PROVISIONING})
def next_round(cluster: Cluster, event: Planned, now: float) -> Step[Cluster]:
    """Whoever retries until up goes over the places as they are by now, but for those where the request is not fit."""
    fit = tuple(each for each in event.placements if unfit(each) not in cluster.wrong)
    return _another_round(replace(cluster, rounds=fit or cluster.rounds))


@TABLE.on(P.PROVISIONING, NotPlanned, to={P.PROVISIONING})
def same_round(cluster: Cluster, event: NotPlanned, now: float) -> Step[Cluster]:
    """What was asked before is asked again."""
    step = _another_round(cluster)
    return replace(step, text=f"no new plan ({event.reason}); {step.text}")


def _another_round(cluster: Cluster) -> Step[Cluster]:
    if cluster.placement is None:
        raise ValueError(f"cluster {cluster.name} was refused a placement it never had")
    again, order = asking(cluster, cluster.rounds or (cluster.placement,))
    # Machines whose agent never came are there still; they are ended before anything is begun.
    left = tuple(site for site in cluster.sites if site not in again.sites)
    first = replace(order, instead_of=cluster.sites[0] if cluster.sites else None)
    return Step(replace(again, sites=(*again.sites, *left)), (first,), f"trying {all_of(order)}")


@TABLE.on(P.RESUMING, ProvisionRefused, to={P.STOPPED})
def cannot_resume(cluster: Cluster, event: ProvisionRefused, now: float) -> Step[Cluster]:
    """A stopped cluster holds somebody's disk: it stays where it is rather than be made anew elsewhere.

    Some of its machines may run all the same, as those of a broken one do: a look tells.
    """
    stays = moved(cluster, P.STOPPED, now, f"could not start: {event.reason}")
    return Step(stays, (Observe(),), f"not started: {event.reason}")


@TABLE.on(P.BOOTSTRAPPING, AgentsReady, to={P.UP})
def now_up(cluster: Cluster, event: AgentsReady, now: float) -> Step[Cluster]:
    """The cluster can take jobs. Of an image that its disks are made from nothing is needed any more."""
    up = replace(moved(cluster, P.UP, now), ever_up=True, strikes=0, clone_of=None)
    # A node that ran before may remember a setting that is no longer wanted.
    told = (cluster.autostop.enabled or cluster.ever_up) and event.autostop != cluster.autostop
    orders = (ConfigureAutostop(cluster.autostop),) if told else ()
    return Step(up, (*orders, *strays_to_end(up)), "up")


@TABLE.on(P.BOOTSTRAPPING, BootstrapFailed, to={P.PROVISIONING, P.TERMINATING, P.DEGRADED})
def agent_would_not_start(cluster: Cluster, event: BootstrapFailed, now: float) -> Step[Cluster]:
    """A new cluster moves on to the next placement; one that was up before keeps its disks and waits to be mended."""
    if cluster.ever_up or cluster.placement is None:
        # Ever slower: a node whose agent cannot start is mended by somebody, not by trying.
        degraded = replace(moved(cluster, P.DEGRADED, now, event.reason), strikes=cluster.strikes + 1)
        return Step(degraded, (), event.reason)
    scope = BOOTSTRAP if sum(each.scope == BOOTSTRAP for each in cluster.refusals) + 1 < BOOTSTRAP_TRIES else HOPELESS
    refused = ProvisionRefused(scope, event.reason)
    given_up = replace(moved(billing_ends(cluster, now), P.PROVISIONING, now), instances=())
    step = try_next_placement(given_up, refused, now)
    if step.entity.phase is P.TERMINATING:
        # Its machines are still there, unlike after a refusal.
        return replace(step, entity=replace(step.entity, sites=cluster.standing))
    orders = [
        replace(each, instead_of=cluster.site) if isinstance(each, Provision) else each for each in step.orders or ()
    ]
    # On record until they are ended, wherever the next ones are; and those may be another account's.
    left = tuple(site for site in cluster.standing if site not in step.entity.sites)
    begun = replace(step.entity, sites=(*step.entity.sites, *left), identity=None)
    return Step(begun, tuple(orders), step.text)


# --- what is asked ---------------------------------------------------------------------------------------------------


@TABLE.on((*_BUILDING, *_STANDING), StopAsked, to={P.STOPPING})
def stop(cluster: Cluster, event: StopAsked, now: float) -> Step[Cluster]:
    """Whatever was under way is called off."""
    return Step(replace(moved(cluster, P.STOPPING, now, "asked to stop"), strikes=0), (StopNodes(),), "stopping")


@TABLE.on(
    (*_BUILDING, *_STANDING, P.STOPPING, P.STOPPED, P.TERMINATING),
    DownAsked,
    to={P.TERMINATING},
)
def down(cluster: Cluster, event: DownAsked, now: float) -> Step[Cluster]:
    """Terminating wins over everything; asking again tries again at once."""
    going = replace(
        moved(cluster, P.TERMINATING, now, "asked to go down"), purge=cluster.purge or event.purge, strikes=0
    )
    return Step(going, (TerminateNodes(),), "terminating")


@TABLE.on((P.STOPPED, P.DEGRADED), StartAsked, to={P.RESUMING})
def start(cluster: Cluster, event: StartAsked, now: float) -> Step[Cluster]:
    """Start what is stopped; for a degraded cluster that is the repair."""
    return Step(replace(moved(cluster, P.RESUMING, now, "asked to start"), strikes=0), (Resume(),), "starting")


@TABLE.on(P.UP, StartAsked, to={P.UP})
def start_again(cluster: Cluster, event: StartAsked, now: float) -> Step[Cluster]:
    """Nothing to do, unless the agents are to be brought up anew."""
    return Step(cluster, (Bootstrap(ran=True),), "bringing the agents up anew") if event.force else Step(cluster)


@TABLE.on(P.UP, ResizeAsked, to={P.UP, P.RESIZING})
def resize(cluster: Cluster, event: ResizeAsked, now: float) -> Step[Cluster]:
    """Nodes are added after the last rank, or ended from the last rank on; jobs go on meanwhile."""
    if event.num_nodes == cluster.num_nodes:
        return Step(cluster)
    begun = replace(moved(cluster, P.RESIZING, now, f"asked for {nodes(event.num_nodes)}"), resize_to=event.num_nodes)
    return Step(begun, (Resize(event.num_nodes),), f"from {nodes(cluster.num_nodes)} to {event.num_nodes}")


@TABLE.on(P.RESIZING, NodesCreated, to={P.BOOTSTRAPPING})
def grown(cluster: Cluster, event: NodesCreated, now: float) -> Step[Cluster]:
    """The new nodes need the agent, and the others have to learn of them."""
    return _resized(cluster, event.instances, now)


@TABLE.on(P.RESIZING, NodesRemoved, to={P.BOOTSTRAPPING})
def shrunk(cluster: Cluster, event: NodesRemoved, now: float) -> Step[Cluster]:
    """Those that stay have to learn that the others are gone."""
    return _resized(cluster, event.instances, now)


@TABLE.on(P.RESIZING, ProvisionRefused, to={P.BOOTSTRAPPING})
def not_grown(cluster: Cluster, event: ProvisionRefused, now: float) -> Step[Cluster]:
    """The cluster stays as it was; nothing is left of the nodes that were to be added."""
    assert cluster.placement is not None
    note = noted(SideRefusal(cluster.placement, event.scope, event.reason), now)
    back = replace(moved(cluster, P.BOOTSTRAPPING, now), resize_to=None, refusals=(*cluster.refusals, note))
    return Step(back, (Bootstrap(),), f"not resized: {event.reason}")


def _resized(cluster: Cluster, instances: tuple[Instance, ...], now: float) -> Step[Cluster]:
    count = cluster.resize_to or cluster.num_nodes
    placement = replace(cluster.placement, num_nodes=count) if cluster.placement else None
    told = replace(
        moved(cluster, P.BOOTSTRAPPING, now),
        instances=instances,
        num_nodes=count,
        resize_to=None,
        placement=placement,
    )
    return Step(billing_begins(told, now), (Bootstrap(),), f"{nodes(count)} now")


@TABLE.on(P.UP, AutostopAsked, to={P.UP})
def set_autostop(cluster: Cluster, event: AutostopAsked, now: float) -> Step[Cluster]:
    """The node keeps the timer, so that it holds when nobody calls."""
    text = "autostop off" if not event.autostop.enabled else f"autostop after {event.autostop.idle_minutes:g} idle min"
    return Step(replace(cluster, autostop=event.autostop), (ConfigureAutostop(event.autostop),), text)


@TABLE.on((*_BUILDING, P.DEGRADED), AutostopAsked, to=())
def remember_autostop(cluster: Cluster, event: AutostopAsked, now: float) -> Step[Cluster]:
    """The node hears of it when its agent is ready."""
    return Step(replace(cluster, autostop=event.autostop))


@TABLE.on(P.UP, AutostopFailed, to={P.UP})
def autostop_not_set(cluster: Cluster, event: AutostopFailed, now: float) -> Step[Cluster]:
    """Say so, look at the node, which is the likeliest cause, and tell it again: an idle cluster costs money."""
    reason = f"autostop not set: {event.reason}"
    text = "" if cluster.reason == reason else reason
    again = ConfigureAutostop(cluster.autostop, AUTOSTOP_AGAIN, event.heard)
    return Step(replace(cluster, reason=reason), (Observe(), again), text)


@TABLE.on(P.UP, AutostopConfigured, to={P.UP})
def autostop_set(cluster: Cluster, event: AutostopConfigured, now: float) -> Step[Cluster]:
    """Nothing more to do, and nothing to complain of any longer."""
    complained = (cluster.reason or "").startswith("autostop not set")
    return Step(replace(cluster, reason=None) if complained else cluster)


# --- what ends -------------------------------------------------------------------------------------------------------


@TABLE.on(P.STOPPING, NodesStopped, to={P.STOPPED, P.TERMINATED})
def stopped(cluster: Cluster, event: NodesStopped, now: float) -> Step[Cluster]:
    """A cluster that was stopped before it had a machine leaves nothing to start again. Autostop is off afterwards."""
    settled = replace(billing_ends(cluster, now), instances=event.instances, autostop=Autostop())
    if not event.instances:
        return Step(gone(settled, now, "stopped before any machine existed"), (), "nothing to keep; removed")
    return Step(moved(settled, P.STOPPED, now), (), "; ".join(("stopped", *event.said)))


@TABLE.on(P.TERMINATING, NodesTerminated, to={P.TERMINATED})
def terminated(cluster: Cluster, event: NodesTerminated, now: float) -> Step[Cluster]:
    """The record becomes history."""
    return Step(gone(cluster, now, cluster.reason), (), "; ".join(("terminated", *event.said)))


@TABLE.on(P.STOPPING, TeardownFailed, to={P.DEGRADED})
def stop_failed(cluster: Cluster, event: TeardownFailed, now: float) -> Step[Cluster]:
    """Machines may run on and cost money: say so and keep looking."""
    return Step(moved(cluster, P.DEGRADED, now, f"stop failed: {event.reason}"), (), f"stop failed: {event.reason}")


@TABLE.on(P.TERMINATING, TeardownFailed, to={P.TERMINATING, P.TERMINATED})
def terminate_failed(cluster: Cluster, event: TeardownFailed, now: float) -> Step[Cluster]:
    """Keep at it, ever slower; only a purge gives up, and the reason says what may be left behind."""
    if cluster.purge:
        reason = f"purged although the provider failed: {event.reason}"
        return Step(gone(cluster, now, reason), (), reason)
    first, most = TEARDOWN_RETRY
    delay = min(first * 2**cluster.strikes, most)
    again = replace(cluster, strikes=cluster.strikes + 1, reason=f"terminate failed: {event.reason}", status_at=now)
    return Step(again, (TerminateNodes(delay),), f"terminate failed: {event.reason}; again in {delay:.0f} s")


# --- what is seen ----------------------------------------------------------------------------------------------------


@TABLE.on((*_STANDING, P.STOPPED), Due, to=())
def look(cluster: Cluster, event: Due, now: float) -> Step[Cluster]:
    """The safety net under the node's own reports."""
    # One that is on its way out is looked at each second, which is too often for a cloud that does not answer.
    strays = () if cluster.phase is P.AUTOSTOPPING else strays_to_end(cluster)
    return Step(cluster, (Observe(), *strays))


@TABLE.on([phase for phase in P if phase is not P.TERMINATED], StraysEnded, to=())
def strays_ended(cluster: Cluster, event: StraysEnded, now: float) -> Step[Cluster]:
    """Those that are left are told again with the next look."""
    places = ", ".join(f"{site.cloud}/{site.region}" for site in event.sites)
    text = f"what was begun for nothing on {places} is ended" if places else ""
    return Step(without_strays(cluster, event, now), None, text)


@TABLE.on([phase for phase in P if phase is not P.TERMINATED], Released, to=())
def released(cluster: Cluster, event: Released, now: float) -> Step[Cluster]:
    """From here on it is the user's, who alone ends it."""
    return Step(replace(cluster, owner=None), None, "left to its user")


@TABLE.on(_STANDING, NoticeHeard, to=())
def told_of_its_end(cluster: Cluster, event: NoticeHeard, now: float) -> Step[Cluster]:
    """Nothing is saved yet: whoever asks is told, and the machines are looked at."""
    when = "" if event.seconds is None else f" in {max(0.0, event.seconds):.0f} s"
    if event.what == "end":
        return Step(cluster, None, f"node {event.rank} was told that what runs there ends{when}")
    text = _NOTICES.get(event.what, _NOTICES["terminate"]).format(rank=event.rank, when=when)
    return Step(cluster, (Observe(),), f"its provider says: {text}")


@TABLE.on([phase for phase in P if phase is not P.TERMINATED], HookEnded, to=())
def hook_ended(cluster: Cluster, event: HookEnded, now: float) -> Step[Cluster]:
    """Nothing follows from it; it is told."""
    return Step(cluster, None, f"node {event.rank}, {event.event}: {event.said}")


@TABLE.on((P.UP, P.AUTOSTOPPING), AgentSilent, to=())
def look_closer(cluster: Cluster, event: AgentSilent, now: float) -> Step[Cluster]:
    """Contact lost is not a machine lost: ask the provider first."""
    return Step(cluster, (Observe(),), f"agent silent: {event.reason}")


@TABLE.on(P.UP, LookFailed, to={P.UP})
def not_seen(cluster: Cluster, event: LookFailed, now: float) -> Step[Cluster]:
    """Nothing was learnt, but what is shown is no longer known to be so: the reason says it until somebody answers."""
    complains = cluster.reason is not None and not cluster.reason.startswith(UNSEEN)
    return Step(cluster if complains else replace(cluster, reason=f"{UNSEEN}{event.reason}"))


@TABLE.on(P.UP, AutostopBegan, to={P.AUTOSTOPPING})
def stopping_itself(cluster: Cluster, event: AutostopBegan, now: float) -> Step[Cluster]:
    """The node runs its hooks and then stops; only the provider can tell when it has."""
    verb = "going down" if event.down else "stopping"
    known = replace(cluster, autostop=replace(cluster.autostop, down=event.down))
    return Step(moved(known, P.AUTOSTOPPING, now, f"idle; {verb} by itself"), (), f"idle: {verb} by itself")


@TABLE.on((*_STANDING, P.STOPPED), NodesObserved, to={P.UP, P.DEGRADED, P.AUTOSTOPPING, P.STOPPED, P.STOPPING,
                                                       P.TERMINATING, P.BOOTSTRAPPING})  # fmt: skip
def seen(cluster: Cluster, event: NodesObserved, now: float) -> Step[Cluster]:
    """Record what exists; the state of the machines decides, the agent only where all of them run."""
    return as_seen(cluster, event, now)


@TABLE.on(tuple(P), Swept, to=())
def swept(cluster: Cluster, event: Swept, now: float) -> Step[Cluster]:
    """The story tells of it, and the ledger will ask there what machines that were forgotten have cost."""
    known = event.cloud and event.cloud not in cluster.swept
    told = replace(cluster, swept=(*cluster.swept, event.cloud)) if known else cluster
    return Step(told, None, f"removed by the sweep: {event.what}")


add_to(TABLE)

# --- what means nothing ----------------------------------------------------------------------------------------------

_ALL = tuple(P)


def _ignore_rest(event: type, because: str) -> None:
    ruled = {status for (status, name) in _declared() if name == event.__name__}
    TABLE.ignore([status for status in _ALL if status.value not in ruled], event, because)


def _declared() -> Iterable[tuple[str, str]]:
    return {(before, event) for before, event, _ in TABLE.arrows()}


_ignore_rest(NodesCreated, "outcome of an order that was called off; the sweep ends what it left")
_ignore_rest(AgentsReady, "already known, or outcome of an order that was called off")
_ignore_rest(StartAsked, "under way, or past starting; the request that asked says so to the user")
_ignore_rest(StopAsked, "stopped or going already")
_ignore_rest(DownAsked, "gone already")
_ignore_rest(AutostopAsked, "no node to tell; the request that asked refuses it")
_ignore_rest(AutostopConfigured, "nothing follows from it")
_ignore_rest(AutostopFailed, "the cluster has moved on")
_ignore_rest(AutostopBegan, "the cluster is being stopped, built or ended by order")
_ignore_rest(NodesObserved, "an order under way decides")
_ignore_rest(LookFailed, "nothing was learnt, and an order under way decides")
_ignore_rest(HookEnded, "gone; what its nodes did before is of no consequence")
_ignore_rest(NoticeHeard, "no machine of it runs, or an order under way decides")
_ignore_rest(AgentSilent, "no agent is expected to answer")
_ignore_rest(Due, "an order under way decides")
_ignore_rest(ResizeAsked, "not up; the request that asked says so to the user")
_ignore_rest(StraysEnded, "gone with the rest")
_ignore_rest(Released, "gone already")
_ignore_rest(RepairAsked, "under way, or the cluster is going: whoever asked sees it")
for _late in (
    ProvisionRefused,
    BootstrapFailed,
    NodesStopped,
    NodesTerminated,
    TeardownFailed,
    Planned,
    NotPlanned,
    NodesRemoved,
    WorkEnded,
    WorkNotEnded,
):
    _ignore_rest(_late, "outcome of an order that was called off")

"""What follows from what was seen of a cluster's machines and its head; the rule of `clusters.py` for NodesObserved."""

from sky.core.lifecycle.cluster_facts import Bootstrap, NodesObserved, StopNodes, TerminateNodes
from sky.core.lifecycle.cluster_words import billing_begins, billing_ends, in_state, moved, why
from sky.core.lifecycle.machine import Step
from sky.core.model.clusters import Autostop, Cluster, InstanceState, Phase
from sky.kit.frozen import replace

#: Seconds, beyond what its hooks may take, until a cluster that said it would stop by itself is stopped from here.
AUTOSTOP_OVERDUE = 300.0
#: The reasons of a cluster that stopped by itself, and of one that went.
AUTOSTOPPED, AUTODOWN = "autostopped", "autodown"
#: How the reason of a cluster begins that is shown as it was last seen.
UNSEEN = "as last seen; "


def as_seen(cluster: Cluster, event: NodesObserved, now: float) -> Step[Cluster]:
    """The state of the machines decides, the agent only where all of them run."""
    known = replace(cluster, instances=event.instances or cluster.instances)
    there = [each for each in event.instances if each.state is not InstanceState.TERMINATED]
    running = in_state(there, InstanceState.RUNNING)
    if not there:
        # Ended all the same: what the provider does not list may have left processes, disks or addresses behind.
        words = why(known) if any(each.reason for each in event.instances) else ""
        news = f"its machines are gone: {words}" if words else "its machines are gone"
        told = news if words else "the provider no longer has its machines"
        if cluster.autostop.down and _by_itself(cluster):
            told, news = AUTODOWN, "ended itself"
        lost = moved(billing_ends(known, now), Phase.TERMINATING, now, told)
        return Step(replace(lost, strikes=0), (TerminateNodes(),), f"{news}; removing what is left")
    # One that is neither (it starts, is repaired, or cannot be asked) has not stopped, and is not gone.
    if len(in_state(there, InstanceState.STOPPED, InstanceState.STOPPING)) == len(there):
        return _seen_stopped(known, now)
    if len(running) < cluster.num_nodes:
        return _seen_partly(known, event, now)
    return _seen_running(known, event, now)


def _by_itself(cluster: Cluster) -> bool:
    """Whether it is likely to have stopped for want of work; a job's own does that only where it says so."""
    return cluster.phase is Phase.AUTOSTOPPING or (cluster.autostop.enabled and cluster.owner is None)


def _seen_stopped(cluster: Cluster, now: float) -> Step[Cluster]:
    if cluster.phase is Phase.STOPPED:
        return Step(cluster)
    by_itself = _by_itself(cluster)
    idle = replace(billing_ends(cluster, now), strikes=0)
    if by_itself and cluster.autostop.down:
        return Step(moved(idle, Phase.TERMINATING, now, AUTODOWN), (TerminateNodes(),), "stopped itself; removing it")
    reason = AUTOSTOPPED if by_itself else "its machines were stopped or died: " + why(cluster)
    return Step(replace(moved(idle, Phase.STOPPED, now, reason), autostop=Autostop()), (), reason)


def _seen_partly(cluster: Cluster, event: NodesObserved, now: float) -> Step[Cluster]:
    running = len(in_state(event.instances, InstanceState.RUNNING))
    if cluster.phase is Phase.AUTOSTOPPING:
        return _stop_from_here(cluster, now) if now > _overdue(cluster) else Step(cluster)
    if cluster.phase is Phase.STOPPED and not running:
        return Step(cluster)  # somebody starts it: what comes of that, the next look tells
    reason = f"{running} of {cluster.num_nodes} nodes run: {why(cluster)}"
    # A stop that failed has ended its agents: what became of its jobs only a head that answers can tell.
    orders = (Bootstrap(ran=True),) if event.agent_answers is False else ()
    if cluster.phase is Phase.DEGRADED and cluster.reason == reason:
        return Step(cluster, orders or None)
    return Step(moved(cluster, Phase.DEGRADED, now, reason), orders, reason)


def _seen_running(cluster: Cluster, event: NodesObserved, now: float) -> Step[Cluster]:
    if cluster.phase is Phase.STOPPED:
        again = billing_begins(moved(cluster, Phase.BOOTSTRAPPING, now, "its machines run again"), now)
        return Step(again, (Bootstrap(),), "machines run again")
    if cluster.phase is Phase.AUTOSTOPPING:
        return _stop_from_here(cluster, now) if now > _overdue(cluster) else Step(cluster)
    if event.agent_answers is False:
        reason = f"the agent does not answer: {event.detail}"
        return Step(
            moved(cluster, Phase.BOOTSTRAPPING, now, reason), (Bootstrap(True),), f"{reason}; starting it again"
        )
    if cluster.phase is Phase.DEGRADED and event.agent_answers:
        return Step(replace(moved(cluster, Phase.UP, now), strikes=0), (), "whole again")
    seen_again = (cluster.reason or "").startswith(UNSEEN)
    return Step(replace(cluster, reason=None) if seen_again else cluster)


def _overdue(cluster: Cluster) -> float:
    hooks = sum(float(str(hook.get("timeout", 300.0))) for hook in cluster.autostop.hooks)
    return cluster.status_at + hooks + AUTOSTOP_OVERDUE


def _stop_from_here(cluster: Cluster, now: float) -> Step[Cluster]:
    """The node said that it would stop and did not; a cluster must not stay in between for ever."""
    reason = "it did not stop by itself in time"
    if cluster.autostop.down:
        going = replace(moved(cluster, Phase.TERMINATING, now, reason), strikes=0)
        return Step(going, (TerminateNodes(),), f"{reason}; terminating")
    return Step(replace(moved(cluster, Phase.STOPPING, now, reason), strikes=0), (StopNodes(),), f"{reason}; stopping")

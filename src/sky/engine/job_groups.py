"""Carries out what is ordered for managed jobs that belong together: looks at members and at what is waited for.

Used by `managed_jobs`; `Followers` is run by `plane`. As there, everything is done to rows, but that the nodes of a
group's members are told each other's addresses.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sky.core.errors import AgentRefused, AgentUnreachable
from sky.core.lifecycle import group_events as events
from sky.core.lifecycle.managed_events import CancelAsked, Changed, NotSeen
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.job_groups import Addressed, Kind, Membership, hosts
from sky.core.model.managed_jobs import ManagedJob, Stage
from sky.core.policy.job_groups import Sighting
from sky.engine.desk import Desk
from sky.engine.duties import Alone, Duties

log = logging.getLogger(__name__)

#: Seconds between looks for those whose wait is over without a wake-up, and those that are found at a time.
_LOOK_S, _MOST_FOUND = 10.0, 1000
#: Seconds that pass between two looks at least.
_PAUSE_S = 0.05
#: Stages in which a member's cluster is up, as far as it knows.
_THERE = (Stage.MEETING, Stage.SUBMITTING, Stage.RUNNING)
#: Seconds that the nodes of one member may take to be told addresses.
_TELL_S = 30.0


@dataclass(frozen=True, slots=True)
class _Place:
    """A member with its cluster; None where that is not up."""

    job: ManagedJob
    cluster: Cluster | None


class GroupOrders:
    """See the module."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rows = desk.store.managed_jobs

    async def act(self, job: ManagedJob, order: object) -> object:
        """The outcome of an order. A member whose cluster is not up any more is looked at by its own rules: None."""
        match order:
            case events.LookAtAwaited():
                found = [await self._rows.get(each.id) for each in job.after]
                return events.AwaitedSeen(tuple(None if each is None else each.status for each in found))
            case events.Meet():
                return await self._meet(job)
            case events.Steer():
                await self._post(job, order.free, events.Freed())
                await self._post(job, order.stop, CancelAsked(order.reason))
                return events.Steered()
            case events.CancelMembers():
                asked = CancelAsked(order.user, order.graceful, order.timeout, order.failed)
                await self._post(job, range(len(job.tasks)), asked)
                for id in await self._rows.attached(job.id):
                    await self._desk.post.send("managed_job", self._rows, id, asked)
                return events.Steered()
        return await self._lead(job)

    async def _post(self, parent: ManagedJob, positions: Sequence[int], event: object) -> None:
        for at in positions:
            if parent.group is not None and not parent.group.members[at].done:
                await self._desk.post.send("managed_job", self._rows, parent.group.members[at].id, event)

    # --- addresses -----------------------------------------------------------------------------------------------

    async def _meet(self, job: ManagedJob) -> object:
        """Tell its nodes the addresses of all, once these are known; None if its own cluster is not up."""
        where = job.member
        assert where is not None
        places = await self._places(await self._rows.of_parent(where.parent_id))
        own = next((each.cluster for each in places if each.job.id == job.id), None)
        if own is None:
            return None
        missing = tuple(
            str(each.job.task.name)
            for each in places
            if each.cluster is None and not each.job.task.status.is_terminal()
        )
        late = where.meet_by is not None and self._desk.clock.now() >= where.meet_by
        if missing and not late:
            return events.Alone(missing)
        known = _known(own, places)
        try:
            await self._desk.fleet.introduce(own, hosts(where.group, known))
        except (AgentUnreachable, AgentRefused) as error:
            return NotSeen(f"its nodes could not be told the addresses of its group: {error}")
        return events.Met(known, missing)

    async def _places(self, members: Sequence[ManagedJob]) -> list[_Place]:
        return [_Place(each, await self._cluster(each)) for each in members]

    async def _cluster(self, job: ManagedJob) -> Cluster | None:
        if job.stage not in _THERE or job.cluster_id is None:
            return None
        cluster = await self._desk.store.clusters.get(job.cluster_id)
        up = cluster is not None and cluster.phase in (Phase.UP, Phase.DEGRADED)
        return cluster if cluster is not None and up and len(cluster.instances) == cluster.num_nodes else None

    # --- members -------------------------------------------------------------------------------------------------

    async def _lead(self, parent: ManagedJob) -> object:
        members = await self._rows.of_parent(parent.id)
        group = parent.group
        if group is None or len(members) != len(group.members):
            return NotSeen("not all of its members are on record")
        told = [each.told for each in group.members]
        if group.connects and not parent.cancel_asked:
            told = await self._tell(parent, await self._places(members), told)
        return events.MembersSeen(
            tuple(
                Sighting(
                    each.task,
                    each.stage is Stage.DONE,
                    each.member is not None and each.member.gated,
                    each.cluster_name,
                    each.schedule_state.value,
                    word,
                )
                for each, word in zip(members, told, strict=True)
            )
        )

    async def _tell(self, parent: ManagedJob, places: Sequence[_Place], told: Sequence[str]) -> list[str]:
        """Tell nodes whose job runs what has changed since they were told; what each of them was told last."""
        return list(
            await asyncio.gather(
                *(self._told(parent, place, places, old) for place, old in zip(places, told, strict=True))
            )
        )

    async def _told(self, parent: ManagedJob, place: _Place, places: Sequence[_Place], old: str) -> str:
        if place.cluster is None or place.cluster.phase is not Phase.UP or place.job.stage is not Stage.RUNNING:
            return old
        assert place.job.member is not None
        lines = hosts(place.job.member.group, _known(place.cluster, places))
        word = hashlib.sha256(json.dumps([place.cluster.id, lines]).encode()).hexdigest()[:16]
        if word == old:
            return old
        try:
            async with asyncio.timeout(_TELL_S):
                await self._desk.fleet.introduce(place.cluster, lines)
        except (TimeoutError, AgentUnreachable, AgentRefused) as error:
            # Looked at again before long: what they have is out of date until then.
            log.info("managed job %d: %s was not told the addresses: %s", parent.number, place.job.name, error)
            return old
        return word


class Followers:
    """Wakes those that wait for jobs that have ended. `run` is the loop."""

    def __init__(self, desk: Desk, duties: Duties | None = None) -> None:
        self._desk = desk
        self._duties = duties or Alone()
        self._begun = False

    async def run(self) -> None:
        """Until cancelled."""
        with self._desk.signals.watch("managed_jobs:ended") as ended:
            while True:
                try:
                    if self._duties.has("sweep"):
                        await self.once()
                except Exception:  # a full disk, say: the next round may do better, and none may be the last
                    log.exception("managed jobs that wait for others cannot be woken just now")
                    await self._desk.clock.sleep(1.0)
                await self._desk.clock.sleep(_PAUSE_S)
                await ended.changed(_LOOK_S)

    async def once(self) -> None:
        """One round."""
        rows = self._desk.store.managed_jobs
        found = await rows.waits_over(_MOST_FOUND)
        if not self._begun:
            # What members did while no server ran is seen now, and not when their parents look next.
            found += await rows.leading()
            self._begun = True
        for id in found:
            await self._desk.post.send("managed_job", rows, id, Changed())


# --- what follows from rows ------------------------------------------------------------------------------------------


def _known(viewer: Cluster, places: Sequence[_Place]) -> tuple[Addressed, ...]:
    """Addresses as one cluster reaches them: in its own region those among nodes, elsewhere those from outside."""
    found = []
    for each in places:
        if each.cluster is None:
            continue
        near = _region(viewer) == _region(each.cluster)
        nodes = sorted(each.cluster.instances, key=lambda node: node.rank)
        reached = tuple(node.ip if near else node.external_ip or node.ip for node in nodes)
        found.append(Addressed(str(each.job.task.name), reached))
    return tuple(found)


def _region(cluster: Cluster) -> tuple[str, str] | None:
    if cluster.placement is None:
        return None
    return cluster.placement.offer.cloud, cluster.placement.offer.region


def variables(member: Membership) -> Mapping[str, str]:
    """What a member of a group finds in its environment: where it belongs, and the nodes of each task, head first."""
    found = {"SKYPILOT_JOBGROUP_NAME": member.group} if member.kind is Kind.GROUP else {}
    for each in member.addresses:
        found[f"SKYPILOT_JOBGROUP_NODE_IPS_{_word(each.task)}"] = "\n".join(each.addresses)
    return found


def _word(task: str) -> str:
    return "".join(each if each.isascii() and each.isalnum() else "_" for each in task).upper()

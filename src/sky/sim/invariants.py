"""What has to hold in every world, whatever went wrong in it: looked at while it runs, and once it has come to rest."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sky.core.lifecycle import clusters, jobs, requests
from sky.core.model.jobs import JobPhase

if TYPE_CHECKING:
    from sky.sim.world import World

#: Seconds for which a machine may be without an owner once everything works: two sweeps, and the time they take.
_UNOWNED_S = 200.0


async def meanwhile(world: World) -> None:
    """No machine without a row for longer than the sweep takes to see that twice."""
    living = await world.disk.clusters.living()
    owned = {site.mark for cluster in living for site in cluster.where}
    now = world.loop.time()
    for machine in world.machines():
        if not machine.alive or machine.mark in owned:
            world.since_unowned.pop(machine.name, None)
            continue
        since = world.since_unowned.setdefault(machine.name, now)
        if now - max(since, world.calm_since) > _UNOWNED_S:
            world.violated(f"{machine.name} has run without a row for {now - since:.0f} s")


async def at_rest(world: World) -> None:
    """Everybody has taken everything down, and nothing has gone wrong for a while."""
    await _nothing_left(world)
    await _requests_ended(world)
    await _jobs_as_they_were(world)
    await _stories_along_tables(world)


async def _nothing_left(world: World) -> None:
    for machine in world.machines():
        if machine.alive:
            world.violated(f"{machine.name} ({machine.mark}) is left and costs money")
    for cluster in await world.disk.clusters.living():
        world.violated(f"cluster {cluster.name} is still on record as {cluster.phase}: {cluster.reason}")


async def _requests_ended(world: World) -> None:
    for user in world.users:
        for id in user.requests:
            found = await world.disk.requests.get(id)
            if found is None:
                world.violated(f"request {id} was taken and is not on record")
            elif not found.status.is_terminal():
                world.violated(f"request {id} ({found.name}) never ended: {found.status}")


async def _jobs_as_they_were(world: World) -> None:
    started = Counter(key for machine in world.machines() for key in machine.node.started)
    for key, times in started.items():
        if times > 1:
            world.violated(f"job {key} was started {times} times")
    ever = await world.disk.clusters.since(0.0)
    for cluster in ever:
        for job in await world.disk.jobs.of_cluster(cluster.id):
            if job.phase is not JobPhase.DONE:
                world.violated(f"job {job.id} of {cluster.name} never ended: {job.phase} {job.status}")
            if job.status.value in ("SUCCEEDED", "FAILED") and not started[job.id]:
                world.violated(f"job {job.id} is {job.status} and never ran")


async def _stories_along_tables(world: World) -> None:
    for noun, table in (("cluster", clusters.TABLE), ("job", jobs.TABLE), ("request", requests.TABLE)):
        allowed = {(before, event, after) for before, event, after in table.arrows()}
        ignored = set(table.ignored())
        for entry in await world.disk.stories.read(noun, "", limit=0):
            step = (entry.before, entry.kind, entry.after)
            if step not in allowed and (entry.before, entry.kind) not in ignored:
                world.violated(f"{noun} {entry.name} went {step}")

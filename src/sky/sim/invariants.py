"""What has to hold in every world, whatever went wrong in it: looked at while it runs, and once it has come to rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import requests
from sky.core.lifecycle.billing import MAYBE
from sky.core.lifecycle.machine import Table
from sky.core.model.clusters import Cluster
from sky.core.model.jobs import JobPhase
from sky.core.model.ledger import Billed, Question
from sky.sim import managed_invariants, spot
from sky.sim.world import World

#: Seconds for which a machine may be without an owner once everything works: a sweep, and the time that it takes.
_UNOWNED_S = 100.0
#: Seconds for which a machine may come or go unseen in the worst weather, and USD per hour of the dearest cluster.
_BLIND_S, _DEAREST = 900.0, 3 * 0.8 * spot.DEAREST
#: USD by which the ledger may differ from what the clouds charge for a cluster.
_CENT = 0.005


async def meanwhile(world: World) -> None:
    """No machine without a row for longer than the sweep takes to see that twice, and none that is there twice."""
    # What another cloud did not let go of has the same mark there, and is on record as a stray.
    twice = Counter((each.mark, each.rank, each.name.partition("-")[0]) for each in world.machines() if each.alive)
    for (mark, rank, _), times in twice.items():
        if times > 1:
            world.violated(f"{times} machines are rank {rank} of {mark}")
    living = await world.disk.clusters.living()
    await managed_invariants.meanwhile(world, living)
    owned = {site.mark for cluster in living for site in cluster.where}
    now = world.loop.time()
    for machine in world.machines():
        if not machine.alive or machine.mark in owned:
            world.since_unowned.pop(machine.name, None)
            continue
        since = world.since_unowned.setdefault(machine.name, now)
        if now - max(since, world.calm_since) > _UNOWNED_S:
            world.violated(f"{machine.name} has run without a row for {now - since:.0f} s")


async def at_rest(world: World) -> AsyncIterator[str]:
    """What is wrong although everybody has taken everything down and nothing has gone wrong for a while."""
    for machine in world.machines():
        if machine.alive:
            yield f"{machine.name} ({machine.mark}) is left and costs money"
    for cluster in await world.disk.clusters.living():
        yield f"cluster {cluster.name} is still on record as {cluster.phase}: {cluster.reason}"
    for pool in await world.disk.pools.living():
        yield f"pool {pool.name} is still on record as {pool.stage}: {[each.state.value for each in pool.workers]}"
    for key in await world.disk.pools.stray_claims():
        yield f"the claim {key} is still on record"
    for cloud in world.clouds.values():
        for line in cloud.unheard_of:
            yield line
    for check in (_requests_ended, _jobs_as_they_were, managed_invariants.at_rest, _stories_along_tables, _money):
        async for line in check(world):
            yield line


async def _requests_ended(world: World) -> AsyncIterator[str]:
    for user in world.people:
        for id in user.requests:
            found = await world.disk.requests.get(id)
            if found is None:
                yield f"request {id} was taken and is not on record"
            elif not found.status.is_terminal():
                yield f"request {id} ({found.name}) never ended: {found.status}"


async def _jobs_as_they_were(world: World) -> AsyncIterator[str]:
    started = Counter(str(job.spec.get("task_id")) for machine in world.machines() for job in machine.node.ran)
    for task, times in started.items():
        if times > 1 and not task.startswith(managed_invariants.MANAGED):
            yield f"{task} was started {times} times"
    for cluster in await world.disk.clusters.since(0.0):
        for job in await world.disk.jobs.of_cluster(cluster.id):
            if job.phase is not JobPhase.DONE:
                yield f"job {job.id} of {cluster.name} never ended: {job.phase} {job.status}"
            if job.status.value in ("SUCCEEDED", "FAILED") and not started[job.task_id]:
                yield f"job {job.id} is {job.status} and never ran"


async def _stories_along_tables(world: World) -> AsyncIterator[str]:
    """Each step is one that the table knows, and begins where the one before it ended."""
    tables: dict[str, Table[Any]] = {"cluster": cluster_life.TABLE, "request": requests.TABLE}
    for noun, id in await _everything(world):
        stands = ""
        for line in await world.disk.stories.read(noun, id, limit=100_000):
            if stands != line.before:
                yield f"{noun} {id} was {stands}, and went from {line.before} to {line.after} by {line.kind}"
            stands = line.after
            # Stories of jobs show the status that users see, which the phases of their table lie behind.
            known = line.kind == "Opened" or noun not in tables
            if not (known or _known(tables[noun], line.before, line.kind, line.after)):
                yield f"a {noun} went from {line.before} to {line.after} by {line.kind}"


async def _everything(world: World) -> list[tuple[str, str]]:
    found = [("request", id) for user in world.people for id in user.requests]
    for cluster in await world.disk.clusters.since(0.0):
        found.append(("cluster", cluster.id))
        found += [("job", job.id) for job in await world.disk.jobs.of_cluster(cluster.id)]
    return found


def _known(table: Table[Any], before: str, kind: str, after: str) -> bool:
    ignored, arrows = _ways(table)
    return (before, kind) in ignored or (before, kind, after) in arrows


@cache
def _ways(table: Table[Any]) -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str, str]]]:
    return frozenset(table.ignored()), frozenset(table.arrows())


async def _money(world: World) -> AsyncIterator[str]:
    """The ledger is what the clouds charge, to the cent; what clusters themselves know, but for what nobody saw."""
    charged: dict[str, float] = {}
    for machine in world.machines():
        charged[machine.cluster] = charged.get(machine.cluster, 0.0) + machine.cost(world.clock.now())
    machines = {machine.name for machine in world.machines()}
    booked: dict[str, float] = {}
    for _, entry in await world.disk.ledger.lines(Question(ended=True)):
        booked[entry.cluster_id] = booked.get(entry.cluster_id, 0.0) + entry.cost(world.clock.now())
        if entry.kind is Billed.MACHINE and entry.resource not in machines and entry.note != MAYBE:
            yield f"{entry.resource} of {entry.cluster_name} is in the ledger and never was"
    moved = await spot.price_moves(world)
    clusters = await world.disk.clusters.since(0.0)
    over = {cluster.id for cluster in clusters if not cluster.alive}
    for _, entry in await world.disk.ledger.lines(Question()):
        if entry.cluster_id in over:
            yield f"cluster {entry.cluster_name} is gone and its line for {entry.resource} is still open"
    for cluster in clusters:
        if any(end is None for _, end, _ in cluster.billed) and not cluster.alive:
            yield f"cluster {cluster.name} is gone and its bill is still open"
        cost, bill = charged.get(cluster.id, 0.0), booked.get(cluster.id, 0.0)
        if abs(cost - bill - moved.get(cluster.id, 0.0)) > _CENT:
            yield f"cluster {cluster.name} was charged {cost:.4f}, in the ledger is {bill:.4f}"
        recorded = cluster_cost(cluster, world.clock.now())
        if abs(recorded - charged.get(cluster.id, 0.0)) > _BLIND_S / 3600 * _DEAREST:
            yield f"cluster {cluster.name} cost {charged.get(cluster.id, 0.0):.3f}, on record is {recorded:.3f}"


def cluster_cost(cluster: Cluster, now: float) -> float:
    """USD that a cluster has cost by its record."""
    return sum(((now if end is None else end) - begin) / 3600 * price for begin, end, price in cluster.billed)

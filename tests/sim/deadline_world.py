"""One managed job with a deadline in a world of its own: the real engine, clouds made of numbers, a spot market."""

import asyncio
import logging
import random
from dataclasses import dataclass
from random import Random

from sky.core.model.managed_jobs import ManagedJob, Stage
from sky.core.ports import JobQuery
from sky.kit.ids import drawn_from
from sky.sim.cloud import TYPES
from sky.sim.faults import Fault
from sky.sim.loop import EPOCH, SimLoop, run
from sky.sim.server import Server
from sky.sim.world import World

#: USD per hour of the machine that such a job gets on demand.
ON_DEMAND = TYPES["small"][2]


@dataclass(frozen=True)
class Played:
    """How it went: the job's row, what its machines cost, seconds until it ended, its story, and (spot, from, to) of
    each machine in seconds since the job was submitted; how many clusters it had at once."""

    job: ManagedJob
    cost: float
    took: float
    story: tuple[str, ...]
    machines: tuple[tuple[bool, float, float], ...]
    trace: tuple[str, ...]
    clusters: int


class Refused(Exception):
    """The job was not taken on."""


def play_job(
    seed: int, faults: tuple[Fault, ...], task: dict[str, object], until: float = 6000.0, **more: object
) -> Played:
    """Launch a task as a managed job at once, and let the market do what it does."""
    before = random.getstate()
    random.seed(seed)
    found: list[Played] = []

    async def main(loop: SimLoop) -> None:
        loop._most = 400_000
        found.append(await _play(World(loop, seed), faults, {"tasks": [task], "edges": []}, until, more))

    ids = Random(f"{seed}:ids")
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with drawn_from(ids.randbytes):
            run(main)
    finally:
        logging.disable(level)
        random.setstate(before)
    return found[0]


async def _play(
    world: World, faults: tuple[Fault, ...], dag: dict[str, object], until: float, more: dict[str, object]
) -> Played:
    server = Server(world, "server", alone=True)
    world.servers = [server]
    life = asyncio.ensure_future(server.live())
    weather = asyncio.ensure_future(_weather(world, faults))
    body = {"dag": dag, "name": "d", **more}
    request = await world.ask(lambda plane: plane.submit("jobs/launch", body, user="u"))
    done = await world.ask(lambda plane: plane.wait(request.id, 60.0))
    if done.error is not None:
        for other in (weather, life):
            other.cancel()
        await asyncio.gather(weather, life, return_exceptions=True)
        raise Refused(str(done.error["message"]))

    async def job() -> ManagedJob:
        listed = await world.ask(lambda plane: plane.managed.listed(JobQuery()))
        return listed.jobs[0]

    while (now := await job()).stage is not Stage.DONE and world.loop.time() < until:
        await asyncio.sleep(5.0)
    story = await world.ask(lambda plane: plane.managed.story(now))
    ended = now.tasks[0].ended_at or world.clock.now()
    cost, machines = 0.0, []
    for each in world.machines():
        for begin, end in each.billed:
            last = world.clock.now() if end is None else end
            cost += each.price * (last - begin) / 3600
            machines.append((each.spot, begin - now.created_at, last - now.created_at))
    spans = [(each.created_at, each.ended_at or world.clock.now()) for each in await world.disk.clusters.since(0.0)]
    at_once = max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)
    for other in (weather, life):
        other.cancel()
    await asyncio.gather(weather, life, return_exceptions=True)
    world.disk._file.close()
    told = tuple(f"{each.time - EPOCH:9.1f} {each.text}" for each in story)
    return Played(now, cost, ended - now.created_at, told, tuple(machines), tuple(world.trace), at_once)


async def _weather(world: World, faults: tuple[Fault, ...]) -> None:
    for fault in sorted(faults, key=lambda each: each.at):
        await asyncio.sleep(max(0.0, fault.at - world.loop.time()))
        fault.strike(world)


def deadline_task(work: float, deadline: float, restart: float, policy: str = "adaptive", every: float = 20.0, **more):
    """A task that computes so long and writes checkpoints, as `jobs launch` would send it."""
    recovery = {
        "strategy": "DEADLINE", "deadline": deadline, "work": work, "restart_overhead": restart, "policy": policy,
    }  # fmt: skip
    return {
        "name": "d", "run": f"sim {work:g} 0 {every:g}", "checkpoint": {"path": "~/c"},
        "resources": {"cpus": "2+", "job_recovery": recovery}, **more,
    }  # fmt: skip

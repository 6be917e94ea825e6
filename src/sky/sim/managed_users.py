"""People of a simulated world who have their jobs managed: they launch some, cancel one or another, and wait."""

from __future__ import annotations

import asyncio
from random import Random

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.core.model.managed_jobs import Stage
from sky.core.model.requests import Request
from sky.core.policy.catalogue import POLICIES
from sky.core.ports import JobQuery
from sky.engine.plane import ControlPlane
from sky.kit.ids import request_id
from sky.sim.managed_invariants import GRAPH
from sky.sim.world import World


class Manager:
    """One of them. What `live` does next is drawn from `rng`."""

    def __init__(self, world: World, name: str, rng: Random) -> None:
        self._world = world
        self.name = name
        self._rng = rng
        #: Apart from the other draws, so that these are the same with and without families.
        self._families = world.chance(f"families of {name}")
        self.doing = ""
        self.requests: list[str] = []

    async def live(self) -> None:
        """A day in the life: it ends when nothing of the jobs is left."""
        await asyncio.sleep(self._rng.uniform(0, 60))
        for _ in range(self._rng.randint(1, 3)):
            await self._do("jobs/launch", self._body())
            await asyncio.sleep(self._rng.uniform(0, 40))
            if self._rng.random() < 0.3:
                graceful = self._rng.random() < 0.5
                await self._do("jobs/cancel", {"all": True, "graceful": graceful, "graceful_timeout": 10})
        await self._until_over()

    def _body(self) -> dict[str, object]:
        tasks = [self._task(at) for at in range(self._rng.choice((1, 1, 1, 2)))]
        edges = [[at, at + 1] for at in range(len(tasks) - 1)]
        body: dict[str, object] = {"dag": {"tasks": tasks, "edges": edges}, "name": self.name}
        if self._rng.random() < 0.3:
            body["num_jobs"] = 3
        return self._family() if self._families.random() < 0.25 else body

    def _family(self) -> dict[str, object]:
        """Tasks that run together, a diamond of them, or one for each of three values."""
        kind = self._families.choice(("group", "diamond", "sweep"))
        tasks = [self._task(at, self._families) for at in range({"group": 2, "diamond": 4, "sweep": 1}[kind])]
        dag: dict[str, object] = {"name": self.name, "tasks": tasks}
        if kind == "group":
            dag |= {"execution": "parallel", "primary_tasks": self._families.choice(([], ["t0"]))}
        elif kind == "diamond":
            for task, after in zip(tasks, GRAPH, strict=True):
                task["depends_on"] = list(after)
        else:
            matrix = {"V": ["a", "b", "c"]}
            tasks[0]["sweep"] = {"matrix": matrix, "max_parallel": self._families.choice((1, 2))}
        return {"dag": dag, "name": self.name}

    def _task(self, at: int, draw: Random | None = None) -> dict[str, object]:
        rng = draw or self._rng
        # Long enough that most lose their machines, some more than once.
        seconds, code = rng.choice((5, 40, 90, 150)), rng.choice((0, 0, 0, 1))
        recovery: dict[str, object] = {
            "strategy": rng.choice(("EAGER_NEXT_REGION", "FAILOVER", "DEADLINE")),
            "max_restarts_on_errors": rng.choice((0, 1)),
        }
        every = ""
        if recovery["strategy"] == "DEADLINE":
            more = {"work": seconds, "deadline": 60 + 2 * seconds, "restart_overhead": 40}
            recovery |= {**more, "policy": rng.choice(sorted(POLICIES))}
            every = " 10"
        resources = {"cpus": "2+", "use_spot": rng.random() < 0.7, "job_recovery": recovery}
        nodes = rng.choice((1, 1, 2, 3))
        return {"name": f"t{at}", "run": f"sim {seconds} {code}{every}", "num_nodes": nodes, "resources": resources}

    async def _until_over(self) -> None:
        """Jobs that no place would have are cancelled in the end."""
        since = self._world.loop.time()
        while True:
            listed = await self._world.ask(lambda plane: plane.managed.listed(JobQuery(users=[self.name])))
            left = [job for job in listed.jobs if job.stage is not Stage.DONE]
            if not left:
                return
            self.doing = f"waits for {[(job.number, job.stage.value, job.reason) for job in left]}"
            if self._world.loop.time() - since > 600:
                since = self._world.loop.time()
                await self._do("jobs/cancel", {"all": True})
            await asyncio.sleep(20)

    async def _do(self, name: str, body: dict[str, object]) -> None:
        """One request to its end, through as many servers as it takes."""
        world, id = self._world, request_id()
        self.requests.append(id)

        async def submit(plane: ControlPlane) -> Request:
            return await plane.submit(name, body, user=self.name, request_id=id)

        world.tell(f"{self.name} asks for {name} {id[:8]}")
        while True:
            try:
                await world.ask(submit)
                break
            except ServerTemporarilyUnavailableError:
                await asyncio.sleep(2.0)
        done = None
        while done is None or not done.status.is_terminal():
            done = await world.ask(lambda plane: plane.wait(id, 20.0))
        world.tell(f"{self.name}'s {name} {id[:8]} is {done.status.value}")

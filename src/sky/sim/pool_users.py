"""People of a simulated world who have a pool: they change it, run jobs on its workers, and take it down."""

from __future__ import annotations

import asyncio

from sky.core.model.pools import PoolStage
from sky.sim.managed_users import Manager


class PoolKeeper(Manager):
    """One of them."""

    async def live(self) -> None:
        """A day in the life: it ends when nothing of the pool is left."""
        await asyncio.sleep(self._rng.uniform(0, 30))
        await self._apply()
        for _ in range(self._rng.randint(2, 4)):
            await self._do("jobs/launch", self._jobs())
            await asyncio.sleep(self._rng.uniform(0, 60))
            what = self._rng.random()
            if what < 0.3:
                await self._apply()
            elif what < 0.5:
                await self._do("jobs/cancel", {"pool": self.name})
        await self._until_over()
        self.doing = "takes the pool down"
        await self._do("jobs/pool_down", {"names": [self.name], "purge": True})
        await self._until_gone()

    async def _apply(self) -> None:
        await self._do("jobs/pool_apply", {"pool_name": self.name, "task": self._pool(), "mode": self._mode()})

    def _mode(self) -> str:
        return self._rng.choice(("rolling", "blue_green"))

    def _pool(self) -> dict[str, object]:
        size: dict[str, object] = {"workers": self._rng.randint(1, 3)}
        if self._rng.random() < 0.4:
            size = {"min_workers": 0, "max_workers": 3, "upscale_delay_seconds": 20, "downscale_delay_seconds": 30}
        setup = self._rng.choice(("sim 1 0", "sim 3 0", None))
        resources = {"cpus": "2+", "use_spot": self._rng.random() < 0.5}
        task: dict[str, object] = {"pool": size, "resources": resources, "num_nodes": self._rng.choice((1, 1, 2))}
        return task if setup is None else {**task, "setup": setup}

    def _jobs(self) -> dict[str, object]:
        seconds, code = self._rng.choice((5, 30, 60)), self._rng.choice((0, 0, 0, 1))
        task = {"name": "t", "run": f"sim {seconds} {code}"}
        body: dict[str, object] = {"dag": {"tasks": [task], "edges": []}, "name": self.name, "pool": self.name}
        if self._rng.random() < 0.6:
            body["num_jobs"] = self._rng.randint(2, 6)
        return body

    async def _until_gone(self) -> None:
        """A request that failed, with its server say, is made again."""
        while True:
            pool = await self._world.ask(lambda plane: plane.store.pools.by_name(self.name))
            if pool is None:
                return
            self.doing = f"waits for the end of its pool: {pool.stage.value}, {[w.state.value for w in pool.workers]}"
            if pool.stage is PoolStage.ACTIVE:
                await self._do("jobs/pool_down", {"names": [self.name], "purge": True})
            await asyncio.sleep(10)

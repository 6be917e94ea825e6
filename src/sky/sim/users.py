"""People of a simulated world: they launch, run, stop, start, change their minds, and take all down at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.core.model.requests import Request
from sky.engine.plane import ControlPlane
from sky.kit.ids import request_id
from sky.sim.world import World


class User:
    """One of them, with a cluster of the same name. What `live` does next is drawn from `rng`."""

    def __init__(self, world: World, name: str, rng: Random) -> None:
        self._world = world
        self.name = name
        self._rng = rng
        #: What this user waits for, for whoever wonders why a world does not come to rest.
        self.doing = ""
        self.requests: list[str] = []

    async def live(self) -> None:
        """A day in the life."""
        await asyncio.sleep(self._rng.uniform(0, 30))
        await self._launch()
        for _ in range(self._rng.randint(1, 4)):
            await asyncio.sleep(self._rng.uniform(0, 40))
            deed = self._rng.choice((self._launch, self._exec, self._exec, self._stop, self._start, self._autostop,
                                     self._cancel, self._read))  # fmt: skip
            await deed()
        await asyncio.sleep(self._rng.uniform(0, 30))
        await self._until_down()

    def _task(self) -> dict[str, object]:
        seconds, code = self._rng.choice((1, 8, 30, 90)), self._rng.choice((0, 0, 0, 1))
        resources = {"cpus": "2+", "use_spot": self._rng.random() < 0.5}
        return {"run": f"sim {seconds} {code}", "num_nodes": self._rng.choice((1, 1, 2, 3)), "resources": resources}

    async def _launch(self) -> None:
        body: dict[str, object] = {"task": self._task(), "cluster_name": self.name}
        if self._rng.random() < 0.2:
            body["retry_until_up"] = True
        if self._rng.random() < 0.3:
            body |= {"idle_minutes_to_autostop": self._rng.choice((0, 1)), "down": self._rng.random() < 0.5}
        if self._rng.random() < 0.2:
            body["config"] = {"provision": {"hedge": 2}}
        await self._do("launch", body, gives_up=0.25)

    async def _exec(self) -> None:
        await self._do("exec", {"task": {**self._task(), "num_nodes": 1}, "cluster_name": self.name})

    async def _stop(self) -> None:
        await self._do("stop", {"cluster_name": self.name})

    async def _start(self) -> None:
        await self._do("start", {"cluster_name": self.name})

    async def _autostop(self) -> None:
        await self._do("autostop", {"cluster_name": self.name, "idle_minutes": self._rng.choice((-1, 0, 1)),
                                    "down": self._rng.random() < 0.5})  # fmt: skip

    async def _cancel(self) -> None:
        await self._do("cancel", {"cluster_name": self.name, "all": True})

    async def _read(self) -> None:
        """Follow the newest log from its beginning: what comes has no gap and no repeat."""
        self.doing = "read"
        whole = b""

        async def piece(plane: ControlPlane) -> bool:
            nonlocal whole
            async for each in plane.job_log(
                self.name, None, follow=False, tail=0, offset=len(whole), which="run", rank=None
            ):
                whole += each.data
            return True

        try:
            async with asyncio.timeout(60):
                await self._world.ask(piece)
        except Exception as error:  # noqa: BLE001 - there may be no cluster, no job, no server
            self._world.tell(f"{self.name} cannot read: {type(error).__name__}")
        lines = whole.decode().splitlines()
        if lines != [f"second {number:06d}" for number in range(len(lines))]:
            self._world.violated(f"a log has a gap or a repeat: {lines[:3]} … {lines[-3:]}")

    async def _until_down(self) -> None:
        """Nobody leaves before everything is down."""
        hurried = self._rng.random() < 0.4
        while True:
            # Who is in a hurry gives up on what a cloud will not let go, and leaves it to the sweep.
            ended = await self._do("down", {"cluster_name": self.name, "purge": hurried})
            left = await self._world.ask(lambda plane: plane.clusters([self.name]))
            if not left:
                return
            self._world.tell(f"{self.name} is not down yet: {ended}")
            await asyncio.sleep(10)

    async def _do(self, name: str, body: dict[str, object], gives_up: float = 0.0) -> str:
        """One request to its end, through as many servers as it takes; its error, if any."""
        world, id = self._world, request_id()
        self.doing = f"{name} {id}"
        self.requests.append(id)

        async def submit(plane: ControlPlane) -> Request:
            return await plane.submit(name, body, user=self.name, request_id=id)

        world.tell(f"{self.name} asks for {name} {id[:8]}")
        await self._submitted(submit)
        if self._rng.random() < gives_up:
            await asyncio.sleep(self._rng.uniform(0.0, 40.0))
            await self._call_off(id)
        done: Any = None
        while done is None or not done.status.is_terminal():
            done = await world.ask(lambda plane: plane.wait(id, 20.0))
        said = str((done.error or {}).get("message", ""))[:120]
        world.tell(f"{self.name}'s {name} {id[:8]} is {done.status.value} {said}")
        self.doing = ""
        return said

    async def _submitted(self, submit: Callable[[ControlPlane], Awaitable[Request]]) -> None:
        while True:
            try:
                await self._world.ask(submit)
                return
            except ServerTemporarilyUnavailableError:
                await asyncio.sleep(2.0)

    async def _call_off(self, id: str) -> None:
        while True:
            try:
                await self._world.ask(lambda plane: plane.cancel_requests([id], user=self.name))
                return
            except ServerTemporarilyUnavailableError:
                await asyncio.sleep(2.0)

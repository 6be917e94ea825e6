"""What those ask of a control plane who look after its server: is it well, how much has it to do, its keys, a back-up.

Made by `plane`, asked by `server.routes.upkeep`.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sky.core.errors import NotSupportedError, ServerTemporarilyUnavailableError
from sky.core.model.vitals import Rotation, Vitals
from sky.core.ports import Store
from sky.engine.quarantine import NOTICE
from sky.kit.clock import Clock

#: Seconds within which the records have to answer.
_ANSWER_S = 3.0
#: Adds a key for what is sealed, and gives its id.
NewKey = Callable[[], str]


class Upkeep:
    """See the module. `loops` are the tasks that have to run, `held` says how many rows are driven by noun."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        loops: Sequence["asyncio.Task[None]"],
        held: Callable[[], Mapping[str, int]],
        connections: Callable[[], int],
        new_key: NewKey | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._loops = loops
        self._held = held
        self._connections = connections
        self._new_key = new_key
        self._rotating: asyncio.Task[Rotation] | None = None

    async def trouble(self) -> list[str]:
        """What keeps this server from its work, in words; empty when it is well."""
        found = [f"the loop '{task.get_name()}' has ended" for task in self._loops if task.done()]
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._store.get_value("ready")
        except (ServerTemporarilyUnavailableError, TimeoutError, OSError) as error:
            found.append(f"the records do not answer: {error or type(error).__name__}")
        return found

    async def notice(self) -> str:
        """What somebody has to look at; empty if there is nothing, or the records do not answer."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._store.get_value(NOTICE) or ""
        except (ServerTemporarilyUnavailableError, TimeoutError, OSError):
            return ""

    async def vitals(self) -> Vitals:
        """How it is now."""
        counts = await self._store.counts(self._clock.now())
        reads, writes = self._store.spent()
        return Vitals(counts, self._held(), reads, writes, self._connections())

    async def rotate_key(self, wait_s: float, *, going_on: bool = False) -> Rotation:
        """Use a new key from now on, and seal everything with it. How far that is after `wait_s` seconds at most.

        It goes on when nobody waits any more. One that is under way is waited for, no other begun; `going_on` begins
        none in any case. Raises NotSupportedError, ValueError where there is none to go on.
        """
        if self._rotating is None or (self._rotating.done() and not going_on):
            if going_on:
                raise ValueError(
                    "No key is being exchanged: the server was started anew, and seals the rest by itself."
                )
            if self._new_key is None:
                raise NotSupportedError("This server's records are not sealed, so there is no key to exchange.")
            self._rotating = asyncio.create_task(self._rotate(self._new_key), name="new key")
        done, _ = await asyncio.wait((self._rotating,), timeout=wait_s)
        return self._rotating.result() if done else Rotation()

    async def _rotate(self, new_key: NewKey) -> Rotation:
        # A KMS may be asked, which takes its time.
        key = await asyncio.to_thread(new_key)
        return Rotation(key, await self._store.reseal(), over=True)

    async def stop(self) -> None:
        """Nothing is under way any more. What is not sealed anew is when the next server opens the records."""
        if self._rotating is not None:
            self._rotating.cancel()
            await asyncio.gather(self._rotating, return_exceptions=True)

    async def backup(self, path: Path) -> None:
        """Copy the records as of one moment into a new file. Raises NotSupportedError, FileExistsError."""
        await self._store.backup(str(path))

    async def rows(self, most: int) -> Mapping[str, Iterable[Mapping[str, object]]]:
        """The newest rows and lines, `most` of each, without anything that a user said."""
        return await self._store.rows(most)

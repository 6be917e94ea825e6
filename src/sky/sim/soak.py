"""Many thousands of seeds, by several processes, for as long as there is time; another day it goes on from there.

`python -m sky.sim soak` is this. What was played is in a `Record`; a seed that breaks something is shrunk by whoever
played it.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sky.sim.record import Record

#: Seconds for one seed with its shrinking, after which a player counts as stuck; between two writes of the record.
_STUCK_S, _WRITE_S = 300.0, 10.0


@dataclass(slots=True)
class Tally:
    """How a soak went: seeds played, those that broke something, seconds on our clock and in their worlds."""

    played: int = 0
    failed: list[int] = field(default_factory=list)
    took: float = 0.0
    simulated: float = 0.0

    def __str__(self) -> str:
        pace = 60 * self.played / self.took if self.took else 0.0
        return (
            f"{self.played} seeds in {self.took:.0f} s, {pace:.0f} per minute, {self.simulated / 3600:.1f} hours of "
            f"their own time; {len(self.failed)} failed{f': {self.failed[:20]}' if self.failed else ''}"
        )


class Soak:
    """Plays the seeds `first` to `last` that `record` does not have, after those that failed before.

    `say` is told of each that breaks something, and now and then how far it is. `how` are words for `player`.
    """

    def __init__(
        self, record: Record, first: int, last: int, say: Callable[[str], None], how: Sequence[str] = ()
    ) -> None:
        self._record = record
        self._say = say
        self._how = how
        self._began = self._written = time.monotonic()
        self._left = self._seeds(first, last)
        self.tally = Tally()

    def _seeds(self, first: int, last: int) -> Iterator[int]:
        again = sorted(seed for seed in self._record.broken if first <= seed <= last)
        yield from again
        for seed in self._record.held.missing(first, last):
            if seed not in again:
                yield seed

    async def run(self, jobs: int, seconds: float | None) -> Tally:
        """Play until done, out of time, or cancelled; what was played is on record in any case."""
        players = [asyncio.ensure_future(self._player()) for _ in range(jobs)]
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*players)
        except TimeoutError:
            pass
        finally:
            for each in players:
                each.cancel()
            await asyncio.gather(*players, return_exceptions=True)
            self._record.write()
            self.tally.took = time.monotonic() - self._began
        return self.tally

    async def _player(self) -> None:
        """One process, and another in its place if it gets stuck."""
        for seed in self._left:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sky.sim.player", *self._how,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                await self._feed(process, seed)
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()

    async def _feed(self, process: asyncio.subprocess.Process, seed: int | None) -> None:
        """Have a process play one seed after the other, until it fails to."""
        assert process.stdin is not None and process.stdout is not None
        while seed is not None:
            process.stdin.write(f"{seed}\n".encode())
            line = await _line(process.stdout)
            if line is None:
                self._broke(seed, [f"it was still played after {_STUCK_S:.0f} s"], [])
                return
            if not line:
                self._broke(seed, ["the process that played it ended"], [])
                return
            self._heard(json.loads(line))
            seed = next(self._left, None)

    def _heard(self, told: dict[str, Any]) -> None:
        self.tally.simulated += told["seconds"]
        if told["broken"]:
            self._broke(told["seed"], told["broken"], told["faults"])
            return
        self.tally.played += 1
        self._record.holds(told["seed"])
        now = time.monotonic()
        if now - self._written > _WRITE_S:
            self._record.write()
            self._written, self.tally.took = now, now - self._began
            self._say(f"at seed {told['seed']}: {self.tally}")

    def _broke(self, seed: int, broken: list[str], faults: list[str]) -> None:
        self.tally.played += 1
        self.tally.failed.append(seed)
        self._record.breaks(seed, broken, faults)
        self._say(f"seed {seed}: {'; '.join(broken)[:500]} (by {', '.join(faults) or 'no faults'})")


async def _line(output: asyncio.StreamReader) -> bytes | None:
    """The next line; None if it does not come. Only seconds count in which we run: all of us may have been stopped."""
    line = asyncio.ensure_future(output.readline())
    try:
        for _ in range(round(_STUCK_S)):
            if (await asyncio.wait((line,), timeout=1.0))[0]:
                return line.result()
        return None
    finally:
        line.cancel()

"""What the jobs of a node do once it is told that it will be taken away: a signal, scripts, each once.

Built and asked by `server.py`. A job says in its `care` what it wants; how that ended is told to the head, which keeps
it among its events. The end of the machine is not waited for by anybody here.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any, Callable, Dict, Set

from .hooks import log_output
from .node import Node
from .notices import Notice
from .shell import run_script
from .tasks import Task, Tasks

#: Announcements of an end; advice to move is none.
FINAL = ("terminate", "stop", "hibernate", "end")
EVENT = "preemption"
_TIMED_OUT = 124


class Farewells:
    """The last chance of the jobs on this node."""

    def __init__(
        self, node: Node, tasks: Tasks, clock: Callable[[], float], tell: Callable[[Dict[str, Any]], None]
    ) -> None:
        self._node = node
        self._tasks = tasks
        self._clock = clock
        self._tell = tell
        self._running: Set[asyncio.Future[None]] = set()

    def begin(self, notice: Notice) -> None:
        """Start what the running jobs want done; returns at once."""
        for key, task in self._tasks.living("run") if notice.what in FINAL else ():
            if self._tasks.claim_farewell(task):
                work = asyncio.ensure_future(self._say(key, task, notice))
                self._running.add(work)
                work.add_done_callback(self._running.discard)

    async def _say(self, key: str, task: Task, notice: Notice) -> None:
        care = self._tasks.care_of(task)
        if care is None or care.farewell is None:
            return
        # As it is now: a job that ends meanwhile is forgotten.
        told = self._tasks.told(key)
        if care.farewell.signal is not None:
            count = await self._tasks.signal(key, task, care.farewell.signal)
            self._report(key, "SIG%s was sent to %d process(es)" % (care.farewell.signal, count))
        for script in care.farewell.scripts:
            left = script["timeout"] if notice.deadline is None else notice.deadline - self._clock()
            await self._run(key, script["run"], max(0.1, min(script["timeout"], left)), told)

    async def _run(self, key: str, script: str, seconds: float, told: Dict[str, str]) -> None:
        env = dict(told, SKYPILOT_HOOK_EVENT=EVENT, SKYPILOT_GRACE_PERIOD_SECONDS="%g" % seconds)
        try:
            rc, output = await run_script(script, self._node.home, env, seconds)
        except OSError as error:
            self._report(key, "its script could not be run: %s" % error)
            return
        late = " (it took longer than %g s)" % seconds if rc == _TIMED_OUT else ""
        self._report(key, "its script ended with exit code %d%s" % (rc, late))
        with suppress(OSError):  # a full disk: the story has it all the same
            log_output(self._node.home, EVENT, output)

    def _report(self, key: str, text: str) -> None:
        print("agent: %s, job %s: %s" % (EVENT, key, text), file=sys.stderr, flush=True)
        self._tell({"hook": EVENT, "at": self._clock(), "key": key, "text": text})

    async def close(self) -> None:
        """Stop waiting for scripts; they are ended."""
        for work in list(self._running):
            work.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

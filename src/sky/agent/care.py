"""What a job wants watched on the node of its first rank, and what was seen of it: checkpoints and progress.

`Care` is read from the job's spec. `Watched` answers the head's question `task_look` as soon as something has changed;
between changes it sleeps, but for a look at the folder of checkpoints now and then. Called by `tasks.py`.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from . import progress
from .checkpoints import SETTLED, Folder, told
from .fields import Fields, bad
from .logs import exists
from .signals import wait_any
from .watch import FileWatch

SIGNALS = ("TERM", "INT", "HUP", "USR1", "USR2")
_HOOKS, _SCRIPT = 32, 1 << 14
#: Seconds between two looks at the folder of checkpoints: least, while there is none, and most. A look may take no more
#: than this part of the time.
_LOOK, _SHARE = (2.0, 5.0, 15.0), 0.02
#: One that is this many times as late as the job wants them is worth a word.
_LATE = 1.5
#: Seconds between two looks at the log of a job that writes all the time.
_BREATH = 1.0


class Farewell(NamedTuple):
    """What is done once the node is told that it will go: a signal to the task, and scripts, within `grace` seconds."""

    signal: Optional[str]
    grace: float
    scripts: List[Dict[str, Any]]


class Care(NamedTuple):
    """What a job wants watched. `every` in seconds, `max_bytes` of one checkpoint."""

    path: Optional[str] = None
    every: Optional[float] = None
    max_bytes: Optional[float] = None
    pattern: Optional[str] = None
    farewell: Optional[Farewell] = None


def parse(values: Any) -> Optional[Care]:
    """Check the `care` of a job's spec; None where it wants none."""
    if not values:
        return None
    fields = Fields(values, "the job's care")
    path = fields.text("path", None, 4096)
    if path is not None and (not path.startswith(("/", "~/")) or ".." in path.split("/")):
        raise bad("the job's care: 'path' must be absolute or begin with ~/, found %r" % path[:200])
    pattern = fields.text("pattern", None, 500)
    progress.check(pattern)
    return Care(
        path,
        fields.number("every", 0.001, 1e9, None),
        fields.number("max_bytes", 1, 1e18, None),
        pattern,
        _farewell(fields.raw("farewell")),
    )


def _farewell(values: Any) -> Optional[Farewell]:
    if not values:
        return None
    fields = Fields(values, "the job's farewell")
    given = fields.raw("scripts") or []
    if not isinstance(given, list) or len(given) > _HOOKS:
        raise bad("the job's farewell: 'scripts' must be a list of at most %d" % _HOOKS)
    scripts = []
    for each in given:
        one = Fields(each, "a script of the job's farewell")
        scripts.append({"run": one.text("run", limit=_SCRIPT), "timeout": one.number("timeout", 0.001, 86400, 30.0)})
    return Farewell(fields.choice("signal", SIGNALS, None), fields.number("grace", 0, 86400, 30.0), scripts)


def stored(care: Optional[Care]) -> Optional[Dict[str, Any]]:
    """As JSON; `parse` reads it back."""
    if care is None:
        return None
    values = {name: value for name, value in care._asdict().items() if value is not None}
    if care.farewell is not None:
        values["farewell"] = {name: value for name, value in care.farewell._asdict().items() if value is not None}
    return values


def folder(path: str, home: str) -> str:
    """Where a path as the job has it is on this node."""
    return os.path.join(home, path[2:]) if path.startswith("~/") else path


class Watched:
    """One phase of a job, while the head asks for what is seen of it."""

    def __init__(self, care: Care, home: str, said: str, log: str, clock: Callable[[], float]) -> None:
        self._care = care
        self._said = said
        self._log = log
        self._clock = clock
        self._since = clock()
        self._folder = Folder(folder(care.path, home)) if care.path else None
        self._pattern = progress.LogPattern(care.pattern, log) if care.pattern else None
        self._facts: Dict[str, Any] = {}
        self._looked = float("-inf")
        self._cost = 0.0

    async def facts(self, known: Any, wait: float, task: Any, files: FileWatch) -> Dict[str, Any]:
        """What is seen: at once if it differs from `known`, else when it does, at most after `wait` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        paths: List[str] = []
        bells = [task.ended]
        try:
            for path in (self._said, self._log if self._pattern else ""):
                if path and exists(path):
                    bells.append(files.enter(path))
                    paths.append(path)
            while True:
                await self._look(loop, task.over)
                left = min(deadline, self._next(loop)) - loop.time()
                if self._facts != known or task.over or loop.time() >= deadline:
                    return dict(self._facts)
                rang = await wait_any(tuple(bells), max(0.0, left))
                if rang and not task.over:
                    # One who writes without pause is read once a second.
                    await task.ended.wait(min(_BREATH, max(0.0, deadline - loop.time())))
        finally:
            for path in paths:
                files.leave(path)

    def _next(self, loop: asyncio.AbstractEventLoop) -> float:
        """When to look at the folder again, by the loop's clock."""
        if self._folder is None:
            return loop.time() + 3600
        least, early, most = _LOOK
        pause = most if self._care.every is None else min(max(self._care.every / 4, least), most)
        if "checkpoint" not in self._facts:
            pause = min(pause, early)
        if self._folder.unsettled:
            # One that was seen being written is looked at again as soon as it may be done.
            pause = min(pause, SETTLED + 0.2)
        return self._looked + max(pause, self._cost / _SHARE)

    async def _look(self, loop: asyncio.AbstractEventLoop, last: bool) -> None:
        facts = dict(self._facts)
        share = progress.said(self._said)
        # What the job says itself counts more than what is read in its log.
        if share is None and self._pattern is not None:
            share = self._pattern.latest()
        if share is not None and share != facts.get("progress"):
            facts.update(progress=share, progress_at=round(self._clock(), 3))
        if self._folder is not None and (last or loop.time() >= self._next(loop)):
            began = loop.time()
            found = await loop.run_in_executor(None, self._folder.newest, self._clock())
            self._looked = loop.time()
            self._cost = self._looked - began
            if found is not None:
                facts["checkpoint"] = told(found)
            concerns = self._concerns(facts.get("checkpoint"))
            if concerns or "concerns" in facts:
                facts["concerns"] = concerns
        self._facts = facts

    def _concerns(self, checkpoint: Optional[Dict[str, Any]]) -> List[str]:
        """What the job should be told of its checkpoints: `late`, `large`."""
        care, concerns = self._care, []
        last = max(self._since, checkpoint["at"] if checkpoint else 0.0)
        if care.every is not None and self._clock() - last > care.every * _LATE + SETTLED:
            concerns.append("late")
        if care.max_bytes is not None and checkpoint is not None and checkpoint["bytes"] > care.max_bytes:
            concerns.append("large")
        return concerns

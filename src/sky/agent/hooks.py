"""Runs what the user wants done on the head before the cluster is stopped or goes: the verb `hooks`.

Whoever stops the cluster asks, under a claim: the same claim again finds the same run, so that a stop that is tried
twice does nothing twice. Called by `server.py`.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any, Dict, List, Tuple

from .fields import Fields, bad
from .ledger import Ledger
from .node import Node
from .shell import run_script

EVENTS = ("stop", "down")
_SETTING = "hooks"
_HOOKS, _SCRIPT = 32, 1 << 14
_TIMED_OUT = 124

Reply = Tuple[Dict[str, Any], bytes]


class Hooks:
    """The hooks of a cluster's end."""

    def __init__(self, node: Node, ledger: Ledger) -> None:
        self._node = node
        self._ledger = ledger
        self._claim = ""
        self._work: Any = None

    async def run(self, fields: Fields, body: bytes) -> Reply:
        """Run `scripts` ({run, timeout}) one after the other; {said}: how each ended, nothing where they have run."""
        del body
        claim, event = fields.name("claim"), fields.choice("event", EVENTS)
        scripts = _scripts(fields.raw("scripts"))
        if claim != self._claim:
            if self._ledger.setting(_SETTING) == claim:
                # An agent before this one began it, and nobody knows how far it came.
                return {"said": []}, b""
            self._ledger.keep(_SETTING, claim)
            self._claim, self._work = claim, asyncio.ensure_future(self._all(event, scripts))
        # Whoever asks may go away, and come again.
        return {"said": await asyncio.shield(self._work)}, b""

    async def _all(self, event: str, scripts: List[Tuple[str, float]]) -> List[str]:
        return [await self._one(event, script, timeout) for script, timeout in scripts]

    async def _one(self, event: str, script: str, timeout: float) -> str:
        env = {"SKYPILOT_HOOK_EVENT": event, "SKYPILOT_GRACE_PERIOD_SECONDS": "%g" % timeout}
        env["SKY_NODE_ID"] = self._node.node_id
        try:
            rc, output = await run_script(script, self._node.home, env, timeout)
        except OSError as error:
            return "a hook could not be run: %s" % error
        with suppress(OSError):  # a full disk: its end is told all the same
            log_output(self._node.home, event, output)
        late = " (it took longer than %g s)" % timeout if rc == _TIMED_OUT else ""
        return "a hook ended with exit code %d%s" % (rc, late)


def log_output(home: str, event: str, output: bytes) -> None:
    """Keep what a hook said."""
    folder = os.path.join(home, ".sky", "hooks")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, event + ".log"), "ab") as file:
        file.write(output)


def _scripts(values: Any) -> List[Tuple[str, float]]:
    if not isinstance(values, list) or len(values) > _HOOKS:
        raise bad("'scripts' must be a list of at most %d" % _HOOKS)
    fields = [Fields(value, "a hook") for value in values]
    return [(each.text("run", limit=_SCRIPT), each.number("timeout", 0.001, 86400, 3600.0)) for each in fields]

"""Stops or ends the cluster when it has been idle long enough, with nobody calling: a timer on the head.

Idle means no job that has not ended and, if so configured, no SSH session. The setting and the time since when the
cluster is idle are kept in the ledger, so a restarted agent goes on counting. Called by `head.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from contextlib import suppress
from typing import Any, Awaitable, Callable, Dict, List, Optional

from .fields import Fields, Refused, bad
from .ledger import Ledger
from .node import Node
from .shell import run_script

WAIT_FOR = ("jobs_and_ssh", "jobs", "none")
_SETTING = "autostop"
#: Which start of the machine the setting was last counted on: its configuration differs from start to start.
_MACHINE = "machine"
_SESSIONS_AGAIN = 60.0
#: Seconds for which a cluster that would go at once waits for somebody to read the last job's log to its end.
_FAREWELL = 5.0
_PARTING = 0.5
_LONGEST_SLEEP = 3600.0
#: Seconds until a machine that is still there is told again to end itself: first, and at most.
_OFF_AGAIN = (120.0, 1800.0)


class Autostop:
    """The timer; `touch` tells it that a job came or ended."""

    def __init__(
        self,
        node: Node,
        ledger: Ledger,
        clock: Callable[[], float],
        busy: Callable[[], bool],
        power_off: Callable[[str], Awaitable[None]],
    ) -> None:
        self._node = node
        self._ledger = ledger
        self._clock = clock
        self._busy = busy
        self._power_off = power_off
        self._timer: Optional[asyncio.TimerHandle] = None
        self._work: Optional[asyncio.Future[None]] = None
        self._setting: Dict[str, Any] = ledger.setting(_SETTING) or off()
        self._heard = True
        self.firing = False
        """True once the decision to stop is taken."""

    def begin(self) -> None:
        """Arm the timer from what the ledger remembers; a machine that was started anew has not been idle since."""
        machine = str(self._node.checksum)
        if self._ledger.setting(_MACHINE) != machine:
            if self._setting["idle_minutes"] >= 0:
                self._setting = dict(self._setting, idle_since=self._clock())
                self._write_down()
            with suppress(sqlite3.Error):
                self._ledger.keep(_MACHINE, machine)
        self._arm()

    def close(self) -> None:
        """Disarm."""
        if self._timer is not None:
            self._timer.cancel()
        if self._work is not None:
            self._work.cancel()

    def heard(self) -> None:
        """Somebody has read a job's log to its end: nobody need be waited for."""
        if not self._heard:
            self._heard = True
            # Not at once: the answer that tells the end is still on its way.
            self._arm(_PARTING)

    def touch(self) -> None:
        """A job came or ended: the idle time counts from now."""
        self._heard = False
        if self._setting["idle_minutes"] >= 0 and self._setting["wait_for"] != "none":
            self._keep(dict(self._setting, idle_since=self._clock()))

    def _keep(self, setting: Dict[str, Any]) -> None:
        self._setting = setting
        self._write_down()
        self._arm()

    def _write_down(self) -> None:
        # The timer must not depend on a disk that is full: an idle machine costs money.
        try:
            self._ledger.keep(_SETTING, self._setting)
        except sqlite3.Error as error:
            print("agent: autostop cannot be written down: %s" % error, file=sys.stderr, flush=True)

    def _arm(self, at_least: float = 0.0) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        setting = self._setting
        if setting["idle_minutes"] < 0 or self.firing or (setting["wait_for"] != "none" and self._busy()):
            return
        due = self._due() - self._clock()
        # Looked at again at least once an hour: the wall clock may be set while we sleep.
        delay = min(max(due, at_least, 0.0), _LONGEST_SLEEP)
        self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _due(self) -> float:
        idle = max(self._setting["idle_minutes"] * 60, 0.0 if self._heard else _FAREWELL)
        return float(self._setting["idle_since"] + idle)

    def _look(self) -> None:
        setting = self._setting
        if self._clock() < self._due():
            self._arm()
        elif setting["wait_for"] == "jobs_and_ssh" and self._node.infra.get("cloud") != "local" and _ssh_sessions():
            self._keep(dict(setting, idle_since=self._clock()))
            self._arm(_SESSIONS_AGAIN)
        else:
            self.firing = True
            self._work = asyncio.ensure_future(self._fire())

    async def _fire(self) -> None:
        mode = "down" if self._setting["down"] else "stop"
        reason = "idle for %g minute(s)" % self._setting["idle_minutes"]
        self._tell(status="AUTOSTOPPING", down=self._setting["down"], reason=reason)
        for hook in self._setting["hooks"]:
            if not hook["events"] or mode in hook["events"] or "auto" + mode in hook["events"]:
                try:
                    await self._hook(hook, mode)
                except OSError as error:
                    self._tell(status="HOOK", reason="a hook could not be run: %s" % error)
        # From here on it is done: an agent that starts again must not count the old idle time.
        self._setting = off()
        self._write_down()
        facts = {"reason": "autostop: " + reason, "down": mode == "down", "time": self._clock()}
        with suppress(OSError):  # a note for people
            _write(os.path.join(self._node.root, "stopped.json"), json.dumps(facts))
        await self._until_off(mode)

    async def _until_off(self, mode: str) -> None:
        # Nobody else may be there to notice that the machine stays up and costs money.
        pause = _OFF_AGAIN[0]
        while True:
            try:
                await self._power_off(mode)
            except (OSError, Refused) as error:
                self._tell(status="HOOK", reason="the machine could not be ended: %s" % error)
            await asyncio.sleep(pause)
            print("agent: still up %d s after it was to %s; trying again" % (pause, mode), file=sys.stderr, flush=True)
            pause = min(pause * 2, _OFF_AGAIN[1])

    async def _hook(self, hook: Dict[str, Any], mode: str) -> None:
        env = {"SKYPILOT_HOOK_EVENT": mode, "SKYPILOT_GRACE_PERIOD_SECONDS": "%g" % hook["timeout"]}
        rc, output = await run_script(hook["run"], self._node.home, env, hook["timeout"])
        self._tell(status="HOOK", reason="a hook ended with exit code %d" % rc)
        _append(os.path.join(self._node.home, ".sky", "hooks", "%s.log" % mode), output)

    def _tell(self, **facts: Any) -> None:
        try:
            self._ledger.event("autostop", **facts)
        except sqlite3.Error as error:
            print("agent: autostop cannot be told of: %s" % error, file=sys.stderr, flush=True)

    async def set(self, fields: Fields, body: bytes) -> Any:
        """The verb: a negative idle time switches off."""
        del body
        minutes = fields.number("idle_minutes", -1e9, 1e9)
        setting = off()
        if minutes >= 0:
            setting = {
                "idle_minutes": minutes,
                "down": fields.flag("down"),
                "wait_for": fields.choice("wait_for", WAIT_FOR, "jobs_and_ssh"),
                "hooks": _hooks(fields.raw("hooks")),
                "idle_since": self._clock(),
            }
        self._keep(setting)
        return {}, b""

    async def get(self, fields: Fields, body: bytes) -> Any:
        """The verb: the setting, with `idle_since` in Unix seconds (None when off or busy)."""
        del fields, body
        busy = self._setting["wait_for"] != "none" and self._busy()
        return dict(self._setting, idle_since=None if busy else self._setting["idle_since"]), b""


def off() -> Dict[str, Any]:
    """The setting of a cluster that never stops by itself."""
    return {"idle_minutes": -1, "down": False, "wait_for": "jobs_and_ssh", "hooks": [], "idle_since": None}


def _hooks(values: Any) -> List[Dict[str, Any]]:
    if values is None:
        return []
    if not isinstance(values, list):
        raise bad("'hooks' must be a list, found %s" % type(values).__name__)
    hooks = []
    for value in values:
        fields = Fields(value, "a hook")
        timeout = fields.number("timeout", 0, 86400, 300.0)
        hooks.append({"run": fields.text("run"), "events": fields.texts("events"), "timeout": timeout})
    return hooks


def _ssh_sessions() -> bool:
    """True while somebody is logged in at a terminal: sshd names the process of a session `sshd: user@pts/0`.

    One without a terminal (`user@notty`) does not count: whoever watches the cluster has such a connection always.
    """
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/cmdline" % name, "rb") as file:
                    line = file.read(256)
            except OSError:
                continue
            if line.startswith((b"sshd: ", b"sshd-session: ")) and line.rpartition(b"@")[2].startswith(
                (b"pts/", b"tty")
            ):
                return True
    return False


def _append(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab") as file:
        file.write(data)


def _write(path: str, text: str) -> None:
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)

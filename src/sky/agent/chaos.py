"""Lets go wrong what goes wrong by itself elsewhere, so that a recovery can be tried: the verb `chaos`.

Only on machines that are the user's own (`local` and SSH pools). The names of the faults are those of `sky chaos`:
`preempt` (a notice, and then all processes of the node end as when its power is cut), `kill` (`kill -9` of a job's
processes, or of this agent), `oom` (a job ends as the kernel ends one that has no memory left), `partition` (the head
and a worker do not reach each other for a while). Built by `server.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from .fields import Fields, Refused
from .node import Node
from .notices import Notice
from .peers import Peer
from .tasks import Tasks

FAULTS = ("preempt", "kill", "oom", "partition")
_PLACES = ("local", "ssh")
#: Seconds until this agent kills itself: its answer is to get away first.
_ANSWER_FIRST = 0.1

Reply = Tuple[Dict[str, Any], bytes]


class Chaos:
    """The verb. `peers` are known to the head alone."""

    def __init__(
        self,
        node: Node,
        tasks: Tasks,
        clock: Callable[[], float],
        announce: Callable[[Notice], None],
        end_machine: Callable[[List[str]], None],
    ) -> None:
        self._node = node
        self._tasks = tasks
        self._clock = clock
        self._announce = announce
        self._end_machine = end_machine
        self._waiting: Set[asyncio.Future[None]] = set()
        self.peers: Optional[List[Peer]] = None

    async def strike(self, fields: Fields, body: bytes) -> Reply:
        """`fault`, the `key` of a job where it is about one, `seconds` of notice or of a partition; `rank` of a peer.

        Answers {struck}: how many processes or lines it was about.
        """
        del body
        if self._node.infra.get("cloud") not in _PLACES:
            raise Refused("NotSupported", "faults are made on machines of one's own only: local and SSH pools")
        fault = fields.choice("fault", FAULTS)
        key, seconds = fields.name("key", None), fields.number("seconds", 0, 86400, 30.0)
        if fault == "preempt":
            return self._preempt(seconds), b""
        if fault == "partition":
            return await self._partition(fields.integer("rank", 1, self._node.num_nodes - 1), seconds), b""
        if fault == "kill" and key is None:
            asyncio.get_running_loop().call_later(_ANSWER_FIRST, os.kill, os.getpid(), signal.SIGKILL)
            return {"struck": 1}, b""
        if key is None:
            raise Refused("InvalidRequest", "'oom' is something that happens to a job; say which")
        struck = await self._tasks.strike(key, starved=fault == "oom")
        if not struck:
            raise Refused("JobNotFound", "no process of that job runs on %s" % self._node.label())
        return {"struck": struck}, b""

    def _preempt(self, seconds: float) -> Dict[str, Any]:
        argv = self._node.power_off["down"]
        if not argv:
            raise Refused("NotSupported", "%s does not know how to end itself" % self._node.label())
        now = self._clock()
        self._announce(Notice("terminate", now, now + seconds))
        work = asyncio.ensure_future(self._later(seconds, argv))
        self._waiting.add(work)
        work.add_done_callback(self._waiting.discard)
        return {"struck": 1, "deadline": now + seconds}

    async def _later(self, seconds: float, argv: List[str]) -> None:
        await asyncio.sleep(seconds)
        self._end_machine(argv)

    async def _partition(self, rank: int, seconds: float) -> Dict[str, Any]:
        if self.peers is None:
            raise Refused("InvalidRequest", "the lines to the other nodes are the head's; ask it")
        await self.peers[rank].cut(seconds)
        return {"struck": 1}

    async def close(self) -> None:
        """Let nothing more happen."""
        for work in list(self._waiting):
            work.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

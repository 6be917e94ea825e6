"""Drives one job over its nodes: setup on all of them, then run on all of them, then a verdict.

Each step is asked of the nodes by verbs that may be repeated, and what must not be forgotten (the state, the first
failure, a cancellation) is in the ledger before the next step. So after a crash the head simply drives the job again
from the start: it finds the same processes, the same logs and the same verdict. Called by `head.py`.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Collection, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

from . import memory, states
from .bounds import within
from .connection import CallRefused, ConnectionLost, Reply
from .fields import Refused
from .ledger import Job, Ledger
from .logs import CHUNK, Collector
from .node import Node, node_label
from .peers import Peer

_KILLED = 137
_BACK_OFF = (0.05, 2.0)
_CALL_TIMEOUT = 40.0
_KILL_MARGIN = 15.0
#: Seconds for which a node of a gang that is to end is waited for.
_HALTED = 3.0
#: Seconds for which the node of rank 0 holds a question after news, and those between two reports of them.
_LOOK_HELD, _NEWS_EVERY = 25.0, 5.0
_LAST_LOOK = 5.0
_CAUSES = {memory.HOST: "out of memory", memory.DEVICE: "the device is out of memory"}


class Verdict(NamedTuple):
    """How a job ended."""

    status: str
    exit_codes: Optional[List[Optional[int]]]
    reason: Optional[str]
    facts: Mapping[str, Any] = MappingProxyType({})


def node_log(log_dir: str, phase: str, rank: int, node: int) -> str:
    """Where a rank's own log lies under the log folder of its node."""
    return "%s/tasks/%s%d-%s.log" % (log_dir, "setup-" if phase == "setup" else "", rank, node_label(node))


class NodeLost(Exception):
    """A node of the gang cannot be reached any more, or has forgotten the task; the text says which and why."""


class Gang:
    """One job that holds its slots."""

    def __init__(self, node: Node, ledger: Ledger, peers: List[Peer], job: Job, log: Collector) -> None:
        self._node = node
        self._ledger = ledger
        self._job = job
        self._spec = job.spec
        self._ranks: List[int] = [int(slot["node"]) for slot in job.placement]
        self._devices: List[List[int]] = [list(slot["devices"]) for slot in job.placement]
        self._peers = [peers[rank] for rank in self._ranks]
        self.log = log
        self._cancelled = job.cancelled
        self._halted: Optional[str] = None
        self._lost: Set[Peer] = set()
        self._causes: Dict[int, str] = {}
        self._killing: Optional[asyncio.Future[None]] = None
        self._secrets = ledger.secrets(job.key)

    async def drive(self) -> Verdict:
        """Take the job to its end; the caller records the verdict."""
        try:
            if self._cancelled:
                self._kill()
            verdict = await self._phases()
        except NodeLost as error:
            verdict = Verdict(states.FAILED_DRIVER, None, str(error))
            self._ledger.event("node", status="LOST", job_id=self._job.job_id, reason=str(error))
            self._kill()
        except (Refused, CallRefused) as error:
            verdict = Verdict(states.FAILED_DRIVER, None, "%s: %s" % (error.kind, error))
            self._kill()
        if self._killing is not None:
            await self._killing
        if self._halted is not None:
            verdict = Verdict(states.FAILED_DRIVER, None, self._halted)
        elif self._cancelled:
            verdict = Verdict(states.CANCELLED, verdict.exit_codes, None)
        if verdict.reason:
            self.log.say("end", "job %d: %s" % (self._job.job_id, verdict.reason))
        return verdict

    def cancel(self) -> None:
        """End the job's processes everywhere; `drive` then returns CANCELLED. The wish is in the ledger already."""
        self._cancelled = True
        self._kill()

    def halt(self, reason: str, silent: Collection[int] = ()) -> None:
        """The cluster stops: end the processes; `drive` then returns FAILED_DRIVER with the reason.

        Nodes that are `silent` already are told once, and not waited for.
        """
        self._halted = reason
        self._lost.update(self._peers[rank] for rank, node in enumerate(self._ranks) if node in silent)
        self._kill()

    async def forget(self) -> None:
        """Let the nodes drop their records of the job; called after the verdict is in the ledger."""
        await asyncio.gather(*(self._try(peer, "task_forget", {"key": self._job.key}) for peer in self._peers))

    async def _phases(self) -> Verdict:
        if self._spec.setup and self._job.status != states.RUNNING:
            codes = await self._phase("setup", self._spec.setup, self._spec.fresh)
            if any(codes):
                return Verdict(states.FAILED_SETUP, codes, self._blame("setup", codes), self._why())
        if self._stopped or not self._spec.run:
            return Verdict(states.SUCCEEDED, [0] * len(self._ranks), None)
        if self._job.status != states.RUNNING:
            self._ledger.move(self._job.job_id, states.RUNNING, pid=None)
        codes = await self._phase("run", self._spec.run)
        if any(codes):
            return Verdict(states.FAILED, codes, self._blame("run", codes), self._why())
        return Verdict(states.SUCCEEDED, codes, None)

    @property
    def _stopped(self) -> bool:
        return self._cancelled or self._halted is not None

    async def _phase(self, phase: str, script: str, nodes: Optional[List[int]] = None) -> List[Optional[int]]:
        """Run a phase on all nodes, or on those that are named; the exit codes by rank.

        The first failure ends the others, which count as 137.
        """
        codes: List[Optional[int]] = [None if nodes is None or node in nodes else 0 for node in self._ranks]
        wanted = [rank for rank, code in enumerate(codes) if code is None]
        failure = self._job.first_failure
        if failure is not None:
            codes = list(failure["codes"])
            self._kill()
        running = {asyncio.ensure_future(self._rank(phase, script, rank)): rank for rank in wanted}
        waiting = set(running)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for future in sorted(done, key=running.__getitem__):
                    rank, code = running[future], future.result()
                    if codes[rank] is not None:
                        continue
                    codes[rank] = code
                    if code != 0 and not self._stopped:
                        codes = await self._fail(phase, rank, codes, bool(waiting))
        finally:
            for future in running:
                future.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return codes

    async def _fail(self, phase: str, rank: int, codes: List[Optional[int]], others: bool) -> List[Optional[int]]:
        # On record before the others are killed: after a crash their exit codes must not pass for failures of their
        # own.
        first = {"phase": phase, "rank": rank, "code": codes[rank], "cause": self._causes.get(rank)}
        if others:
            codes = [_KILLED if code is None else code for code in codes]
            self._ledger.note(self._job.job_id, first_failure=dict(first, codes=codes))
            self._kill()
        self._job = self._job._replace(first_failure=dict(first, codes=codes))
        return codes

    def _blame(self, phase: str, codes: List[Optional[int]]) -> str:
        first = self._job.first_failure
        if first is None:
            return "%s was ended" % phase
        where = ""
        if len(codes) > 1:
            where = " on rank %d (%s)" % (first["rank"], node_label(self._ranks[first["rank"]]))
        text = "%s failed%s with exit code %s" % (phase, where, first["code"])
        found = _CAUSES.get(str(first.get("cause")))
        return text if found is None else "%s: %s" % (text, found)

    def _why(self) -> Dict[str, Any]:
        """What is known of why the first rank failed, for the record."""
        found = (self._job.first_failure or {}).get("cause")
        return {"cause": found} if found in _CAUSES else {}

    async def _rank(self, phase: str, script: str, rank: int) -> int:
        """One rank's phase from start to end, its log copied; returns the exit code."""
        spec, job = self._spec, self._job
        label = node_label(self._ranks[rank])
        log = node_log(job.log_dir, phase, rank, self._ranks[rank])
        env = {**spec.envs, **self._secrets.envs, **self._variables(phase, rank)}
        args = {"job_id": job.job_id, "key": job.key, "phase": phase, "log": log, "devices": self._devices[rank]}
        args["cwd"] = "workdir" if spec.workdir or spec.git else "home"
        container = dict(spec.container, login=self._secrets.login) if spec.container is not None else None
        task = {"script": script, "envs": env, "container": container, "care": spec.care}
        body = json.dumps(task).encode("utf-8", "surrogatepass")
        reply, _ = await self._ask(rank, "task_start", args, body)
        pid = int(reply["pid"])
        if rank == 0:
            self._ledger.note(job.job_id, pid=pid)

        async def fetch(offset: int, wait: float) -> Reply:
            wanted = {"key": job.key, "phase": phase, "log": log, "offset": offset, "wait": wait, "limit": CHUNK}
            return await self._ask(rank, "task_log", wanted)

        tending: Optional[asyncio.Future[None]] = None
        if rank == 0 and phase == "run":
            tending = asyncio.ensure_future(self._tend(log))
        try:
            facts = await self.log.copy("%s:%d" % (phase, rank), self._prefix(phase, rank, pid), fetch)
        finally:
            if tending is not None:
                tending.cancel()
                await asyncio.gather(tending, return_exceptions=True)
        if tending is not None and facts["status"] != "lost":
            # The last word; a node that has gone since must not hold up the verdict.
            with suppress(asyncio.TimeoutError):
                await within(_LAST_LOOK, self._look(log, {}, 0.0))
        if facts.get("cause"):
            self._causes[rank] = str(facts["cause"])
        if facts["status"] == "lost":
            raise NodeLost("the node restarted while the job ran: %s no longer knows its %s process" % (label, phase))
        if facts.get("why"):
            raise Refused("ContainerFailed", "%s: %s" % (label, facts["why"]))
        return int(facts["rc"])

    async def _tend(self, log: str) -> None:
        """Write down what the node of rank 0 sees of the job, while it runs."""
        known: Dict[str, Any] = {}
        while True:
            facts, over = await self._look(log, known, _LOOK_HELD)
            if over:
                return
            if facts != known:
                known = facts
                await asyncio.sleep(_NEWS_EVERY)

    async def _look(self, log: str, known: Dict[str, Any], wait: float) -> Tuple[Dict[str, Any], bool]:
        """What is seen, and whether nothing more will be."""
        job, args = self._job, {"key": self._job.key, "phase": "run", "log": log, "known": known, "wait": wait}
        try:
            reply, _ = await self._ask(0, "task_look", args)
            facts = dict(reply["facts"])
            if facts:
                self._ledger.tell(job.job_id, facts)
        except (Refused, CallRefused, NodeLost, LookupError, sqlite3.Error):
            return known, True  # an older agent, or a disk that is full: the job is not held up by it
        return facts, bool(reply["over"])

    def _prefix(self, phase: str, rank: int, pid: int) -> bytes:
        if phase == "setup":
            return b"(setup pid=%d) " % pid
        if len(self._ranks) == 1:
            name = self._spec.name or "task"
            return ("(%s, pid=%d) " % (name, pid)).encode("utf-8", "replace")
        return ("(%s, rank=%d, pid=%d) " % (node_label(self._ranks[rank]), rank, pid)).encode()

    def _variables(self, phase: str, rank: int) -> Dict[str, str]:
        prefix = "SKYPILOT_SETUP_" if phase == "setup" else "SKYPILOT_"
        node = self._node
        values = {
            prefix + "NODE_RANK": str(rank),
            prefix + "NODE_IPS": "\n".join(node.ips[index] for index in self._ranks),
            prefix + "NUM_NODES": str(len(self._ranks)),
            prefix + "NUM_GPUS_PER_NODE": str(self._spec.whole_accelerators()),
            "SKYPILOT_TASK_ID": self._spec.task_id,
            "SKYPILOT_INTERNAL_JOB_ID": str(self._job.job_id),
            "SKYPILOT_USER": self._spec.user,
        }
        place = {name: node.infra.get(name) for name in ("cloud", "region", "zone")}
        values["SKYPILOT_CLUSTER_INFO"] = json.dumps(dict({"cluster_name": node.cluster_name}, **place))
        return values

    async def _ask(self, rank: int, verb: str, args: Dict[str, Any], body: bytes = b"") -> Reply:
        """Ask a node, through losses of contact shorter than the node may take to be given up."""
        loop = asyncio.get_running_loop()
        pause, limit = _BACK_OFF
        since: Optional[float] = None
        while True:
            try:
                return await self._peers[rank].call(verb, args, body, _CALL_TIMEOUT)
            except ConnectionLost as error:
                now = loop.time()
                since = now if since is None else since
                if now - since >= (self._node.lost_after if self._halted is None else _HALTED):
                    label = node_label(self._ranks[rank])
                    self._lost.add(self._peers[rank])
                    raise NodeLost(
                        "%s (%s) was lost: its agent has not answered for %.0f s (%s)"
                        % (label, self._node.ips[self._ranks[rank]], now - since, error)
                    ) from None
            await asyncio.sleep(pause)
            pause = min(pause * 2, limit)

    def _kill(self) -> None:
        if self._killing is None:
            self._killing = asyncio.ensure_future(self._kill_everywhere())

    async def _kill_everywhere(self) -> None:
        grace = self._spec.cancel_grace
        args = {"key": self._job.key, "grace": grace}
        await asyncio.gather(*(self._try(peer, "task_kill", args, grace + _KILL_MARGIN) for peer in self._peers))

    async def _try(self, peer: Peer, verb: str, args: Dict[str, Any], timeout: float = 10.0) -> bool:
        """Ask a few times; False when the node stays out of reach: it is being given up anyway."""
        for pause in (0.0,) if peer in self._lost else (0.1, 0.5, 2.0, 0.0):
            try:
                await peer.call(verb, args, b"", timeout)
                return True
            except ConnectionLost:
                await asyncio.sleep(pause)
            except (Refused, CallRefused):
                return False
        return False

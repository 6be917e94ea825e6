"""The head's part of the agent: it keeps the queue, starts what fits, and answers for the cluster.

One instance on the node of rank 0, built and dispatched to by `server.py`. It holds in memory only what the ledger can
give back: on start it drives every job that was on its way again and queues the waiting ones in their old order.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from contextlib import suppress
from typing import Any, Callable, Coroutine, Dict, List, Optional, Set, Tuple

from . import schedule, states
from .autostop import Autostop
from .connection import CallRefused, ConnectionLost
from .farewell import FINAL
from .fields import Fields, Refused
from .gang import Gang, Verdict, node_log
from .ledger import Job, Ledger
from .logs import CHUNK, Collector, read_chunk, size, tail_offset
from .node import Node, node_label
from .peers import Peer
from .signals import wait_any
from .spec import JobSpec, parse, parse_secrets

Reply = Tuple[Dict[str, Any], bytes]
STOPPED = "the cluster was stopped while the job ran"
_LOG_LIMIT = 1 << 20
_RECORD_AGAIN = 5.0
_PAGE = 2000
_WORKER_OFF = 15.0
_NOTICES, _NOTICES_KEPT, _NOTICES_SOON, _NOTICES_AGAIN = "notices", 200, 0.1, 5.0
_HELD = 60.0


class Head:
    """The queue of a cluster."""

    def __init__(self, node: Node, ledger: Ledger, peers: List[Peer], clock: Callable[[], float]) -> None:
        self._node = node
        self._ledger = ledger
        self._peers = peers
        self._clock = clock
        devices = len(node.devices.indices) if node.devices else 0
        # The nodes of a cluster are alike: what this one has, each has.
        self._total = [schedule.room(node.cpus, devices, node.memory_gb)] * node.num_nodes
        self._queue: Dict[int, schedule.Waiting] = {}
        self._running: Dict[int, schedule.Running] = {}
        self._gangs: Dict[int, Gang] = {}
        self._background: Set[asyncio.Future[Any]] = set()
        self._stopping: Optional[str] = None
        self._kicked = False
        self._unheard: Set[int] = set()
        self.autostop = Autostop(node, ledger, clock, self._busy, self._power_off)

    def begin(self) -> None:
        """Pick up where the last agent stopped; called once, on the loop."""
        for job in self._ledger.jobs(skip_finished=True):
            if job.status in states.ACTIVE:
                slots = tuple(schedule.Slot(int(slot["node"]), tuple(slot["devices"])) for slot in job.placement)
                self._launch(job, slots)
            else:
                self._queue[job.job_id] = schedule.Waiting(job.job_id, self._demand(job.spec))
        self._kick()
        self.autostop.begin()
        # A worker is listened to wherever it is: a line that breaks is how its death is known while no job runs.
        for rank in range(self._node.num_nodes):
            self._spawn(self._follow_notices(rank))

    # The queue

    def _demand(self, spec: JobSpec) -> schedule.Demand:
        # A node that does not know its memory cannot refuse any.
        memory = spec.memory_gb if self._node.memory_gb else 0.0
        return schedule.demand(spec.num_nodes, spec.cpus, spec.accelerator_count, memory)

    def _check_fits(self, spec: JobSpec) -> schedule.Demand:
        node, wanted = self._node, self._demand(spec)
        known = node.devices.name if node.devices else None
        if spec.accelerator is not None and (known is None or known.lower() != spec.accelerator.lower()):
            text = "the job asks for %s, the cluster's nodes have %s" % (spec.accelerator, known or "no accelerators")
            raise Refused("ResourcesUnavailable", text + "; launch a cluster that has them")
        if schedule.place(wanted, self._total) is None:
            devices = len(node.devices.indices) if node.devices else 0
            raise Refused(
                "ResourcesUnavailable",
                "the job asks for %s, which the cluster can never give: it has %d node(s) of %g CPU slots and %d"
                " accelerators; ask for less or launch a larger cluster"
                % (spec.resources_text(), node.num_nodes, node.cpus, devices),
            )
        return wanted

    def _kick(self) -> None:
        # Once per turn of the loop, however many jobs came or went in it.
        if not self._kicked:
            self._kicked = True
            asyncio.get_running_loop().call_soon(self._plan)

    def _plan(self) -> None:
        self._kicked = False
        if self._stopping is not None or not self._queue:
            return
        starts = schedule.plan(self._total, list(self._running.values()), list(self._queue.values()))
        try:
            for job_id, slots in starts:
                job = self._ledger.get(job_id)
                assert job is not None
                status = states.SETTING_UP if job.spec.setup else states.RUNNING
                job = self._ledger.move(job_id, status, placement=schedule.stored(slots))
                del self._queue[job_id]
                self._launch(job, slots)
        except sqlite3.OperationalError as error:
            # A full disk: what waits goes on waiting, and is looked at again although no job comes or ends.
            print("agent: no job can be started yet: %s" % error, file=sys.stderr, flush=True)
            asyncio.get_running_loop().call_later(_RECORD_AGAIN, self._kick)

    def _launch(self, job: Job, slots: Tuple[schedule.Slot, ...]) -> None:
        try:
            log = Collector(self._log_path(job), os.path.join(self._node.root, "collect", str(job.job_id)))
        except OSError as error:
            verdict = Verdict(states.FAILED_DRIVER, None, "the job's log cannot be written: %s" % error)
            self._spawn(self._record(job.job_id, verdict))
            return
        self._running[job.job_id] = schedule.Running(job.job_id, self._demand(job.spec), slots)
        gang = self._gangs[job.job_id] = Gang(self._node, self._ledger, self._peers, job, log)
        self._spawn(self._drive(job, gang))

    async def _drive(self, job: Job, gang: Gang) -> None:
        try:
            verdict = await gang.drive()
        except Exception as error:  # noqa: BLE001 - whatever it is, the job must end with a reason and free its slots
            verdict = Verdict(states.FAILED_DRIVER, None, "the agent failed: %s: %s" % (type(error).__name__, error))
            gang.halt(str(verdict.reason))
        await self._record(job.job_id, verdict)
        self._tell_spans(job.job_id)
        gang.log.close(done=True)
        del self._gangs[job.job_id], self._running[job.job_id]
        self._kick()
        self.autostop.touch()
        await gang.forget()

    async def _record(self, job_id: int, verdict: Verdict) -> None:
        # A full disk must not leave a job that never ends: it is tried until there is room again.
        while True:
            try:
                known = self._ledger.get(job_id)
                facts = dict(known.facts if known is not None else {}, **verdict.facts)
                self._ledger.move(
                    job_id, verdict.status, exit_codes=verdict.exit_codes, reason=verdict.reason, facts=facts
                )
                return
            except sqlite3.OperationalError as error:
                print("agent: job %d cannot be recorded yet: %s" % (job_id, error), file=sys.stderr, flush=True)
                await asyncio.sleep(_RECORD_AGAIN)

    def _tell_spans(self, job_id: int) -> None:
        """How long a job waited and ran, for who traces it; the server hands it on."""
        job = self._ledger.get(job_id)
        if job is None or not job.spec.traceparent or job.start_at is None:
            return
        facts = {"traceparent": job.spec.traceparent, "job_id": job_id, "outcome": job.status}
        parts = (("queue", job.submitted_at, job.start_at), ("job", job.start_at, job.end_at or job.start_at))
        with suppress(sqlite3.Error):
            for name, begun, end in parts:
                failed = name == "job" and job.status != states.SUCCEEDED
                self._ledger.event("span", name=name, begun=begun, end=end, failed=failed, **facts)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _busy(self) -> bool:
        return bool(self._queue or self._running)

    async def halt(self, reason: str, *, queue: bool = False) -> None:
        """Start no more jobs and end those that run as FAILED_DRIVER; waiting ones stay for the next start.

        With `queue`, waiting ones are cancelled.
        """
        self._stopping = reason
        for job_id in list(self._queue) if queue else ():
            self._cancel(job_id)
        for gang in list(self._gangs.values()):
            gang.halt(reason, self._unheard)
        while self._gangs:
            await self._ledger.changed.wait(1.0)

    async def _power_off(self, mode: str) -> None:
        await self.halt(STOPPED)
        # One that does not answer is left behind: the head's own end is what lets the provider end the rest.
        asked = (peer.call("power_off", {"mode": mode}, timeout=_WORKER_OFF) for peer in self._peers[1:])
        for rank, answer in enumerate(await asyncio.gather(*asked, return_exceptions=True), 1):
            if isinstance(answer, BaseException):
                print("agent: %s was not told to end: %s" % (node_label(rank), answer), file=sys.stderr, flush=True)
        await self._peers[0].call("power_off", {"mode": mode})

    async def _follow_notices(self, rank: int) -> None:
        """Make an event of each announcement that a node hears of its end: once, whoever was started again since."""
        since, heard_of, pause = 0, False, _NOTICES_SOON
        while True:
            try:
                # The first answer comes at once: from then on, a line that breaks is a node that was there.
                args = {"since": since, "wait": _HELD if heard_of else 0.0}
                reply, _ = await self._peers[rank].call("notices", args, timeout=_HELD + 10)
                boot_id, heard = str(reply["boot_id"])[:100], list(reply["notices"])
                since, heard_of = since + len(heard), True
                self._unheard.discard(rank)
                for notice in heard:
                    self._record_notice(boot_id, rank, notice)
            except (ConnectionLost, CallRefused, Refused, LookupError, TypeError, sqlite3.Error) as error:
                # A node that does not answer, or a disk that takes nothing: all is asked for again.
                print("agent: notices of %s: %s" % (node_label(rank), error), file=sys.stderr, flush=True)
                if heard_of and isinstance(error, ConnectionLost):
                    # Told at once: whoever pays for the cluster asks its cloud then, and not at the next turn.
                    with suppress(sqlite3.Error):
                        self._ledger.event("node", status="LOST", rank=rank, reason=str(error))
                if heard_of or pause >= _NOTICES_AGAIN:
                    self._unheard.add(rank)
                # Soon at first: right after the start the others may not listen yet.
                pause = _NOTICES_SOON if heard_of else min(2 * pause, _NOTICES_AGAIN)
                since, heard_of = 0, False
                # Not longer deaf to it than a job on it is: it may have little time left to tell anything.
                await self._peers[rank].reached.wait(pause)

    def silent(self) -> List[int]:
        """Ranks of workers whose line broke, or that were never heard of since this agent began."""
        return sorted(self._unheard)

    def _record_notice(self, boot_id: str, rank: int, notice: Any) -> None:
        fields = Fields(notice, "a notice")
        if fields.raw("hook") is not None:
            self._record_hook(boot_id, rank, fields)
            return
        facts = {"what": fields.name("what"), "at": fields.number("at", 0, 1e12), "rank": rank}
        told, known = [boot_id, rank, facts["what"]], self._ledger.setting(_NOTICES) or []
        if told not in known:
            self._ledger.event("notice", deadline=fields.number("deadline", 0, 1e12, None), **facts)
            self._ledger.keep(_NOTICES, [*known, told][-_NOTICES_KEPT:])
            for job_id, held in self._running.items():
                if facts["what"] in FINAL and rank in {slot.node for slot in held.slots}:
                    self._ledger.tell(job_id, {"noticed_at": facts["at"]})

    def _record_hook(self, boot_id: str, rank: int, fields: Fields) -> None:
        """How something ended that was done because of a notice; once, as notices are."""
        at, text = fields.number("at", 0, 1e12), fields.text("text", limit=1000)
        told, known = [boot_id, rank, at, text], self._ledger.setting(_NOTICES) or []
        if told not in known:
            job_id = self._ledger.find(fields.name("key"))
            self._ledger.event("hook", status=fields.name("hook"), rank=rank, at=at, of_job=job_id, text=text)
            self._ledger.keep(_NOTICES, [*known, told][-_NOTICES_KEPT:])

    async def close(self) -> None:
        """Stop driving; the tasks go on, and the next agent drives them again."""
        self.autostop.close()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    # Verbs

    async def submit(self, fields: Fields, body: bytes) -> Reply:
        """Queue a job, once per key."""
        del body
        key = fields.name("key")
        known = self._ledger.find(key)
        if known is not None:
            return {"job_id": known, "created": False}, b""
        if self._stopping is not None or self.autostop.firing:
            raise Refused(
                "ClusterStopping", "the cluster is being stopped and takes no more jobs; start it again first"
            )
        spec = parse(fields.raw("spec"), self._clock())
        wanted = self._check_fits(spec)
        job_id = self._ledger.add(key, spec, parse_secrets(fields.raw("spec")))
        self._queue[job_id] = schedule.Waiting(job_id, wanted)
        self._kick()
        self.autostop.touch()
        return {"job_id": job_id, "created": True}, b""

    async def job(self, fields: Fields, body: bytes) -> Reply:
        """One job, as `jobs` gives it."""
        del body
        return self._page([self._job(fields.integer("job_id", 0, 1 << 53))], False)

    async def jobs(self, fields: Fields, body: bytes) -> Reply:
        """The named jobs, or all of them, oldest first, in the body as JSON. Unknown ids are left out.

        At most 2,000 at once: `more` says that there are further ones, to be asked for with `after`, the last id
        received.
        """
        del body
        after = fields.integer("after", 0, 1 << 53, 0)
        ids = fields.integers("ids")
        if ids is not None:
            found = [self._ledger.get(job_id) for job_id in sorted(set(ids))]
            jobs = [job for job in found if job is not None and job.job_id > after]
        else:
            jobs = self._ledger.jobs(fields.flag("skip_finished"), after, _PAGE + 1)
        return self._page(jobs[:_PAGE], len(jobs) > _PAGE)

    def _page(self, jobs: List[Job], more: bool) -> Reply:
        return {"more": more}, json.dumps([self._shown(job) for job in jobs]).encode()

    def _job(self, job_id: int) -> Job:
        job = self._ledger.get(job_id)
        if job is None:
            raise Refused("JobNotFound", "there is no job %d on cluster %s" % (job_id, self._node.cluster_name))
        return job

    def _shown(self, job: Job) -> Dict[str, Any]:
        shown = {name: getattr(job, name) for name in ("job_id", "key", "status", "submitted_at", "start_at", "end_at")}
        shown.update({name: getattr(job, name) for name in ("exit_codes", "reason", "pid", "facts")})
        shown.update({"name": job.spec.name, "user": job.spec.user, "num_nodes": job.spec.num_nodes})
        shown.update({"resources": job.spec.resources_text(), "log_dir": os.path.join(self._node.logs, job.log_dir)})
        return shown

    async def cancel(self, fields: Fields, body: bytes) -> Reply:
        """Cancel the named jobs, all, or the latest running; returns when they ended or after `wait` seconds."""
        del body
        ids = fields.integers("job_ids")
        wait = fields.number("wait", 0, 3600, 20.0)
        if fields.flag("all"):
            ids = [*self._queue, *self._running]
        elif not ids:
            ids = [max(self._running)] if self._running else []
        cancelled = [job_id for job_id in sorted(set(ids)) if self._cancel(job_id)]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while any(job_id in self._running for job_id in cancelled) and loop.time() < deadline:
            await self._ledger.changed.wait(deadline - loop.time())
        return {"cancelled": cancelled}, b""

    def _cancel(self, job_id: int) -> bool:
        if job_id in self._queue:
            del self._queue[job_id]
            self._ledger.move(job_id, states.CANCELLED)
            self._kick()
            self.autostop.touch()
            return True
        gang = self._gangs.get(job_id)
        if gang is None:
            return False
        self._ledger.note(job_id, cancelled=1)
        gang.cancel()
        return True

    async def events(self, fields: Fields, body: bytes) -> Reply:
        """Events after `since`; waits up to `wait` seconds for the first."""
        del body
        since, wait = fields.integer("since", 0, 1 << 53, 0), fields.number("wait", 0, 60, 0.0)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            events = self._ledger.events(since)
            left = deadline - loop.time()
            if events or left <= 0:
                return {"events": events, "next": events[-1]["seq"] if events else since}, b""
            await self._ledger.changed.wait(left)

    # Logs

    def _log_path(self, job: Job) -> str:
        return os.path.join(self._node.logs, job.log_dir, "run.log")

    async def read_log(self, fields: Fields, body: bytes) -> Reply:
        """Bytes of a job's log from an offset or from `tail` lines before its end, waiting for some if asked to."""
        del body
        job = self._job(fields.integer("job_id", 0, 1 << 53))
        which = fields.choice("which", ("run", "setup", "node"), "run")
        limit = fields.integer("limit", 1, _LOG_LIMIT, CHUNK)
        wait, tail = fields.number("wait", 0, 60, 0.0), fields.integer("tail", 0, 1 << 31, None)
        offset = fields.integer("offset", 0, 1 << 53, None)
        if which != "run":
            wanted = {"offset": offset or 0, "wait": wait, "limit": limit}
            if offset is None and tail is not None:
                wanted["tail"] = tail
            return await self._read_node_log(job, which, fields.integer("rank", 0, 100000, 0), wanted)
        path = self._log_path(job)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            current = self._job(job.job_id)
            gang = self._gangs.get(job.job_id)
            length = gang.log.length if gang is not None else size(path)
            if offset is None:
                offset = tail_offset(path, tail, length) if tail is not None else 0
            left = deadline - loop.time()
            if offset < length or current.ended or left <= 0:
                break
            await wait_any(
                (self._ledger.changed, gang.log.grown) if gang is not None else (self._ledger.changed,), left
            )
        data = read_chunk(path, offset, min(limit, length - offset)) if offset < length else b""
        offset += len(data)
        if current.ended and offset >= length:
            self.autostop.heard()
        return {"offset": offset, "eof": current.ended and offset >= length, "status": current.status}, data

    async def _read_node_log(self, job: Job, which: str, rank: int, wanted: Dict[str, Any]) -> Reply:
        if rank >= job.spec.num_nodes:
            raise Refused(
                "InvalidRequest", "job %d has %d node(s), there is no rank %d" % (job.job_id, job.spec.num_nodes, rank)
            )
        if not job.placement:
            return {"offset": wanted["offset"], "eof": job.ended, "status": job.status}, b""
        node = int(job.placement[rank]["node"])
        phase = "setup" if which == "setup" else "run"
        args = {**wanted, "key": job.key, "phase": phase, "log": node_log(job.log_dir, phase, rank, node)}
        facts, data = await self._peers[node].call("task_log", args, b"", wanted["wait"] + 30)
        current = self._job(job.job_id)
        return {"offset": facts["offset"], "eof": bool(facts["eof"]) and current.ended, "status": current.status}, data

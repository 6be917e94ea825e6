"""A machine made of numbers, and the agent on it: it answers in the agent's real protocol, byte for byte.

Jobs are scripts of one line, `sim SECONDS EXIT_CODE`; what they print is a line for each second. What a node knows is
on its disk: it outlives agents and stops, and ends with the machine. `sim SECONDS EXIT_CODE EVERY` writes a checkpoint
each so many seconds into a bucket that outlives it, says how far it is, and goes on from there when it is begun anew.
"""

import asyncio
import contextvars
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sky.agent.connection import Connection
from sky.agent.fields import Refused
from sky.agent.frames import encode, read_frame
from sky.remote.channel import Order, Outcome
from sky.sim.loop import SimClock
from sky.sim.replica import REPLICA

Json = dict[str, Any]

_LOG_LINE = "second {:06d}\n"
_LINE = len(_LOG_LINE.format(0))
_ENDED = ("SUCCEEDED", "FAILED", "FAILED_SETUP", "FAILED_DRIVER", "CANCELLED")
#: Seconds after which a line on which nothing arrives is given up, at both ends.
_KEEPALIVE_S = 8.0
_HELD_S = 60.0


@dataclass(slots=True)
class SimJob:
    """A job in the head's queue. `began` and `ended` in seconds since the epoch."""

    job_id: int
    key: str
    spec: Json
    status: str = "PENDING"
    submitted_at: float = 0.0
    began: float | None = None
    ended: float | None = None
    exit_codes: list[int] | None = None
    reason: str | None = None
    facts: Json | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in _ENDED


@dataclass(slots=True)
class Disk:
    """What a node remembers."""

    config: Json | None = None
    version: str = ""
    jobs: dict[int, SimJob] = field(default_factory=dict)
    events: list[Json] = field(default_factory=list)
    autostop: Json = field(default_factory=lambda: {"idle_minutes": -1.0, "down": False})
    idle_since: float = 0.0


class SimNode:
    """See the module. `power` is called when the node switches itself off, with whether it is to go for good."""

    def __init__(
        self,
        name: str,
        clock: SimClock,
        rng: Random,
        power: Callable[[bool], None],
        bucket: dict[str, float] | None = None,
    ) -> None:
        self.name = name
        #: Seconds that are done of each task, by its id, as of its newest checkpoint.
        self._bucket = {} if bucket is None else bucket
        self.clock = clock
        self.rng = rng
        self._power = power
        self.disk = Disk()
        self.on = False
        self.agent_up = False
        #: Nothing gets through, either way.
        self.cut = False
        #: Its work was ended: no job begins before its agent is started anew.
        self.closed = False
        self.changed = asyncio.Event()
        self._lines: list[_Line] = []
        self._timers: list[asyncio.TimerHandle] = []
        #: All jobs whose processes were ever started here, in order, whatever became of the disk.
        self.ran: list[SimJob] = []
        #: Processes of jobs of several nodes, by key with their task; and those that were begun beside others of it.
        self.work: dict[str, str] = {}
        self.beside: list[str] = []
        #: Nodes of the cluster by rank, this one among them, once the world has told.
        self.peers: Callable[[], list[SimNode]] = lambda: [self]

    # --- power ---------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """The machine runs; an agent comes with the next bootstrap only."""
        self.on = True

    def power_off(self, *, wipe: bool) -> None:
        """All processes are gone at once."""
        if self.disk.config is not None:
            self._halt_jobs("the cluster was stopped while the job ran")
        self.work.clear()
        self.on = self.agent_up = False
        self._drop_lines()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if wipe:
            self.disk = Disk()

    def kill_agent(self) -> None:
        """The agent dies; the loop that keeps it brings it back within a second. Jobs go on."""
        if self.agent_up:
            self.agent_up = False
            self._drop_lines()
            self._later(0.5, self._agent_back)

    def _agent_back(self) -> None:
        if self.on and self.disk.config is not None:
            self.agent_up, self.closed = True, False

    def break_lines(self, after: float) -> None:
        """Connections that are open after so many seconds end; what was asked is carried out all the same."""
        asyncio.get_running_loop().call_later(after, self._drop_lines)

    def _drop_lines(self) -> None:
        lines, self._lines = self._lines, []
        for line in lines:
            line.hang_up()

    # --- the channel ---------------------------------------------------------------------------------------------

    async def start(self, order: Order) -> Outcome:
        """What the one command does here; see `remote.starter`. A node of its own stays with what it was told."""
        await self.travel()
        self.disk.config, self.disk.version = dict(order.config), order.version
        if not self.disk.idle_since:
            self.disk.idle_since = self.clock.now()
        await asyncio.sleep(0.2)
        if not self.on:
            raise ConnectionResetError(f"{self.name} is gone")
        how = "found" if self.agent_up else "started"
        self.agent_up, self.closed = True, False
        self._arm()
        return Outcome(how)

    async def travel(self) -> None:
        """The way to the node. Raises OSError when there is none."""
        await asyncio.sleep(self.rng.uniform(0.005, 0.03))
        if self.cut:
            await asyncio.sleep(_KEEPALIVE_S)
        if self.cut or not self.on:
            raise ConnectionRefusedError(f"{self.name} does not answer")

    async def open(self) -> Connection:
        """A connection to its agent. Raises OSError."""
        await self.travel()
        if not self.agent_up:
            raise ConnectionRefusedError(f"nobody listens on {self.name}")
        line = _Line(self)
        self._lines.append(line)
        return line.client

    def forget_line(self, line: "_Line") -> None:
        """It has been hung up."""
        if line in self._lines:
            self._lines.remove(line)

    # --- the queue -----------------------------------------------------------------------------------------------

    def _later(self, seconds: float, do: Callable[..., None], *args: object) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, do, *args))

    def tell(self, **event: object) -> None:
        """Write an event down, and wake who waits for one."""
        self.disk.events.append({**event, "time": self.clock.now(), "seq": len(self.disk.events) + 1})
        self.changed.set()
        self.changed = asyncio.Event()

    def _move(self, job: SimJob, status: str, reason: str | None = None) -> None:
        job.status, job.reason = status, reason or job.reason
        if job.over:
            # A node that cannot be reached keeps what it has.
            for each in self.peers() if not self.cut else [self]:
                if each is self or not each.cut:
                    each.work.pop(job.key, None)
            job.ended = self.clock.now()
            self.disk.idle_since = self.clock.now()
        self.tell(kind="job", job_id=job.job_id, key=job.key, status=status)
        self._arm()

    def _start(self, job: SimJob) -> None:
        if job.status != "PENDING":
            return
        gang = self._gang(job)
        if gang is None:
            self._move(job, "FAILED_DRIVER", "a node of the job does not answer")
            return
        job.began = self.clock.now()
        self.ran.append(job)
        for each in gang:
            each.begin(job)
        self._move(job, "RUNNING")
        seconds, code, every = _script(job.spec)
        done = self._bucket.get(str(job.spec.get("task_id")), 0.0) if every else 0.0
        self._later(seconds - done, self._end, job, code)
        if every:
            self._later(every, self._save, job, done, seconds, every)
        if len(gang) > 1:
            self._later(2.0, self._watch_gang, job)

    def begin(self, job: SimJob) -> None:
        """Processes of a job start here."""
        task = str(job.spec.get("task_id"))
        if task in self.work.values():
            self.beside.append(task)
        self.work[job.key] = task

    def _save(self, job: SimJob, before: float, seconds: float, every: float) -> None:
        """Write a checkpoint, and say how far it is."""
        if job.over or job.began is None:
            return
        now = self.clock.now()
        done = before + now - job.began
        self._bucket[str(job.spec.get("task_id"))] = done
        kept = {"name": f"at-{done:.0f}", "at": now, "bytes": 1000}
        job.facts = {"progress": round(done / seconds, 6), "progress_at": now, "checkpoint": kept}
        self.tell(kind="job", job_id=job.job_id, key=job.key, status=job.status)
        self._later(every, self._save, job, before, seconds, every)

    def _gang(self, job: SimJob) -> list["SimNode"] | None:
        there = self.peers()[: int(job.spec.get("num_nodes", 1))]
        return there if all(each.on and not each.cut for each in there) else None

    def _watch_gang(self, job: SimJob) -> None:
        if job.over:
            return
        if self._gang(job) is None:
            self.tell(kind="node", status="LOST", rank=1, reason="silent")
            self._move(job, "FAILED_DRIVER", "a node was lost")
        else:
            self._later(2.0, self._watch_gang, job)

    def _end(self, job: SimJob, code: int) -> None:
        if not job.over:
            job.exit_codes = [code] * int(job.spec.get("num_nodes", 1))
            self._move(job, "SUCCEEDED" if code == 0 else "FAILED")

    def _halt_jobs(self, reason: str) -> None:
        for job in self.disk.jobs.values():
            if not job.over and job.status != "PENDING":
                self._move(job, "FAILED_DRIVER", reason)

    def _arm(self) -> None:
        setting = self.disk.autostop
        if setting["idle_minutes"] >= 0:
            due = self.disk.idle_since + max(5.0, setting["idle_minutes"] * 60)
            self._later(max(0.1, due - self.clock.now()), self._look_idle)

    def _look_idle(self) -> None:
        setting = self.disk.autostop
        busy = any(not job.over for job in self.disk.jobs.values())
        due = self.disk.idle_since + max(5.0, setting["idle_minutes"] * 60)
        if setting["idle_minutes"] < 0 or busy or not self.agent_up or self.clock.now() < due - 0.001:
            return
        self.disk.autostop = {"idle_minutes": -1.0, "down": False}
        self.tell(kind="autostop", status="AUTOSTOPPING", down=setting["down"], reason="idle")
        self._later(1.0, self._switch_off, bool(setting["down"]))

    def _switch_off(self, down: bool) -> None:
        for each in [peer for peer in self.peers() if peer is not self] + [self]:
            if each.on:
                each._power(down)

    # --- verbs ---------------------------------------------------------------------------------------------------

    async def answer(self, verb: str, args: Mapping[str, Any]) -> tuple[Json, bytes]:
        """One request. Raises Refused."""
        verbs: dict[str, Callable[[Mapping[str, Any]], Awaitable[tuple[Json, bytes]]]] = {
            "hello": self._hello, "submit": self._submit, "jobs": self._jobs, "cancel": self._cancel,
            "events": self._events, "read_log": self._read_log, "autostop": self._autostop,
            "kill_all": self._kill_all, "shutdown": self._shutdown, "run": self._run, "announce": self._announced,
        }  # fmt: skip
        if verb not in verbs:
            raise Refused("UnknownVerb", f"a simulated node does not know {verb!r}")
        return await verbs[verb](args)

    async def _hello(self, args: Mapping[str, Any]) -> tuple[Json, bytes]:
        from sky.agent.node import checksum  # noqa: PLC0415 - once the agent's room is in memory anyway

        config = self.disk.config or {}
        known = {"version": self.disk.version, "node_id": config.get("node_id"), "rank": config.get("rank")}
        silent = [rank for rank, peer in enumerate(self.peers()) if not peer.on or peer.cut]
        return {**known, "config": checksum(config), "time": self.clock.now(), "silent": silent}, b""

    async def _submit(self, args: Mapping[str, Any]) -> tuple[Json, bytes]:
        key, spec = str(args["key"]), dict(args["spec"])
        for job in self.disk.jobs.values():
            if job.key == key:
                return {"job_id": job.job_id, "created": False}, b""
        if self.closed:
            raise Refused("ClusterStopping", "its work was ended; start it again first")
        made = SimJob(len(self.disk.jobs) + 1, key, spec, submitted_at=self.clock.now())
        self.disk.jobs[made.job_id] = made
        self.disk.idle_since = self.clock.now()
        self.tell(kind="job", job_id=made.job_id, key=key, status="PENDING")
        self._later(self.rng.uniform(0.05, 0.5), self._start, made)
        return {"job_id": made.job_id, "created": True}, b""

    async def _jobs(self, args: Mapping[str, Any]) -> tuple[Json, bytes]:
        wanted, after = args.get("ids"), int(args.get("after") or 0)
        found = [
            job for job in self.disk.jobs.values() if job.job_id > after and (wanted is None or job.job_id in wanted)
        ]
        return {"more": False}, json.dumps([_record(job) for job in found]).encode()

    async def _cancel(self, args: Mapping[str, Any]) -> tuple[Json, bytes]:
        done = []
        for job in self.disk.jobs.values():
            if job.job_id in (args.get("job_ids") or ()) and not job.over:
                self._move(job, "CANCELLED")
                done.append(job.job_id)
        return {"cancelled": done}, b""

    async def _events(self, args: Mapping[str, Any]) -> tuple[Json, bytes]:
        since, loop = int(args.get("since", 0)), asyncio.get_running_loop()
        deadline = loop.time() + min(float(args.get("wait", 0)), _HELD_S)
        while not self.disk.events[since:] and loop.time() < deadline:
            await self._change(deadline - loop.time())
        found = self.disk.events[since:]
        return {"events": found, "next": found[-1]["seq"] if found else since}, b""

    async def _read_log(self, args: Mapping[str, Any]) -> tuple[Json, bytes]:
        job = self.disk.jobs.get(int(args["job_id"]))
        if job is None:
            raise Refused("JobNotFound", f"there is no job {args['job_id']}")
        offset, loop = int(args.get("offset") or 0), asyncio.get_running_loop()
        deadline = loop.time() + min(float(args.get("wait", 0)), _HELD_S)
        while True:
            text = self.printed(job)
            if offset < len(text) or job.over or loop.time() >= deadline:
                break
            await self._change(min(1.0, deadline - loop.time()))
        data = text[offset:]
        return {"offset": offset + len(data), "eof": job.over, "status": job.status}, data

    def printed(self, job: SimJob) -> bytes:
        """All that a job has printed so far: a line for each second that it ran."""
        if job.began is None:
            return b""
        ran = int((job.ended if job.ended is not None else self.clock.now()) - job.began)
        return "".join(map(_LOG_LINE.format, range(ran))).encode()

    async def _change(self, seconds: float) -> None:
        changed = self.changed
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            pass

    async def _autostop(self, args: Mapping[str, Any]) -> tuple[Json, bytes]:
        self.disk.autostop = {"idle_minutes": float(args["idle_minutes"]), "down": bool(args.get("down"))}
        self.disk.idle_since = self.clock.now()
        self._arm()
        return {}, b""

    async def _run(self, args: Mapping[str, Any]) -> tuple[Json, bytes]:
        return {"rc": 0}, b""

    async def _kill_all(self, args: Mapping[str, Any]) -> tuple[Json, bytes]:
        self.closed = True
        if args.get("queue"):
            for job in self.disk.jobs.values():
                if job.status == "PENDING":
                    self._move(job, "CANCELLED")
        self._halt_jobs("the cluster was stopped while the job ran")
        self.work.clear()
        return {}, b""

    async def _announced(self, args: Mapping[str, Any]) -> tuple[Json, bytes]:
        return {}, b""

    async def _shutdown(self, args: Mapping[str, Any]) -> tuple[Json, bytes]:
        self.agent_up = False
        return {}, b""


class _Line:
    """One connection: two streams of frames with a delay each way, which break when the node is cut off."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._there = asyncio.StreamReader(limit=1 << 20)
        self._here = asyncio.StreamReader(limit=1 << 20)
        self.client = Connection(self._here, _End(self, self._there))
        self._back = _End(self, self._here)
        # What the node does is the world's: it goes on when whoever asked is gone.
        self._serving = self._spawn(self._serve())
        self._work: list[asyncio.Task[None]] = []
        self.broken = False
        server = REPLICA.get()
        if server is not None:
            server.lines.append(self)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, context=contextvars.Context())

    def send(self, into: asyncio.StreamReader, data: bytes) -> None:
        """Carry bytes, in order. A line that is cut loses them, and both ends notice by and by."""
        loop = asyncio.get_running_loop()
        if self.broken:
            return
        if self._node.cut:
            loop.call_later(_KEEPALIVE_S, self.hang_up)
        else:
            loop.call_later(0.005, self._arrive, into, data)

    def _arrive(self, into: asyncio.StreamReader, data: bytes) -> None:
        if not self.broken:
            into.feed_data(data)

    def hang_up(self) -> None:
        """Both ends are told."""
        if not self.broken:
            self.broken = True
            self._there.feed_eof()
            self._here.feed_eof()
            for each in self._work:
                each.cancel()
            self._node.forget_line(self)

    async def _serve(self) -> None:
        while (frame := await read_frame(self._there)) is not None:
            self._work = [each for each in self._work if not each.done()]
            self._work.append(self._spawn(self._one(*frame)))

    async def _one(self, header: Json, body: bytes) -> None:
        try:
            ok, data = await self._node.answer(str(header["verb"]), header.get("args") or {})
            self._back.write(encode({"id": header["id"], "ok": ok}, data))
        except Refused as error:
            self._back.write(encode({"id": header["id"], "error": {"type": error.kind, "message": str(error)}}))


class _End:
    """See `agent.connection.Writer`."""

    def __init__(self, line: _Line, into: asyncio.StreamReader) -> None:
        self._line = line
        self._into = into

    def write(self, data: bytes) -> None:
        self._line.send(self._into, data)

    async def drain(self) -> None:
        if self._line.broken:
            raise ConnectionResetError("the line is broken")

    def close(self) -> None:
        self._line.hang_up()

    abort = close

    async def wait_closed(self) -> None:
        return


def _script(spec: Mapping[str, Any]) -> tuple[float, int, float]:
    words = str(spec.get("run") or "sim 0 0").split()
    return float(words[1]), int(words[2]), float(words[3]) if len(words) > 3 else 0.0


def _record(job: SimJob) -> Json:
    return {
        "job_id": job.job_id, "key": job.key, "status": job.status, "submitted_at": job.submitted_at,
        "start_at": job.began, "end_at": job.ended, "exit_codes": job.exit_codes, "reason": job.reason, "pid": None,
        "name": job.spec.get("name"), "user": job.spec.get("user"), "num_nodes": job.spec.get("num_nodes"),
        "facts": job.facts,
    }  # fmt: skip

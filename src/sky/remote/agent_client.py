"""The client of a node's agent: its verbs as methods, over one connection that is made again when it breaks.

Used by the server's adapters (through `core.ports`), by `bootstrap.py` and by `sync.py`. Safe for many callers at
once on one loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sky.agent.connection import CallRefused, Connection, ConnectionLost, Reply
from sky.kit.tracing import span

from .errors import AgentError, AgentUnreachable

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0
_MARGIN = 15.0
#: Seconds for which an agent may be away (its loop brings it back within one, as a rule) before a listener is told.
_PATIENCE = 1.0
#: The same for a reader, of logs or of the queue.
_READER_PATIENCE = 3.0

Json = dict[str, Any]


class AgentClient:
    """One agent. Methods raise AgentUnreachable or AgentError; what may be repeated outlives a lost connection."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], *, where: str, timeout: float = 30.0) -> None:
        self.where = where
        self._connect = connect
        self._timeout = timeout
        self._connection: Connection | None = None
        self._gate = asyncio.Lock()
        #: Calls that have not been answered.
        self.waiting = 0

    async def call(
        self,
        verb: str,
        args: Json | None = None,
        body: bytes = b"",
        *,
        timeout: float | None = None,
        repeat: bool = True,
        patience: float | None = None,
    ) -> Reply:
        """Ask until answered, for at most `timeout` seconds; `repeat=False` for what must not be carried out twice.

        `patience` bounds, in seconds, how long nobody may be there before that is the answer: a call that is held open
        for long may take its time, but a node that is gone should be known as such soon.
        """
        self.waiting += 1
        try:
            with span(f"agent {verb}", kind="client"):
                return await self._call(verb, args, body, timeout=timeout, repeat=repeat, patience=patience)
        finally:
            self.waiting -= 1

    async def _call(
        self, verb: str, args: Json | None, body: bytes, *, timeout: float | None, repeat: bool, patience: float | None
    ) -> Reply:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._timeout if timeout is None else timeout)
        pause, alone_since = _FIRST_PAUSE, loop.time()
        while True:
            # A connection that is being made goes on behind whoever has lost patience with it.
            until = deadline if patience is None else min(deadline, alone_since + patience)
            try:
                async with asyncio.timeout(max(0.01, until - loop.time())):
                    connection = await self._connected()
            except (OSError, TimeoutError) as error:
                problem, sent = str(error) or "no connection in time", False
            else:
                alone_since = loop.time()
                try:
                    return await connection.call(verb, args or {}, body, max(0.01, deadline - loop.time()))
                except CallRefused as error:
                    raise AgentError(error.kind, str(error)) from None
                except ConnectionLost as error:
                    problem, sent = str(error), True
                    alone_since = loop.time()
            given_up = patience is not None and loop.time() - alone_since > patience
            if (sent and not repeat) or given_up or loop.time() + pause >= deadline:
                raise AgentUnreachable(f"the agent of {self.where} did not answer {verb!r}: {problem}")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    @property
    def near(self) -> bool:
        """Whether the agent is on this machine; what is not known counts as that."""
        return self._connection is None or self._connection.near

    async def _connected(self) -> Connection:
        async with self._gate:
            if self._connection is None or self._connection.closed:
                if self._connection is not None:
                    await self._connection.close()
                self._connection = await self._connect()
            return self._connection

    async def close(self) -> None:
        """Close the connection; the client may be used again afterwards."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def hello(self, *, timeout: float | None = None) -> Json:
        """Who answers: protocol, version, node_id, cluster_id, rank, boot_id, pid, started_at, time."""
        return (await self.call("hello", timeout=timeout))[0]

    # The queue (head only)

    async def submit(self, key: str, spec: Json) -> tuple[int, bool]:
        """Queue a job; the id, and whether it is new. The same key always gives the same job."""
        reply, _ = await self.call("submit", {"key": key, "spec": spec})
        return int(reply["job_id"]), bool(reply["created"])

    async def job(self, job_id: int) -> Json:
        """One job's record; AgentError of type JobNotFound when there is none."""
        _, body = await self.call("job", {"job_id": job_id})
        (record,) = json.loads(body)
        found: Json = record
        return found

    async def jobs(self, ids: Sequence[int] | None = None, *, skip_finished: bool = False) -> list[Json]:
        """The named jobs, or all; oldest first."""
        wanted = None if ids is None else list(ids)
        records: list[Json] = []
        while True:
            after = records[-1]["job_id"] if records else 0
            args = {"ids": wanted, "skip_finished": skip_finished, "after": after}
            # Who listens asks for jobs first: a machine that dies in that very moment is to be known as soon.
            reply, body = await self.call("jobs", args, patience=_READER_PATIENCE)
            records += json.loads(body)
            if not reply["more"]:
                return records

    async def cancel(self, job_ids: Sequence[int] | None = None, *, all: bool = False, wait: float = 20.0) -> list[int]:
        """Cancel jobs (none named: the latest that runs); waits up to `wait` seconds for their processes to end."""
        args = {"job_ids": None if job_ids is None else list(job_ids), "all": all, "wait": wait}
        reply, _ = await self.call("cancel", args, timeout=wait + _MARGIN)
        cancelled: list[int] = reply["cancelled"]
        return cancelled

    async def events(self, since: int = 0, *, wait: float = 0.0) -> tuple[list[Json], int]:
        """Events after `since` and where to go on; waits up to `wait` (at most 60) seconds for the first."""
        args = {"since": since, "wait": wait}
        reply, _ = await self.call("events", args, timeout=wait + _MARGIN, patience=_PATIENCE)
        return reply["events"], int(reply["next"])

    async def read_log(
        self,
        job_id: int,
        *,
        which: str = "run",
        rank: int | None = None,
        offset: int | None = None,
        limit: int = 256 * 1024,
        wait: float = 0.0,
        tail: int | None = None,
    ) -> tuple[bytes, int, bool, str]:
        """A piece of a job's log: the bytes, the next offset, whether that is the end, and the job's status.

        `which` is run (combined), setup or node (one rank's own). `tail` counts lines from the end and needs offset
        None.
        """
        args = {
            "job_id": job_id,
            "which": which,
            "rank": rank,
            "offset": offset,
            "limit": limit,
            "wait": wait,
            "tail": tail,
        }
        reply, data = await self.call("read_log", args, timeout=wait + _MARGIN, patience=_READER_PATIENCE)
        return data, int(reply["offset"]), bool(reply["eof"]), str(reply["status"])

    async def autostop(
        self,
        idle_minutes: float,
        *,
        down: bool = False,
        wait_for: str = "jobs_and_ssh",
        hooks: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Stop (or end, with `down`) the cluster after so many idle minutes; negative switches off."""
        args = {
            "idle_minutes": idle_minutes,
            "down": down,
            "wait_for": wait_for,
            "hooks": [dict(hook) for hook in hooks],
        }
        await self.call("autostop", args)

    async def autostop_get(self) -> Json:
        """The setting, with idle_since."""
        return (await self.call("autostop_get"))[0]

    async def hooks(self, event: str, claim: str, scripts: Sequence[tuple[str, float]]) -> list[str]:
        """Run scripts on the head before it is stopped or goes, once per claim; how each ended, in words.

        A script comes with its time limit in seconds. This takes as long as they do.
        """
        wanted = [{"run": run, "timeout": timeout} for run, timeout in scripts]
        within = sum(timeout for _, timeout in scripts) + _MARGIN
        args = {"event": event, "claim": claim, "scripts": wanted}
        reply, _ = await self.call("hooks", args, timeout=within, patience=_PATIENCE)
        return [str(each) for each in reply["said"]]

    # Every node

    async def run(
        self, script: str, *, timeout: float = 60.0, env: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Run a short script with sh in the node's home; exit code (124: took too long) and the first MiB of output."""
        args = {"script": script, "timeout": timeout, "env": dict(env or {})}
        reply, output = await self.call("run", args, timeout=timeout + _MARGIN, repeat=False)
        return int(reply["rc"]), output

    async def kill_all(
        self, *, grace: float = 5.0, remove: bool = False, queue: bool = False, patience: float = 0.0
    ) -> None:
        """End all task processes of the node. Ask the head first: it then counts running jobs as ended by the stop.

        Containers of the node are stopped, and with `remove` (the node will not be started again) taken away.
        With `queue`, the jobs that wait at the head are cancelled, too. `patience` seconds more are waited for the end.
        """
        args = {"grace": grace, "remove": remove, "queue": queue}
        await self.call("kill_all", args, timeout=grace * 2 + _MARGIN + patience)

    async def power_off(self, mode: str) -> None:
        """End all task processes and carry out the node's own `stop` or `down`."""
        await self.call("power_off", {"mode": mode}, timeout=60.0)

    async def strike(self, fault: str, *, key: str | None = None, seconds: float = 0.0, rank: int | None = None) -> int:
        """Let something go wrong on the node, once (see `sky.agent.chaos`); how much was struck."""
        args = {"fault": fault, "key": key, "seconds": seconds, "rank": rank}
        reply, _ = await self.call("chaos", args, repeat=False)
        return int(reply["struck"])

    async def announce(self, seconds: float) -> None:
        """Give the node the notice that its tasks will be ended in so many seconds."""
        await self.call("announce", {"seconds": seconds}, repeat=False)

    async def shutdown(self) -> None:
        """Let the agent leave; tasks go on."""
        await self.call("shutdown", repeat=False)

"""A cloud of one process whose machines are made of numbers, and a server that launches there instead of here.

    python benchmarks/made_up_cloud.py SOCKET      the cloud; machines come when it is told `release`
    python -m sky.server --plane made_up_cloud:build …   a server whose `infra: local` is that cloud (MADE_UP_CLOUD)

Everything of the server is the real one but the two ends: its provider asks that process for machines, and its way to
a node is a connection to that process, on which a `sky.sim.node.SimNode` speaks the agent's protocol. So what machines
and their agents cost is not the server's.
"""

import asyncio
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from sky.agent.connection import CallRefused, Connection, ConnectionLost, SocketWriter, connect_unix
from sky.agent.fields import Refused
from sky.agent.frames import encode, read_frame
from sky.core.errors import NotSupportedError
from sky.core.model.clusters import Cluster, Instance, InstanceState
from sky.core.model.offers import Offer
from sky.core.ports import Access, CreateAsk
from sky.kit.clock import SystemClock
from sky.remote.channel import Channel, Completed, Order, Outcome
from sky.server import assembly
from sky.server.fleet import NodeFleet
from sky.sim.node import SimJob, SimNode

Json = dict[str, Any]


class Node(SimNode):
    """One whose jobs print a line each `every` seconds, or none at all."""

    every = 0.0

    def printed(self, job: SimJob) -> bytes:
        """All that a job has printed so far."""
        if job.began is None or not self.every:
            return b""
        ran = int(((job.ended if job.ended is not None else self.clock.now()) - job.began) / self.every)
        return b"a line as jobs print them\n" * ran


class World:
    """The cloud's process. `create` is answered once machines are released, each after a time of its own."""

    def __init__(self) -> None:
        self.nodes: dict[str, SimNode] = {}
        self.asked = 0
        self._lines: dict[SimNode, set[asyncio.StreamWriter]] = {}
        self._spread = 0.0
        self._free = asyncio.Event()
        self._rng = Random(1)
        #: By the name of their clusters, when machines were asked for; by the names of machines, when they were lost.
        self._ordered: dict[str, float] = {}
        self._lost: dict[str, float] = {}
        #: Seconds between two lines that a job prints; 0 for jobs that print nothing.
        self._chatter = 0.0

    async def serve(self, path: str) -> None:
        """Answer until killed."""
        server = await asyncio.start_unix_server(self._client, path, limit=1 << 20, backlog=4096)
        print("ready", flush=True)
        await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        work: set[asyncio.Task[None]] = set()
        node: SimNode | None = None
        with suppress(ConnectionError):
            while (frame := await read_frame(reader)) is not None:
                header = frame[0]
                if header["verb"] == "through":
                    node = self.nodes.get(header["args"]["node"])
                    if node is None:
                        break
                    self._lines.setdefault(node, set()).add(writer)
                task = asyncio.create_task(self._one(node, header, writer))
                work.add(task)
                task.add_done_callback(work.discard)
        for task in work:
            task.cancel()
        if node is not None:
            self._lines.get(node, set()).discard(writer)
        writer.close()

    async def _one(self, node: SimNode | None, header: Json, writer: asyncio.StreamWriter) -> None:
        args, body = header["args"], b""
        try:
            if header["verb"] == "through":
                answer: Json = {}
            elif node is not None and header["verb"] != "boot":
                answer, body = await node.answer(header["verb"], args)
            else:
                answer = await getattr(self, f"do_{header['verb']}")(args)
        except Refused as refused:
            writer.write(encode({"id": header["id"], "error": {"type": refused.kind, "message": str(refused)}}))
            return
        writer.write(encode({"id": header["id"], "ok": answer}, body))

    async def do_release(self, args: Json) -> Json:
        """Machines come from now on, after up to `spread` seconds each."""
        self._spread = float(args["spread"])
        self._free.set()
        return {}

    async def do_chatter(self, args: Json) -> Json:
        """Jobs on machines that are made from now on print a line each so many seconds."""
        self._chatter = float(args["every"])
        return {}

    async def do_lose(self, args: Json) -> Json:
        """So many machines are gone at once, and their connections break; when that was, by their marks."""
        gone = self._rng.sample(sorted(self.nodes), int(args["count"]))
        for name in gone:
            node = self.nodes.pop(name)
            node.power_off(wipe=True)
            for line in self._lines.pop(node, ()):
                line.close()
            self._lost[name.rpartition("-")[0]] = time.time()
        return {"marks": [name.rpartition("-")[0] for name in gone]}

    async def do_times(self, args: Json) -> Json:
        """When machines were ordered and lost, by their marks, in seconds since the epoch."""
        return {
            "ordered": {mark: self._ordered[mark] for mark in args["marks"] if mark in self._ordered},
            "lost": self._lost,
        }

    async def do_states(self, args: Json) -> Json:
        """How many machines there are, and how many jobs run on them; those that run on several at once."""
        jobs = [job for node in self.nodes.values() for job in node.disk.jobs.values()]
        running = Counter(str(job.spec.get("task_id")) for job in jobs if job.status == "RUNNING")
        doubled = [task for task, count in running.items() if count > 1]
        return {"machines": len(self.nodes), "running": running.total(), "jobs": len(jobs), "doubled": doubled}

    async def do_asked(self, args: Json) -> Json:
        """How many launches wait for a machine, or have one."""
        return {"asked": self.asked}

    async def do_create(self, args: Json) -> Json:
        """One machine for each rank."""
        self.asked += 1
        self._ordered[args["mark"]] = time.time()
        await self._free.wait()
        await asyncio.sleep(self._rng.uniform(0, self._spread))
        for rank in args["ranks"]:
            name = f"{args['mark']}-{rank}"
            if name not in self.nodes:
                node = self.nodes[name] = Node(name, SystemClock(), Random(name), lambda down: None)  # type: ignore[arg-type]
                node.every = self._chatter
                node.power_on()
        return await self.do_list(args)

    async def do_boot(self, args: Json) -> Json:
        """An agent comes up, as by the one command of `remote.starter`."""
        node = self.nodes.get(args["config"]["node_id"])
        if node is None:
            raise Refused("Gone", "there is no such machine any more")
        done = await node.start(Order(args["config"], args["version"], b"", 10, 1))
        return {"how": done.how}

    async def do_list(self, args: Json) -> Json:
        """The machines of one mark, or all."""
        mark = args.get("mark")
        return {"nodes": [name for name in self.nodes if mark is None or name.rpartition("-")[0] == mark]}

    async def do_terminate(self, args: Json) -> Json:
        """They are gone."""
        for name in (await self.do_list(args))["nodes"]:
            self.nodes.pop(name).power_off(wipe=True)
        return {}


class Line:
    """One connection of the server to that process, for all that is asked of the cloud itself."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._line: Connection | None = None

    async def ask(self, verb: str, **args: object) -> Json:
        """Ask, and wait for as long as it takes."""
        if self._line is None or self._line.closed:
            self._line = await connect_unix(self._path)
        return (await self._line.call(verb, args))[0]


class MadeUp:
    """See `core.ports.Compute`."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def check(self) -> Access:
        return Access("local", True, capabilities=("compute",))

    async def offers(self) -> Sequence[Offer]:
        return (Offer("local", "local", None, "number", 4, 16, 0.0, {}, shared=True),)

    async def create(self, ask: CreateAsk) -> Sequence[Instance]:
        return _instances(await self._line.ask("create", mark=ask.cluster_id, ranks=list(ask.wanted)))

    async def list(
        self, cluster_id: str | None = None, *, regions: Collection[str] | None = None
    ) -> Sequence[Instance]:
        return _instances(await self._line.ask("list", mark=cluster_id))

    async def terminate(
        self, cluster_id: str, *, regions: Collection[str] | None = None, ranks: Collection[int] | None = None
    ) -> None:
        await self._line.ask("terminate", mark=cluster_id)


def _instances(answer: Json) -> list[Instance]:
    return [
        Instance(
            name,
            mark,
            int(rank),
            InstanceState.RUNNING,
            "127.0.0.1",
            {"kind": "local", "socket": name, "home": name},
            None,
            name,
        )
        for name in answer["nodes"]
        for mark, _, rank in [name.rpartition("-")]
        for reach in [{"kind": "local", "socket": name, "home": name}]
    ]


class Way:
    """See `remote.channel.Channel`."""

    python = "python3"

    def __init__(self, path: str, line: Line, node: str) -> None:
        self._path = path
        self._line = line
        self.where = node

    async def run(self, argv: Sequence[str], **given: object) -> Completed:
        raise NotSupportedError("nodes made of numbers run no commands")

    async def settle(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return dict(config)

    async def start(self, order: Order) -> Outcome:
        try:
            return Outcome((await self._line.ask("boot", config=dict(order.config), version=order.version))["how"])
        except CallRefused as refused:
            raise ConnectionRefusedError(str(refused)) from None

    async def open_agent(self) -> Connection:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=1 << 20)
        line = Connection(reader, SocketWriter(writer))
        try:
            await line.call("through", {"node": self.where})
        except ConnectionLost:
            raise ConnectionRefusedError(f"{self.where} is gone") from None
        return line


def build(settings: Any) -> Any:
    """See `server.assembly.build`: the same, with another provider and another way to nodes."""
    path = os.environ["MADE_UP_CLOUD"]
    line = Line(path)

    class Elsewhere(assembly.Registry):
        def compute(self, cloud: str) -> Any:
            return MadeUp(line) if cloud == "local" else super().compute(cloud)

    class Fleet(NodeFleet):
        def channel(self, cluster: Cluster, node: Instance) -> Channel:
            return Way(path, line, node.id)

    assembly.Registry, assembly.NodeFleet = Elsewhere, Fleet  # type: ignore[misc]
    return assembly.build(settings)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Path(sys.argv[1]).unlink(missing_ok=True)
    asyncio.run(World().serve(sys.argv[1]))

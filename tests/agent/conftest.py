"""Clusters of real agents on this machine: each node a directory, each agent a process."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from sky.agent.connection import Connection, connect_unix
from sky.remote.agent_client import AgentClient
from sky.remote.bootstrap import ensure_agent
from sky.remote.channel import Completed, Order, Outcome
from sky.remote.local import LocalChannel
from sky.remote.starting import start_complete

#: Where agents on test hosts listen for each other.
PORT = 21007


def processes_of(node_id: str) -> list[int]:
    """Every process whose environment names the node."""
    wanted = f"SKY_NODE_ID={node_id}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


class Node:
    """One node of a test cluster."""

    def __init__(self, root: Path, config: dict[str, Any]) -> None:
        self.config = config
        self.home = Path(config["home"])
        self.home.mkdir(parents=True, exist_ok=True)
        self.channel = LocalChannel(self.home, Path(config["socket"]))
        self.client: AgentClient = AgentClient(self.channel.open_agent, where=str(root))

    async def start(self) -> AgentClient:
        await self.client.close()
        self.client = await ensure_agent(self.channel, self.config)
        return self.client

    async def pid(self) -> int:
        return int((await self.client.hello())["pid"])

    async def end(self) -> None:
        await self.client.close()
        while pids := processes_of(self.config["node_id"]):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)


class Cluster:
    """A started cluster; `head` is the client of its queue."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def head(self) -> AgentClient:
        return self.nodes[0].client

    async def submit(self, run: str | None = "true", key: str | None = None, **spec: Any) -> int:
        spec = {"run": run, "user": "tester", "task_id": f"sky-{uuid.uuid4().hex[:8]}", **spec}
        job_id, _ = await self.head.submit(key or uuid.uuid4().hex, spec)
        return job_id

    async def until(self, job_id: int, *statuses: str, seconds: float = 90.0) -> dict[str, Any]:
        """Wait for one of the statuses (none named: for the end)."""
        terminal = statuses or ("SUCCEEDED", "FAILED", "FAILED_SETUP", "FAILED_DRIVER", "CANCELLED")
        loop = asyncio.get_running_loop()
        deadline, since = loop.time() + seconds, 0
        while loop.time() < deadline:
            job = await self.head.job(job_id)
            if job["status"] in terminal:
                return job
            _, since = await self.head.events(since, wait=1.0)
        raise AssertionError(
            f"job {job_id} is {job['status']}, wanted {terminal}; log: {await self.log(job_id, wait=0)}"
        )

    async def log(self, job_id: int, wait: float = 30.0, **where: Any) -> bytes:
        """The whole log, to its end if `wait` is not 0."""
        await self.head.hello()  # an agent that was just killed is back: a reader does not wait for it as long
        data, offset, eof, _ = await self.head.read_log(job_id, wait=wait, **where)
        out = data
        while not eof and (data or wait):
            where.pop("tail", None)
            data, offset, eof, _ = await self.head.read_log(job_id, **{**where, "offset": offset}, wait=wait)
            out += data
        return out

    async def said(self, job_id: int, text: bytes = b"", times: int = 1, seconds: float = 90.0) -> None:
        """Wait until the log holds something, or `text` so many times; fails at once if the job ends without it."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            ended = (await self.head.job(job_id))["end_at"] is not None
            log = await self.log(job_id, wait=0)
            if log and log.count(text) >= times:
                return
            assert not ended and asyncio.get_running_loop().time() < deadline, f"job {job_id} has said: {log!r}"
            await asyncio.sleep(0.05)

    async def seen(self, job_id: int, wanted: Callable[[dict[str, Any]], bool], seconds: float = 90.0) -> Any:
        """The job's record once `wanted` holds of its facts."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            job = await self.head.job(job_id)
            if wanted(job["facts"]):
                return job
            assert asyncio.get_running_loop().time() < deadline, job
            await asyncio.sleep(0.05)

    async def result(self, job_id: int) -> tuple[str, str]:
        """Status and log of a job that ends."""
        log = await self.log(job_id)
        return (await self.until(job_id))["status"], log.decode("utf-8", "replace")

    def kill_agent(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)


Start = Callable[..., Any]


@pytest.fixture
async def start_cluster() -> AsyncIterator[Start]:
    """Call it to start a cluster: number of nodes, and whatever of node.json shall differ (or a function of the rank).

    `python` runs the agents.
    """
    root = Path(tempfile.mkdtemp(prefix="sky"))
    nodes: list[Node] = []

    async def start(count: int = 1, python: str | None = None, **config: Any) -> Cluster:
        sockets = [root / f"n{rank}" / "agent.sock" for rank in range(count)]
        for rank in range(count):
            values = {
                "protocol": 1,
                "cluster_name": "testing",
                "cluster_id": root.name,
                "node_id": f"{root.name}-{rank}",
                "rank": rank,
                "num_nodes": count,
                "ips": [f"127.0.0.{index + 1}" for index in range(count)],
                "peers": [f"unix:{path}" for path in sockets],
                "socket": str(sockets[rank]),
                "home": str(root / f"n{rank}" / "home"),
                "cpus": 4,
                "memory_gb": 8,
                "accelerators": None,
                "infra": {"cloud": "local", "region": "local", "zone": None},
                "user": "tester",
                "power_off": {"stop": [], "down": []},
                **{name: value(rank) if callable(value) else value for name, value in config.items()},
            }
            nodes.append(Node(root, values))
            nodes[-1].channel.python = python or nodes[-1].channel.python
        await asyncio.gather(*(node.start() for node in nodes))
        return Cluster(nodes)

    yield start
    for node in nodes:
        await node.end()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
async def cluster(start_cluster: Start) -> Cluster:
    """One node."""
    result: Cluster = await start_cluster()
    return result


def make_certificate() -> dict[str, str]:
    """A self-signed certificate and its key, PEM."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .sign(key, None)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"cert": made.public_bytes(serialization.Encoding.PEM).decode(), "key": private.decode()}


@pytest.fixture
def certificate() -> Callable[[], dict[str, str]]:
    """Call it for a certificate that nobody else has."""
    return make_certificate


class HostChannel:
    """A way to a test host that works across a partition: its own namespaces, and its disk for the agent's socket."""

    def __init__(self, host: Any, socket: str, user: str = "root") -> None:
        self.where = f"test host {host.name}"
        self.python = "/usr/bin/python3"
        self.host = host
        self._socket = socket
        self._user = user

    async def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, input: bytes = b"", timeout: float = 60.0
    ) -> Completed:
        words = [*self.host.lab.command, "exec", self.host.name]
        if self._user != "root":
            words += ["setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--init-groups"]
        settings = [f"{name}={value}" for name, value in (env or {}).items()]
        home = "/root" if self._user == "root" else f"/home/{self._user}"
        process = await asyncio.create_subprocess_exec(
            *words,
            *("env", f"HOME={home}", *settings, *argv),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(timeout):
            stdout, stderr = await process.communicate(input)
        return Completed(process.returncode or 0, stdout, stderr)

    async def settle(self, config: dict[str, Any]) -> dict[str, Any]:
        """All of it is known here."""
        return config

    async def start(self, order: Order) -> Outcome:
        return await start_complete(self, order)

    async def open_agent(self) -> Connection:
        return await connect_unix(f"/proc/{self.host.refresh().pid}/root{self._socket}")


class Machine(Node):
    """A node that is a test host."""

    def __init__(self, host: Any, config: dict[str, Any], user: str = "root") -> None:
        self.config = config
        self.home = Path(config["home"])
        self.host = host
        self.channel: Any = HostChannel(host, config["socket"], user)
        self.client = AgentClient(self.channel.open_agent, where=host.name)

    async def start(self) -> AgentClient:
        await self.client.close()
        self.client = await ensure_agent(self.channel, self.config)
        return self.client

    async def end(self) -> None:
        """Its processes go with the host."""
        await self.client.close()

    def said(self) -> str:
        """What the agent wrote to its own log."""
        return str(self.host.exec("cat", f"{self.home}/.sky/agent/agent.log").stdout)


@pytest.fixture
async def start_machines() -> AsyncIterator[Start]:
    """Call it with test hosts to make a cluster of them that speaks TLS; node.json's values may be given."""
    nodes: list[Machine] = []

    async def start(hosts: Sequence[Any], *, user: str = "root", run: bool = True, **config: Any) -> Cluster:
        home = "/root" if user == "root" else f"/home/{user}"
        mark, tls = uuid.uuid4().hex[:8], make_certificate()
        for rank, host in enumerate(hosts):
            values = {
                "protocol": 1,
                "cluster_name": "testing",
                "cluster_id": mark,
                "node_id": f"{mark}-{rank}",
                "rank": rank,
                "num_nodes": len(hosts),
                "ips": [each.ip for each in hosts],
                "peers": [f"tls://{each.ip}:{PORT}" for each in hosts],
                "listen": f"tls://0.0.0.0:{PORT}",
                "tls": tls,
                "socket": f"{home}/.sky/agent.sock",
                "home": home,
                "cpus": 4,
                "memory_gb": 8,
                "accelerators": None,
                "infra": {"cloud": "aws", "region": "here", "zone": None},
                "user": "tester",
                "power_off": {"stop": [], "down": []},
                **config,
            }
            nodes.append(Machine(host, values, user))
        if run:
            await asyncio.gather(*(node.start() for node in nodes[-len(hosts) :]))
        return Cluster(nodes[-len(hosts) :])

    yield start
    for node in nodes:
        await node.end()

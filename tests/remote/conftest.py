"""One real agent on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sky.remote.agent_client import AgentClient
from sky.remote.bootstrap import ensure_agent
from sky.remote.local import LocalChannel


def processes_of(node_id: str) -> list[int]:
    wanted = f"SKY_NODE_ID={node_id}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


class Place:
    """A node's directory, channel and configuration; nothing runs there yet."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.socket = root / "s" / "agent.sock"
        self.home.mkdir(parents=True)
        self.channel = LocalChannel(self.home, self.socket)
        self.config: dict[str, Any] = {
            "protocol": 1,
            "cluster_name": "remote",
            "cluster_id": root.name,
            "node_id": root.name,
            "rank": 0,
            "num_nodes": 1,
            "ips": ["127.0.0.1"],
            "peers": [f"unix:{self.socket}"],
            "socket": str(self.socket),
            "home": str(self.home),
            "cpus": 2,
            "memory_gb": 4,
            "accelerators": None,
            "infra": {"cloud": "local", "region": "local", "zone": None},
            "user": "tester",
            "power_off": {"stop": [], "down": []},
        }

    def processes(self) -> list[int]:
        return processes_of(self.config["node_id"])

    async def end(self) -> None:
        while pids := self.processes():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """Where an agent may be started."""
    root = Path(tempfile.mkdtemp(prefix="sky"))
    node = Place(root)
    yield node
    await node.end()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
async def client(place: Place) -> AsyncIterator[AgentClient]:
    """A client of a started agent."""
    started = await ensure_agent(place.channel, place.config)
    yield started
    await started.close()

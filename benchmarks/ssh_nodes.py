"""What it costs to keep many nodes connected by SSH: memory for each, and processor time while nothing happens.

    python benchmarks/ssh_nodes.py [--nodes 1000] [--hosts 20] [--idle 30]

The nodes are test hosts with real agents (`--hosts`, needs root) and, for the rest, a peer in another process that
speaks real SSH over the loopback and answers as an agent does. Every node has one line, as the server keeps it, and on
it somebody waits for events all the time. The bars: at most 1 MB for a node, and 5 % of a core for 1,000.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Any

from sky.agent.frames import encode, read_frame
from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase
from sky.remote.keys import KeyRing
from sky.server.fleet import NodeFleet

HERE = Path(__file__).resolve().parent
_HOLD_S = 30.0


def memory_kb(pid: int) -> int:
    """Private and shared memory of a process, in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise LookupError("Pss")


# --- the peer ----------------------------------------------------------------------------------------------------


async def serve_peer(public: str) -> None:
    """Serve SSH to whoever has the key, until the input ends; prints port and host key as JSON."""
    import asyncssh

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return " ".join(key.export_public_key("openssh").decode().split()[:2]) == public

        def unix_connection_requested(self, dest_path: str) -> Any:
            return answer

    async def answer(reader: Any, writer: Any) -> None:
        tasks = set()
        while (frame := await read_frame(reader)) is not None:
            task = asyncio.ensure_future(reply(frame[0], writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def reply(header: dict[str, Any], writer: Any) -> None:
        if header["verb"] == "events":
            await asyncio.sleep(header["args"]["wait"])
        body = {"events": [], "next": 0} if header["verb"] == "events" else {"node_id": "x"}
        with suppress(OSError):  # the other side has gone
            writer.write(encode({"id": header["id"], "ok": body}))

    async def command(process: asyncssh.SSHServerProcess[str]) -> None:
        words = shlex.split(process.command)
        mark = words[words.index("sky-facts") + 1]
        await process.stdin.read()
        found = ["/home/x", "/home/x", "1000", "/usr/bin/python3", "Linux x86_64", "", "/home/x/agent.sock", "yes", ""]
        process.stdout.write("\t".join([mark, *found]) + "\n")
        process.exit(0)

    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        Server, "127.0.0.1", 0, server_host_keys=[key], process_factory=command, encoding="utf-8", backlog=2000
    )
    shown = " ".join(key.export_public_key("openssh").decode().split()[:2])
    print(json.dumps({"port": server.get_port(), "host_key": shown}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


# --- the measured side -------------------------------------------------------------------------------------------


def cluster_of(name: str, reach: dict[str, str]) -> Cluster:
    """A cluster of one node."""
    node = Instance(f"{name}-0", name, 0, InstanceState.RUNNING, reach["host"], {"kind": "ssh", **reach})
    return Cluster(name, name, "u", "d", Phase.UP, 1, 0.0, 0.0, 1, instances=(node,))


async def keep(fleet: NodeFleet, cluster: Cluster, ready: asyncio.Semaphore) -> None:
    """As the engine's listener does."""
    async with ready:
        head = await fleet.head(cluster)
        await head.ping()
    while True:
        await head.events(0, _HOLD_S)


FIGURES: dict[str, object] = {}


async def measure(fleet: NodeFleet, clusters: list[Cluster], idle: float, label: str) -> None:
    """Connect all, wait until it is quiet, and look at memory and processor time of this process."""
    gc.collect()
    before, began = memory_kb(os.getpid()), time.perf_counter()
    gate = asyncio.Semaphore(32)
    listeners = [asyncio.create_task(keep(fleet, cluster, gate)) for cluster in clusters]
    while not all(
        any(client.waiting for id, client in fleet._clients.items() if id.startswith(f"{each.id}-"))
        for each in clusters
    ):
        await asyncio.sleep(0.2)
        for listener in listeners:
            if listener.done():
                listener.result()
    connected = time.perf_counter() - began
    await asyncio.sleep(3.0)
    gc.collect()
    each_kb = (memory_kb(os.getpid()) - before) / len(clusters)
    began, used = time.perf_counter(), time.process_time()
    await asyncio.sleep(idle)
    load = (time.process_time() - used) / (time.perf_counter() - began)
    print(
        f"{label}: {len(clusters)} nodes connected in {connected:.1f} s, {each_kb:.0f} kB each, idle load "
        f"{load:.2%} of a core ({load * 1000 / len(clusters):.2%} for 1,000)",
        file=sys.stderr,
        flush=True,
    )
    FIGURES[f"{label}: kB each"] = round(each_kb, 1)
    FIGURES[f"{label}: idle load for 1,000, % of a core"] = round(100_000 * load / len(clusters), 2)
    for listener in listeners:
        listener.cancel()
    await asyncio.gather(*listeners, return_exceptions=True)
    for cluster in clusters:
        await fleet.forget(cluster.id)


async def hosts_part(options: argparse.Namespace, root: Path) -> None:
    """Real hosts, real agents."""
    found = importlib.util.spec_from_file_location("beds", HERE.parent / "tests/testbed/beds.py")
    assert found is not None and found.loader is not None
    beds = importlib.util.module_from_spec(found)
    found.loader.exec_module(beds)
    if why := beds.missing():
        FIGURES["hosts skipped"] = why
        return
    with ExitStack() as stack:
        lab = stack.enter_context(beds.lab("remote-nodes"))
        clusters = [
            cluster_of(
                f"h{number}",
                {"host": host.ip, "port": "22", "user": host.user, "host_key": host.host_key, "identity": host.key},
            )
            for number, host in enumerate(lab.create(options.hosts))
        ]
        fleet = NodeFleet(None, KeyRing(root / "keys"))
        began = time.perf_counter()
        await asyncio.gather(*(fleet.bring_up(each) for each in clusters))
        print(f"{options.hosts} agents brought up in {time.perf_counter() - began:.1f} s", file=sys.stderr)
        for cluster in clusters:
            await fleet.forget(cluster.id)
        await measure(fleet, clusters, options.idle, "test hosts")


async def peer_part(options: argparse.Namespace, root: Path) -> None:
    """The simulated peer."""
    keys = KeyRing(root / "keys")
    public = " ".join(keys.identity().with_suffix(".pub").read_text().split()[:2])
    peer = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, __file__, "--peer", public],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    async with AsyncExitStack() as stack:
        stack.callback(peer.wait)
        stack.callback(peer.stdin.close)
        told = json.loads(await asyncio.to_thread(peer.stdout.readline))
        clusters = [
            cluster_of(
                f"p{number:04}",
                {"host": "127.0.0.1", "port": str(told["port"]), "user": f"u{number}", "host_key": told["host_key"]},
            )
            for number in range(options.nodes)
        ]
        fleet = NodeFleet(None, keys)
        await measure(fleet, clusters[:1], 0.1, "warm-up")
        await measure(fleet, clusters, options.idle, "simulated peer")


def main() -> None:
    """Measure one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--idle", type=float, default=30.0)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        asyncio.run(serve_peer(options.peer))
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.nodes:
            asyncio.run(peer_part(options, Path(folder)))
        if options.hosts:
            asyncio.run(hosts_part(options, Path(folder)))
    print(json.dumps(FIGURES))


if __name__ == "__main__":
    main()

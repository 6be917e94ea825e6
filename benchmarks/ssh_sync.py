"""File sync over SSH to a test host: many small files against one `tar` stream, and a large one that has changed.

    python benchmarks/ssh_sync.py [--files 20000] [--megabytes 200] [--delay 10ms] [--rate 100mbit] [--rounds 3]

Needs root, as the hosts do. `--delay` is each way, so that a round trip takes twice as long. The bars: the first time
at least 60 % of what tar gives, the second with one changed file at most 1.5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase
from sky.remote.keys import KeyRing
from sky.remote.sync import HashCache, sync_content, sync_tree
from sky.server.fleet import NodeFleet

HERE = Path(__file__).resolve().parent


def beds() -> ModuleType:
    """The starter of test beds, from the tests' folder."""
    found = importlib.util.spec_from_file_location("beds", HERE.parent / "tests/testbed/beds.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def make_tree(root: Path, files: int, size: int) -> list[dict[str, Any]]:
    """Random content, so that nothing is gained by compression; kept as files and by hash, hard-linked."""
    (root / "blobs").mkdir(parents=True)
    entries: list[dict[str, Any]] = []
    for number in range(files):
        name = f"{number % 100:02}/{number:06}.bin"
        content = os.urandom(size)
        path = root / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        os.link(path, root / "blobs" / digest)
        entries.append({"path": name, "type": "file", "mode": 0o644, "size": size, "hash": digest})
    folders = [{"path": f"{each:02}", "type": "dir", "mode": 0o755} for each in range(min(100, files))]
    return folders + entries


def cluster_of(host: Any) -> Cluster:
    """A cluster of one node on a test host."""
    reach = {"kind": "ssh", "host": host.ip, "port": "22", "user": host.user, "host_key": host.host_key,
             "identity": host.key}  # fmt: skip
    node = Instance("bench-0", "bench", 0, InstanceState.RUNNING, host.ip, reach)
    return Cluster("bench", "bench", "u", "d", Phase.UP, 1, 0.0, 0.0, 1, instances=(node,))


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Seconds that it took."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def tar_openssh(root: Path, host: Any) -> None:
    """tar | ssh tar, with OpenSSH's own choice of cipher."""
    receive, send = os.pipe()
    argv = host.ssh_command("mkdir -p t1 && tar -C t1 -x -f -")
    ssh = await asyncio.create_subprocess_exec(*argv, stdin=receive)
    tar = await asyncio.create_subprocess_exec("tar", "-C", str(root / "tree"), "-c", "-f", "-", ".", stdout=send)
    os.close(receive)
    os.close(send)
    assert (await tar.wait(), await ssh.wait()) == (0, 0)


async def tar_asyncssh(root: Path, connection: Any) -> None:
    """The same through the connection that our own sync uses."""
    process = await connection.create_process("mkdir -p t2 && tar -C t2 -x -f -", encoding=None)
    tar = await asyncio.create_subprocess_exec(
        "tar", "-C", str(root / "tree"), "-c", "-f", "-", ".", stdout=subprocess.PIPE
    )
    assert tar.stdout is not None
    while data := await tar.stdout.read(1 << 18):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.write_eof()
    assert (await process.wait()).returncode == 0


async def rsync(root: Path, host: Any) -> None:
    """What most people would use, over OpenSSH."""
    shell = f"ssh -F {host.ssh_config}"
    argv = ["rsync", "-a", "--delete", "-e", shell, f"{root / 'tree'}/", f"{host.user}@{host.name}:t3/"]
    assert await (await asyncio.create_subprocess_exec(*argv)).wait() == 0


async def large(client: Any, root: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """A large file that gets 100 bytes in its middle: with rsync, and with none to be found."""
    times: dict[str, list[float]] = {"large with rsync": [], "large without": []}
    tree, path = root / "large", os.environ["PATH"]
    tree.mkdir()
    half = options.large << 19
    content = os.urandom(options.large << 20)
    (tree / "large.bin").write_bytes(content)
    await sync_tree(client, tree, "~/large", root="mount")
    for _ in range(options.rounds):
        for name, measured in times.items():
            content = content[:half] + os.urandom(100) + content[half:]
            (tree / "large.bin").write_bytes(content)
            os.environ["PATH"] = path if name == "large with rsync" else ""
            cache = HashCache()
            cache.digest(tree / "large.bin", (tree / "large.bin").stat())
            began = time.perf_counter()
            report = await sync_tree(client, tree, "~/large", root="mount", cache=cache)
            measured.append(time.perf_counter() - began)
            os.environ["PATH"] = path
            print(f"{name}: {report.bytes_sent} bytes travelled", file=sys.stderr)
    return times


async def measure(host: Any, root: Path, options: argparse.Namespace) -> None:
    """Rounds of all, interleaved; prints medians."""
    entries = make_tree(root, options.files, options.megabytes * 1_000_000 // options.files)
    cluster = cluster_of(host)
    fleet = NodeFleet(None, KeyRing(root / "keys"))
    await fleet.bring_up(cluster)
    client = fleet._clients["bench-0"]
    connection = await fleet.channel(cluster, cluster.instances[0]).link.connection()
    blobs = root / "blobs"
    times: dict[str, list[float]] = {"tar openssh": [], "tar asyncssh": [], "rsync first": [], "rsync second": [],
                                     "first": [], "second": []}  # fmt: skip
    for number in range(options.rounds):
        host.exec(
            "sh", "-c", "rm -rf /home/sky/t1 /home/sky/t2 /home/sky/t3 /home/sky/sky_workdir /home/sky/.sky/agent/sync"
        )
        times["tar openssh"].append(await timed(lambda: tar_openssh(root, host)))
        times["tar asyncssh"].append(await timed(lambda: tar_asyncssh(root, connection)))
        if shutil.which("rsync"):
            times["rsync first"].append(await timed(lambda: rsync(root, host)))
            (root / "tree" / entries[-1]["path"]).unlink()
            (root / "tree" / entries[-1]["path"]).write_bytes(b"changed %d" % number)
            times["rsync second"].append(await timed(lambda: rsync(root, host)))
        times["first"].append(
            await timed(lambda: sync_content(client, entries, lambda name: blobs / name, "~/sky_workdir"))
        )
        changed = b"changed %d" % number
        digest = hashlib.sha256(changed).hexdigest()
        (blobs / digest).write_bytes(changed)
        again = [*entries[:-1], {**entries[-1], "size": len(changed), "hash": digest}]
        times["second"].append(
            await timed(lambda: sync_content(client, again, lambda name: blobs / name, "~/sky_workdir"))  # noqa: B023
        )
    times |= await large(client, root, options)
    await fleet.quiesce(cluster)
    await fleet.forget(cluster.id)
    median = {name: statistics.median(values) for name, values in times.items() if values}
    for name, value in median.items():
        size = options.large if name.startswith("large") else options.megabytes
        rate = f"{size / value:6.1f} MB/s"
        print(f"{name:14} {value:6.2f} s  {rate}   {[round(x, 2) for x in times[name]]}", file=sys.stderr)
    figures = {f"{name}, s": round(value, 3) for name, value in median.items()}
    for name in ("tar openssh", "tar asyncssh"):
        figures[f"first / {name}, %"] = round(100 * median[name] / median["first"])
        print(f"first time: {median[name] / median['first']:.0%} of {name}", file=sys.stderr)
    print(json.dumps(figures))


def main() -> None:
    """Make a host, measure, take it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--delay", default="")
    parser.add_argument("--rate", default="", help="of the line to the host, such as 100mbit")
    # In memory, so that the disk of this machine, which others use as well, is not what is measured.
    parser.add_argument("--large", type=int, default=64, help="MiB of the large file that changes")
    parser.add_argument("--disk", default="3g")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    starter = beds()
    if why := starter.missing():
        print(json.dumps({"skipped": why}))
        return
    root = Path(tempfile.mkdtemp(prefix="ssh-sync-"))
    try:
        with starter.lab(f"c-sync-{os.getpid()}") as lab:
            (host,) = lab.create(1, disk=options.disk or None)
            if shape := {name: value for name in ("delay", "rate") if (value := getattr(options, name))}:
                lab.netem(host, **shape)
            asyncio.run(measure(host, root, options))
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()

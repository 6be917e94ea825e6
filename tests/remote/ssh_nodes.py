"""Clusters of test hosts, and what is asked of these."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase


def reach_of(host: Any, **more: str) -> dict[str, str]:
    """The way to a host, with the key that it was made with; a value of None takes a part away."""
    reach = {
        "kind": "ssh", "host": host.ip, "port": "22", "user": host.user, "host_key": host.host_key,
        "identity": host.key, **more,
    }  # fmt: skip
    return {key: value for key, value in reach.items() if value is not None}


def cluster_of(*reaches: dict[str, str], id: str = "c") -> Cluster:
    nodes = tuple(
        Instance(f"{id}-{rank}", id, rank, InstanceState.RUNNING, reach["host"], reach)
        for rank, reach in enumerate(reaches)
    )
    return Cluster(id, id, "u", "d", Phase.BOOTSTRAPPING, 1, 0.0, 0.0, len(nodes), instances=nodes)


def bare_host(lab: Any) -> Any:
    """A host without any Python."""
    folders = [Path(each) for each in ("/usr/bin", "/usr/local/bin", "/usr/libexec", "/opt/conda/bin")]
    hidden = [str(path) for folder in folders for path in folder.glob("*python*")]
    (host,) = lab.create("bare", hide=hidden)
    assert host.run("command -v python3").returncode != 0
    return host


def connections(host: Any) -> int:
    """Established connections to the host's sshd."""
    lines = host.exec("cat", "/proc/net/tcp").stdout.splitlines()[1:]
    return sum(words[1].endswith(":0016") and words[3] == "01" for words in map(str.split, lines))


async def until(found: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    """Ask until it is so."""
    async with asyncio.timeout(seconds):
        while not await found():
            await asyncio.sleep(0.05)


async def output(fleet: Any, cluster: Cluster, run: str, key: str, **spec: Any) -> bytes:
    """What a job says, to its end."""
    head = await fleet.head(cluster)
    job_id, _ = await head.submit(key, {"run": run, "task_id": key, **spec})
    said, offset, ended = b"", 0, False
    while not ended:
        piece = await head.read_log(job_id, offset=offset, tail=None, wait=20.0, which="run", rank=None)
        said, offset, ended = said + piece.data, piece.next, piece.ended
    return said


def sets(words: Sequence[str]) -> dict[str, str]:
    """`A=b` lines as values."""
    return dict(word.split("=", 1) for word in words if "=" in word)


def manifest(folder: Any, files: dict[str, bytes]) -> str:
    """Files as an upload leaves them: by hash in `folder`, and the list of them, whose name is returned."""
    import hashlib

    import msgspec

    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for path, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        (folder / digest).write_bytes(content)
        listed.append({"path": path, "type": "file", "mode": 0o644, "size": len(content), "hash": digest})
    (folder / "manifest").write_bytes(msgspec.json.encode(listed))
    return "manifest"

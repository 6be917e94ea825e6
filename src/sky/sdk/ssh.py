"""Pools of machines reached by SSH: what they have, and forgetting it."""

from __future__ import annotations

from pathlib import Path

from sky.sdk.ids import RequestId
from sky.sdk.records import Record
from sky.sdk.requests import read


def ssh_up(infra: str | None = None, file: str | None = None) -> RequestId[list[Record]]:
    """Look at the machines of a pool (None: all). Nothing is installed on them.

    `file` defines pools beside those of the server's `~/.sky/ssh_node_pools.yaml`; its text is sent along.

    Value: one record per machine: `pool`, `machine`, `state` (up, silent, wrong), `detail`, `cpus`, `free_cpus`,
    `memory_gb`, `free_memory_gb`, `accelerators`, `free_accelerators`, `holders`. Raises OSError for the file.
    """
    pools = None if file is None else Path(file).expanduser().read_text(encoding="utf-8")
    return read("ssh_up", {"infra": infra, "pools": pools})


def ssh_down(infra: str | None = None, force: bool = False) -> RequestId[list[str]]:
    """Forget what is known of a pool's machines (None: of all pools). Value: names of pools.

    Refused while clusters are on them, unless `force`; what runs on the machines goes on.
    """
    return read("ssh_down", {"infra": infra, "force": force})

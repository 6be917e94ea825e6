"""An SSH pool over test hosts: the provider as the server opens it, with real connections."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sky.core.model.clusters import Cluster, Instance, Phase, Site
from sky.core.model.offers import Offer, Placement
from sky.core.ports import CreateAsk
from sky.providers.registry import Settings
from sky.providers.ssh.compute import SshCompute
from sky.remote.keys import KeyRing
from sky.remote.shell import Shells
from sky.server.configuration import read_user_yaml

C1, C2, C3 = "20260101-000000-one", "20260101-000000-two", "20260101-000000-three"

#: What `nvidia-smi` says on a machine with so many H100s.
SMI = """#!/bin/sh
number=0
while [ $number -lt {count} ]; do echo "$number, 81559, NVIDIA H100 80GB HBM3"; number=$((number + 1)); done
"""


class HandClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


class World:
    """One server's view: its own state folder and keys, and the pools of a home."""

    def __init__(self, folder: Path, home: Path, config: Mapping[str, object] = {}) -> None:
        self.clock = HandClock()
        self.keys = KeyRing(folder / "keys")
        self.config = dict(config)
        self.clusters: list[Cluster] = []
        self.shells = Shells(self.keys, lambda cloud, name: self.compute.secret(name))
        self.settings = Settings(
            folder / "ssh", lambda: self.config, self.keys.installation, self.keys, {}, home, self.shells.of("ssh"),
            read_user_yaml, self.living,
        )  # fmt: skip
        self.compute = self.again()

    async def living(self) -> Sequence[Cluster]:
        """What the store has on record."""
        return self.clusters

    def record(self, given: CreateAsk, nodes: Sequence[Instance]) -> None:
        """Put a cluster on record, as the engine does once it has its nodes."""
        site = Site("ssh", given.placement.offer.region, given.cluster_id)
        self.clusters.append(
            Cluster(
                given.cluster_id, given.cluster_name, "u", "default", Phase.UP, 1, 1.0, 1.0, len(nodes),
                placement=given.placement, instances=tuple(nodes), sites=(site,),
            )
        )  # fmt: skip

    def lose(self, text: str | None = None) -> SshCompute:
        """The provider of another process, with the record of slots gone, or with this in it."""
        path = self.settings.state_dir / "slots.json"
        path.unlink()
        if text is not None:
            path.write_text(text)
        return self.again()

    def again(self) -> SshCompute:
        """The provider as another process would open it: it knows what is on disk."""
        assert self.settings.shell is not None
        self.compute = SshCompute(self.settings, self.settings.shell, self.clock)
        return self.compute


def write_pools(home: Path, pools: Mapping[str, object]) -> None:
    """JSON is YAML."""
    (home / ".sky").mkdir(parents=True, exist_ok=True)
    (home / ".sky" / "ssh_node_pools.yaml").write_text(json.dumps(pools, indent=1))


def hosts(machines: Sequence[Any]) -> list[object]:
    return [{"ip": each.ip, "user": each.user, "identity_file": each.key} for each in machines]


def ask(
    cluster: str = C1, *, key: str = "", nodes: int = 1, cpus: float = 0, memory: float = 0, gpus: float = 0,
    pool: str = "rack", ranks: tuple[int, ...] = (),
) -> CreateAsk:  # fmt: skip
    offer = Offer("ssh", pool, None, "any", 16, 64, 0.0, {"H100": 8} if gpus else {}, shared=True)
    placement = Placement(offer, nodes, cpus or 16, 64, {"H100": gpus} if gpus else {}, 0, cpus, memory)
    return CreateAsk(key or f"{cluster}-k", cluster, cluster[-3:], placement, ranks=ranks)

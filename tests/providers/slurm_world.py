"""The provider of Slurm clusters as the server opens it, over a real Slurm on test hosts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sky.core.model.clusters import Cluster, Phase
from sky.core.model.offers import Offer, Placement
from sky.core.ports import CreateAsk
from sky.kit.clock import SystemClock
from sky.providers.registry import Settings
from sky.providers.slurm.compute import SlurmCompute
from sky.remote.keys import KeyRing
from sky.remote.shell import Shells

SHAPE = "16cpu-62gb-h100x8"


class SlurmWorld:
    """One server's view of a bed."""

    def __init__(self, folder: Path, bed: Any, config: Mapping[str, object] = {}) -> None:
        self.bed = bed
        self.home = folder
        self.login = bed.host("login")
        (folder / ".slurm").mkdir(parents=True, exist_ok=True)
        (folder / ".slurm" / "config").write_text(
            f"Host bed\n  HostName {self.login.ip}\n  User {self.login.user}\n  IdentityFile {self.login.key}\n"
        )
        self.keys = KeyRing(folder / "keys")
        self.config = dict(config)
        self.said: list[str] = []
        self.shells = Shells(self.keys, lambda cloud, name: None)
        self.compute = self.again("state")

    def again(self, state: str) -> SlurmCompute:
        """The provider as another process would open it."""
        shell = self.shells.of("slurm")
        settings = Settings(
            self.home / state, lambda: self.config, self.keys.installation, self.keys, {}, self.home, shell
        )
        self.compute = SlurmCompute(settings, shell, SystemClock())
        return self.compute

    def ask(
        self, cluster: str, *, key: str = "k", nodes: int = 1, cpus: float = 0, memory: float = 0, gpus: float = 0,
        zone: str = "batch", pinned: bool = False, shape: str = SHAPE,
    ) -> CreateAsk:  # fmt: skip
        offer = Offer("slurm", "bed", zone, shape, 16, 62.5, 0.0, {"H100": 8}, shared=True)
        placement = Placement(offer, nodes, cpus or 16, 62.5, {"H100": gpus} if gpus else {}, 0, cpus, memory)
        return CreateAsk(
            f"{cluster}-{key}",
            cluster,
            cluster[-3:],
            placement,
            config=self.config,
            say=self.said.append,
            pinned=pinned,
        )

    def slurm(self, command: str) -> str:
        """A command on the login node, as the user."""
        done = self.login.run(command)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def queue(self) -> list[str]:
        """What Slurm itself knows to wait or run."""
        return self.slurm("squeue -h -o '%T %j'").splitlines()


def cluster_of(world: SlurmWorld, ask: CreateAsk, nodes: Any) -> Cluster:
    """As the engine has it once its nodes are there."""
    placement = ask.placement
    return Cluster(
        ask.cluster_id, ask.cluster_name, "u", "default", Phase.UP, 1, 0.0, 0.0, placement.num_nodes,
        placement=placement, instances=tuple(nodes),
    )  # fmt: skip

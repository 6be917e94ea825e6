"""The section `slurm` of the configuration: its keys, and what holds for one cluster and one partition of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.schema import Field, Problems, Section, check_section

#: A folder of ours is named to shells and to the agent, whose socket lies in one; sockets have short names.
_FOLDER = re.compile(r"(?:/[A-Za-z0-9_.-]{1,64}){1,8}/?\Z")
_LONGEST_TMP = 50
_TEXT = Field(("text",), "a name")
_NUMBER = ("integer", "number")
_QUOTA = Section("slurm.quota", {"queue": Field(("text",), "a QoS"), "account": Field(("text",), "an account")})
_PRICING = Section(
    "slurm.pricing",
    {
        "cpu": Field(_NUMBER, "USD per hour of a CPU", least=0),
        "memory": Field(_NUMBER, "USD per hour of a GB", least=0),
        "accelerators": Field(("mapping",), "USD per hour of a device", values=Field(_NUMBER, "USD per hour", least=0)),
    },
)
_KEYS: dict[str, Field] = {
    "provision_timeout": Field(_NUMBER, "seconds to wait for nodes, below zero for ever"),
    "sbatch_options": Field(("mapping", "list"), "options of sbatch"),
    "quota": Field(("mapping",), "who is asked for", section=_QUOTA),
    "pricing": Field(("mapping",), "prices", section=_PRICING),
    "gpu_partition_map": Field(("mapping",), "the partition of each device", values=_TEXT),
    "cpu_partition": _TEXT,
    "submit_as_user": Field(("boolean",), "whether jobs are the user's own"),
    "username_map": Field(("mapping",), "names there of users here", values=_TEXT),
    "container_mounts": Field(("list", "mapping"), "mounts of containers"),
    "workdir": Field(("text",), "the folder that holds the homes of nodes"),
    "tmpdir": Field(("text",), "a folder that each node has for itself"),
    "prometheus": Field(("mapping", "text"), "metrics"),
}
_PARTITION = Section("a partition's part of slurm.cluster_configs", _KEYS)
_CLUSTER = Section(
    "slurm.cluster_configs",
    {
        **_KEYS,
        "partition_configs": Field(
            ("mapping",), "settings by partition", values=Field(("mapping",), "a partition", section=_PARTITION)
        ),
    },
)
SECTION = Section(
    "slurm",
    {
        **_KEYS,
        "allowed_clusters": Field(("list",), "clusters that may be used", values=_TEXT),
        "cluster_configs": Field(
            ("mapping",), "settings by cluster", values=Field(("mapping",), "a cluster", section=_CLUSTER)
        ),
    },
)


def checked(section: Mapping[str, object]) -> Mapping[str, object]:
    """The section. Raises InvalidSkyPilotConfigError with the key, and the nearest one that there is."""
    problems = Problems("config")
    check_section(section, SECTION, ("slurm",), problems)
    problems.raise_if_any()
    return section


def of_cluster(config: Mapping[str, object], cluster: str) -> Mapping[str, object]:
    """As it holds for a cluster: `cluster_configs.NAME` over the rest."""
    by_cluster = config.get("cluster_configs")
    own = by_cluster.get(cluster) if isinstance(by_cluster, Mapping) else None
    return {**config, **own} if isinstance(own, Mapping) else config


def of_partition(config: Mapping[str, object], cluster: str, partition: str) -> Mapping[str, object]:
    """And for a partition: `partition_configs.NAME` over that."""
    config = of_cluster(config, cluster)
    by_partition = config.get("partition_configs")
    own = by_partition.get(partition) if isinstance(by_partition, Mapping) else None
    return {**config, **own} if isinstance(own, Mapping) else config


class Folders(NamedTuple):
    """Where nodes keep things: their homes in `base` (below the login's home, unless it begins with `/`), sockets and
    temporary files in `tmp`."""

    base: str = ""
    tmp: str = "/tmp"  # noqa: S108 - what is in it is in folders of our own, which nobody else may enter


def folders(config: Mapping[str, object]) -> Folders:
    """What `workdir` and `tmpdir` say. Raises InvalidSkyPilotConfigError for what cannot be a folder there."""
    base, tmp = (str(config.get(key) or "") for key in ("workdir", "tmpdir"))
    if base.startswith("~/"):
        base = _folder("workdir", base[1:]).removeprefix("/")
    elif base:
        base = _folder("workdir", base)
    tmp = _folder("tmpdir", tmp) if tmp else Folders().tmp
    if len(tmp) > _LONGEST_TMP:
        raise InvalidSkyPilotConfigError(f"slurm.tmpdir: {tmp} is too long; allowed: {_LONGEST_TMP} characters")
    return Folders(base, tmp)


def _folder(key: str, said: str) -> str:
    if not _FOLDER.match(said) or {".", ".."} & set(said.split("/")):
        raise InvalidSkyPilotConfigError(
            f"slurm.{key}: found '{said[:100]}'; allowed: an absolute path of letters, digits, `_`, `.` and `-`"
            + (", which may begin with ~/" if key == "workdir" else "")
        )
    return said.rstrip("/")

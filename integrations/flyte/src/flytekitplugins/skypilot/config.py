"""What a user says of a task: `SkyPilot(...)`, and how that travels to the connector.

Made by user code, written into the task's template by `task`, read back by `connector`. A template crosses gRPC as a
protobuf Struct, in which every number is a float and every map has lost its order: `from_custom` puts that right.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)

#: Minutes after which a cluster without a job is removed, where the task does not say.
IDLE_MINUTES = 10


class JobLaunchType(int, Enum):
    """How a task becomes a job: on a cluster, or as a managed job with a cluster of its own."""

    NORMAL = 0
    MANAGED = 1


@dataclass
class SkyPilot:
    """Where and how a task runs.

    cluster_name: tasks that name the same cluster share it. Without a name the task is a managed job: it gets a cluster
    of its own, is brought back if it loses it, and the cluster is gone at its end.
    resources: as under `resources` of a task file (`{"infra": "aws", "accelerators": "A100:1"}`); they win over
    `@task(requests=…, accelerator=…)`.
    setup: a shell script, run before the task.
    envs: variables by name. secrets: names alone, whose values the connector finds in its own environment, or values
    by name; values never travel in the template, so they count in local execution only.
    file_mounts: path on the node: source. workdir: a folder, or `{"url": …, "ref": …}` of a git repository, in which
    the task starts.
    num_nodes: the function runs on each; the first one's outputs count.
    use_spot: None takes what `@task(interruptible=…)` says. managed: None means: if there is no cluster_name.
    idle_minutes_to_autostop, down: what a cluster without a job does after so many minutes: go, or stop (down=False).
    retry_until_up: go on asking where no place has the machines.
    image: a container image, where it is not that of `@task(container_image=…)`.
    resource_config and job_launch_type are older words for resources and managed.

    Raises ValueError for what contradicts itself.
    """

    cluster_name: str | None = None
    resources: dict[str, Any] | None = None
    setup: str | None = None
    envs: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] | list[str] = field(default_factory=dict, repr=False)
    file_mounts: dict[str, str] = field(default_factory=dict)
    workdir: str | dict[str, str] | None = None
    num_nodes: int = 1
    use_spot: bool | None = None
    managed: bool | None = None
    idle_minutes_to_autostop: float = IDLE_MINUTES
    down: bool = True
    retry_until_up: bool = False
    image: str | None = None
    resource_config: dict[str, Any] | None = None
    job_launch_type: JobLaunchType | None = None

    def __post_init__(self) -> None:
        """Take the older words for what they mean, and refuse contradictions where they are written."""
        if self.resource_config is not None:
            if self.resources is not None:
                raise ValueError("SkyPilot: resource_config is the older word for resources; give one of them")
            self.resources, self.resource_config = self.resource_config, None
        if self.job_launch_type is not None:
            wanted = JobLaunchType(int(self.job_launch_type)) is JobLaunchType.MANAGED
            if self.managed is not None and self.managed != wanted:
                raise ValueError("SkyPilot: managed and job_launch_type contradict each other; give one of them")
            self.managed, self.job_launch_type = wanted, None
        if self.managed and self.cluster_name is not None:
            raise ValueError(
                f"SkyPilot: a managed job gets a cluster of its own, so it cannot share '{self.cluster_name}'. "
                "Leave out cluster_name, or managed."
            )
        if self.num_nodes < 1:
            raise ValueError(f"SkyPilot: num_nodes is at least 1, found {self.num_nodes}")
        if self.idle_minutes_to_autostop < 0:
            raise ValueError(
                f"SkyPilot: idle_minutes_to_autostop is at least 0, found {self.idle_minutes_to_autostop}: a cluster "
                "whose workflow was killed would stay for ever"
            )

    @property
    def is_managed(self) -> bool:
        """Whether the task becomes a managed job."""
        return self.cluster_name is None if self.managed is None else self.managed

    def to_custom(self, *, in_process: bool) -> dict[str, Any]:
        """What stands in the task's template: only what differs from the defaults.

        in_process: the template does not leave this process, so values of secrets may stand in it. Those that are
        registered are kept by Flyte in clear.
        """
        told = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        plain = {each.name: getattr(SkyPilot(), each.name) for each in dataclasses.fields(self)}
        if not in_process:
            told["secrets"] = sorted(self.secrets)
        return {name: value for name, value in told.items() if value != plain[name] and value != []}

    @classmethod
    def from_custom(cls, custom: Mapping[str, Any]) -> SkyPilot:
        """Read back what `to_custom` made, from this or another version: unknown words are left out."""
        known = {each.name for each in dataclasses.fields(cls)}
        told = {name: whole(value) for name, value in custom.items() if name in known and value is not None}
        if "envs" in told:
            told["envs"] = {key: str(value) for key, value in told["envs"].items()}
        return cls(**told)


def whole(value: Any) -> Any:
    """A value as it was before a Struct made floats of its whole numbers, also inside of lists and maps."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): whole(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [whole(each) for each in value]
    return value


def refuse_local_paths(config: SkyPilot, custom: Mapping[str, Any]) -> None:
    """A connector sees its own disk: what is said of paths elsewhere must not have it send files of its own.

    Raises ValueError that names the first one.
    """
    if "source" in custom:
        raise ValueError("SkyPilot: 'source' belongs to local execution")
    script: Mapping[str, Any] = custom.get("task") or {}
    folders = {"workdir": script.get("workdir"), "workdir of the task": config.workdir}
    sources: dict[str, Any] = {**dict(script.get("file_mounts") or {}), **config.file_mounts}
    sources |= {at: each for at, each in folders.items() if each is not None}
    for at, each in sources.items():
        # A bucket or a repository is a map; `source` may name local files in it.
        told = each.get("source", each.get("url", "s3://")) if isinstance(each, Mapping) else each
        for source in told if isinstance(told, list) else [told]:
            found = _URL.match(str(source))
            if found is None or found[1].lower() == "file":
                raise ValueError(
                    f"SkyPilot: '{source}' ({at}) is a path of the machine that registered the task, which the "
                    "connector does not see. Put it into the image, a bucket or a git repository."
                )

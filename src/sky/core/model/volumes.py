"""Volumes that a task mounts, and the status of volumes that outlive tasks."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sky.core.errors import VolumeTopologyConflictError
from sky.core.model.fields import TASK_VOLUME
from sky.core.model.infra import Infra
from sky.core.model.quantities import parse_size_gb
from sky.core.model.schema import Path, Problems, check_section

_SINGLE_NODE = ("RWO", "RWOP", "ReadWriteOnce", "ReadWriteOncePod")


class VolumeStatus(enum.Enum):
    """Whether a volume can be mounted."""

    READY = "READY"
    IN_USE = "IN_USE"
    NOT_READY = "NOT_READY"


class VolumeKind(enum.StrEnum):
    """Which of the three forms of a volume in a task this is."""

    NAMED = "named"
    EPHEMERAL = "ephemeral"
    HOST_PATH = "host_path"


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """One volume as a task mounts it.

    named: ``name`` and perhaps ``sub_path``. ephemeral: ``size`` in GB, ``type``, ``labels``, ``config``; deleted with
    the cluster. host_path: a folder of the node.
    """

    kind: VolumeKind
    name: str | None = None
    sub_path: str | None = None
    size: int | None = None
    type: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    host_path: str | None = None

    @classmethod
    def from_config(cls, value: str | Mapping[str, Any]) -> VolumeSpec:
        """Read a name or a mapping that ``fields.TASK_VOLUME`` accepts; raises ``ValueError`` for mixed forms."""
        if isinstance(value, str):
            return cls(VolumeKind.NAMED, name=_word(value))
        given = {key: item for key, item in value.items() if item is not None}
        forms = [key for key in ("name", "size", "host_path") if key in given]
        if len(forms) != 1:
            found = " and ".join(forms) or "none of them"
            raise ValueError(f"found {found}; allowed: exactly one of name, size (deleted with the cluster), host_path")
        if forms == ["name"]:
            _only(given, "name", "sub_path")
            return cls(VolumeKind.NAMED, name=_word(given["name"]), sub_path=given.get("sub_path"))
        if forms == ["host_path"]:
            _only(given, "host_path")
            return cls(VolumeKind.HOST_PATH, host_path=_word(given["host_path"]))
        _only(given, "size", "type", "labels", "config")
        return cls(
            VolumeKind.EPHEMERAL,
            size=parse_size_gb(given["size"]),
            type=given.get("type"),
            labels=dict(given.get("labels") or {}),
            config=dict(given.get("config") or {}),
        )

    def to_config(self) -> str | dict[str, Any]:
        """Return the value that ``from_config`` reads back."""
        if self.kind is VolumeKind.NAMED and self.sub_path is None:
            return str(self.name)
        names = ("name", "sub_path", "size", "type", "labels", "config", "host_path")
        config = {name: getattr(self, name) for name in names}
        return {
            key: dict(value) if isinstance(value, Mapping) else value
            for key, value in config.items()
            if value not in (None, {})
        }

    @property
    def single_node(self) -> bool:
        """Whether only one node can mount it."""
        return self.config.get("access_mode") in _SINGLE_NODE


def _word(value: object) -> str:
    if not str(value).strip():
        raise ValueError("found an empty text; allowed: the name of a volume")
    return str(value)


def _only(given: Mapping[str, Any], *allowed: str) -> None:
    odd = [key for key in given if key not in allowed]
    if odd:
        raise ValueError(
            f"found {', '.join(odd)} beside {allowed[0]}; allowed with it: {', '.join(allowed[1:]) or 'nothing'}"
        )


def read_volumes(
    volumes: Mapping[str, Any], num_nodes: int, problems: Problems, path: Path = ("volumes",)
) -> dict[str, VolumeSpec]:
    """Return the volumes of a task by destination; problems are collected."""
    found: dict[str, VolumeSpec] = {}
    for destination, value in volumes.items():
        here = (*path, destination)
        if not destination.startswith(("/", "~")):
            problems.add(here, f"found the destination '{destination[:80]}'; allowed: a path that begins with / or ~")
        if isinstance(value, Mapping):
            check_section(value, TASK_VOLUME, here, problems)
        if problems.spoils(*here):
            continue
        with problems.catch(*here):
            found[destination] = VolumeSpec.from_config(value)
            if num_nodes > 1 and found[destination].single_node:
                raise ValueError(
                    f"found a volume for a single node in a task of {num_nodes} nodes; allowed: RWX or ROX"
                )
    return found


def check_topology(places: Mapping[str, Infra]) -> Infra:
    """Return the place that all volumes share, or raise ``VolumeTopologyConflictError``; names map to their places."""
    joined = Infra()
    for name, place in places.items():
        if not (joined.covers(place) or place.covers(joined)):
            others = ", ".join(f"{other} in {its}" for other, its in places.items() if other != name)
            raise VolumeTopologyConflictError(
                f"Volume {name} lies in {place}, but {others}: no node can mount them all."
            )
        joined = place if joined.covers(place) else joined
    return joined

"""What a task mounts from object stores, and the plain file mounts beside it.

``TaskSpec`` holds the values; ``sdk.Storage`` wraps one for programs; later issues move the data.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sky.core.errors import StorageModeError, StorageNameError, StorageSourceError, StorageSpecError
from sky.core.model.fields import STORAGE
from sky.core.model.schema import Path, Problems, check_section, nearest


class StorageMode(enum.Enum):
    """How nodes see a bucket."""

    MOUNT = "MOUNT"
    COPY = "COPY"
    MOUNT_CACHED = "MOUNT_CACHED"


class StoreType(enum.Enum):
    """An object store."""

    S3 = "S3"
    GCS = "GCS"
    AZURE = "AZURE"
    R2 = "R2"
    IBM = "IBM"
    OCI = "OCI"
    NEBIUS = "NEBIUS"
    COREWEAVE = "COREWEAVE"
    VASTDATA = "VASTDATA"
    HF = "HF"
    VOLUME = "VOLUME"


class FileMountType(enum.Enum):
    """A preset of cached-mount settings."""

    MODEL_CHECKPOINT_RO = "MODEL_CHECKPOINT_RO"
    MODEL_CHECKPOINT_RW = "MODEL_CHECKPOINT_RW"
    DATASET_RO = "DATASET_RO"
    DATASET_RW = "DATASET_RW"


class StorageStatus(enum.Enum):
    """How far a bucket of ours has come."""

    INIT = "INIT"
    INIT_FAILED = "INIT_FAILED"
    UPLOAD_FAILED = "UPLOAD_FAILED"
    READY = "READY"


#: Addresses of object stores; ``https://ACCOUNT.blob…`` is Azure's and is told apart by its host.
CLOUD_SCHEMES = ("s3", "gs", "r2", "cos", "oci", "nebius", "cw", "vastdata", "hf")

_AZURE = re.compile(r"https://[a-z0-9]+\.blob\.core\.windows\.net(?:/|$)")
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_URL_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def is_cloud_uri(text: str) -> bool:
    """Say whether a source or destination is the address of an object store."""
    found = _URL_SCHEME.match(text)
    return found is not None and (found[1].lower() in CLOUD_SCHEMES or bool(_AZURE.match(text)))


#: Clouds whose object store a scheme names; the others belong to nobody who also rents machines.
_CLOUD_OF_SCHEME = {"s3": "aws", "gs": "gcp", "cos": "ibm", "oci": "oci", "nebius": "nebius", "cw": "coreweave"}


def cloud_of_address(text: str) -> str | None:
    """Return the cloud in which an address of an object store lies; ``None`` for other texts and clouds apart."""
    if _AZURE.match(text):
        return "azure"
    found = _URL_SCHEME.match(text)
    return _CLOUD_OF_SCHEME.get(found[1].lower()) if found is not None else None


def is_remote_source(text: str) -> bool:
    """Say whether a source is fetched by the node: an object store or a web address."""
    found = _URL_SCHEME.match(text)
    return found is not None and (found[1].lower() in (*CLOUD_SCHEMES, "http", "https"))


@dataclass(frozen=True, slots=True)
class StorageSpec:
    """One bucket as a task mounts it. ``source``: local paths, one address, or ``None`` for an empty bucket."""

    name: str | None = None
    source: str | tuple[str, ...] | None = None
    store: StoreType | None = None
    persistent: bool = True
    mode: StorageMode = StorageMode.MOUNT
    type: FileMountType | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> StorageSpec:
        """Read a mapping that ``fields.STORAGE`` accepts; raises ``StorageSpecError`` for contradictions."""
        given = {key: value for key, value in config.items() if value is not None and not key.startswith("_")}
        source = given.get("source")
        spec = cls(
            given.get("name"),
            tuple(source) if isinstance(source, list | tuple) else source,
            StoreType(str(given["store"]).upper()) if "store" in given else None,
            bool(given.get("persistent", True)),
            _mode(given),
            FileMountType(str(given["type"]).upper()) if "type" in given else None,
            _without_nulls(given.get("config") or {}),
        )
        spec.check()
        return spec

    def to_config(self) -> dict[str, Any]:
        """Return the mapping that ``from_config`` reads back."""
        config: dict[str, Any] = {}
        if self.name is not None:
            config["name"] = self.name
        if self.source is not None:
            config["source"] = list(self.source) if isinstance(self.source, tuple) else self.source
        if self.store is not None:
            config["store"] = self.store.value
        config.update(persistent=self.persistent, mode=self.mode.value)
        if self.type is not None:
            config["type"] = self.type.value
        if self.config:
            config["config"] = _without_nulls(self.config)
        return config

    def check(self) -> None:
        """Raise a ``StorageSpecError`` where name, source, mode and type do not fit together."""
        if self.type is not None and self.mode is not StorageMode.MOUNT_CACHED:
            raise StorageModeError(
                f"found type {self.type.value} with mode {self.mode.value}; allowed: MOUNT_CACHED with a type"
            )
        if "mount_cached" in self.config and self.mode is not StorageMode.MOUNT_CACHED:
            raise StorageModeError(
                f"found config.mount_cached with mode {self.mode.value}; allowed: MOUNT_CACHED with it"
            )
        if self.name is None and self.source is None:
            raise StorageSpecError(
                "found neither name nor source; allowed: a name, a source, or both for a local source"
            )
        self._check_source()
        if self.name is not None and self.store is not StoreType.VOLUME and not _BUCKET_NAME.fullmatch(self.name):
            raise StorageNameError(
                f"found the name '{self.name[:80]}'; allowed: 3 to 63 lower-case letters, digits, '.', '_' and '-'"
            )

    def _check_source(self) -> None:
        if isinstance(self.source, tuple):
            if not self.source:
                raise StorageSourceError("found an empty list as source")
            if any(_URL_SCHEME.match(path) for path in self.source):
                raise StorageSourceError("found an address in a list of sources; allowed: local paths in a list")
            bases = [path.rstrip("/").rpartition("/")[2] for path in self.source]
            double = next((base for base in bases if bases.count(base) > 1), None)
            if double is not None:
                raise StorageSourceError(f"found two sources called '{double}'; allowed: distinct last parts")
            if self.mode is not StorageMode.COPY and self.name is None:
                raise StorageNameError(
                    "found a list of sources without a name; allowed: a name for the bucket they go to"
                )
        elif self.source is not None:
            self._check_single_source(self.source)

    def _check_single_source(self, source: str) -> None:
        scheme = _URL_SCHEME.match(source)
        if scheme is None:
            if source.rstrip("/") != source and source != "/":
                raise StorageSourceError(f"found the source '{source[:80]}'; allowed: a path without a '/' at its end")
            if self.name is None:
                raise StorageNameError(f"found the local source '{source[:80]}' without a name for its bucket")
        elif not is_cloud_uri(source):
            hint = nearest(scheme[1], CLOUD_SCHEMES)
            ask = f"; did you mean '{hint}://'?" if hint else ""
            raise StorageSourceError(
                f"found the source '{source[:80]}'; allowed: a local path or one of {'://, '.join(CLOUD_SCHEMES)}://{ask}"
            )
        elif self.name is not None:
            raise StorageSpecError(
                f"found name '{self.name[:60]}' beside the address '{source[:80]}'; allowed: one of them"
            )


def _mode(given: Mapping[str, Any]) -> StorageMode:
    if "mode" in given:
        return StorageMode(str(given["mode"]).upper())
    return StorageMode.MOUNT_CACHED if "type" in given else StorageMode.MOUNT


def _without_nulls(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_nulls(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if value is not None
    }


def read_file_mounts(
    mounts: Mapping[str, Any], problems: Problems, path: Path = ("file_mounts",)
) -> tuple[dict[str, str], dict[str, StorageSpec]]:
    """Split ``file_mounts`` into plain ones, destination to source, and storage ones; problems are collected."""
    plain: dict[str, str] = {}
    storage: dict[str, StorageSpec] = {}
    for destination, source in mounts.items():
        here = (*path, destination)
        with problems.catch(*here):
            # A file of the web keeps its name in a folder; all else is put exactly where it is said.
            into = isinstance(source, str) and source.startswith(("http://", "https://"))
            check_destination(destination.rstrip("/") or destination if into else destination)
        if isinstance(source, Mapping):
            check_section(source, STORAGE, here, problems)
            if not problems.spoils(*here):
                with problems.catch(*here):
                    storage[destination] = StorageSpec.from_config(source)
        elif isinstance(source, str):
            with problems.catch(*here):
                plain[destination] = _check_plain_source(source)
        else:
            problems.add(here, "found neither a source nor a storage; allowed: a path, an address or a mapping")
    return plain, storage


def check_destination(destination: str) -> None:
    """Raise ``ValueError`` unless a path on the nodes is fit to be mounted at."""
    if not destination.strip():
        raise ValueError("found an empty destination")
    if is_remote_source(destination):
        raise ValueError(f"found the address '{destination[:80]}' as destination; the form is 'destination: source'")
    if destination.endswith("/"):
        raise ValueError(f"found the destination '{destination[:80]}'; allowed: a path without a '/' at its end")


def _check_plain_source(source: str) -> str:
    if not source.strip():
        raise ValueError("found an empty source")
    if source.endswith("/") and not is_remote_source(source):
        raise ValueError(f"found the source '{source[:80]}'; allowed: a path without a '/' at its end")
    scheme = _URL_SCHEME.match(source)
    if scheme is not None and not is_remote_source(source):
        hint = nearest(scheme[1], CLOUD_SCHEMES)
        ask = f"; did you mean '{hint}://'?" if hint else ""
        raise ValueError(f"found the source '{source[:80]}'; allowed: a path, http(s), {', '.join(CLOUD_SCHEMES)}{ask}")
    return source

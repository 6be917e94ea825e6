"""``sky.Storage``: a bucket as programs describe it.

The description is complete; what needs an object store (upload, delete, look-up) raises ``NotSupportedError`` until
object stores are built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from sky.core.errors import InvalidSkyPilotConfigError, not_supported
from sky.core.model.fields import STORAGE
from sky.core.model.schema import Problems, check_section
from sky.core.model.storage import FileMountType, StorageMode, StorageSpec, StoreType


class Storage:
    """A bucket: existing (``source`` is its address), new (``name`` alone), or filled from local paths."""

    def __init__(
        self,
        name: str | None = None,
        source: str | Sequence[str] | None = None,
        stores: Sequence[StoreType | str] | None = None,
        persistent: bool | None = True,
        mode: StorageMode | str = StorageMode.MOUNT,
        sync_on_reconstruction: bool = True,
        *,
        mount_cached_config: Mapping[str, Any] | None = None,
        file_mount_type: FileMountType | str | None = None,
        mount_config: Mapping[str, Any] | None = None,
    ) -> None:
        self.sync_on_reconstruction = sync_on_reconstruction
        self.stores: dict[StoreType, None] = {_store(store): None for store in stores or ()}
        config: dict[str, Any] = {
            "name": name,
            "source": source if source is None or isinstance(source, str) else list(source),
            "persistent": persistent is not False,
            "mode": mode.value if isinstance(mode, StorageMode) else mode,
            "type": file_mount_type.value if isinstance(file_mount_type, FileMountType) else file_mount_type,
            "config": _mount_config(mount_cached_config, mount_config),
            "store": next(iter(self.stores)).value if self.stores else None,
        }
        self._spec = _read(config)

    @classmethod
    def from_yaml_config(cls, config: Mapping[str, Any]) -> Self:
        """Read a mapping as it stands under ``file_mounts``; raises ``ValueError``."""
        return cls.from_spec(_read(config))

    @classmethod
    def from_spec(cls, spec: StorageSpec) -> Self:
        """Wrap a frozen description."""
        made = cls.__new__(cls)
        made.sync_on_reconstruction = True
        made.stores = {spec.store: None} if spec.store else {}
        made._spec = spec
        return made

    def to_yaml_config(self) -> dict[str, Any]:
        """Return the mapping that ``from_yaml_config`` reads back."""
        return self.to_spec().to_config()

    def to_spec(self) -> StorageSpec:
        """Return the frozen description."""
        return self._spec

    @property
    def name(self) -> str | None:
        """Name of the bucket, if one was given."""
        return self._spec.name

    @property
    def source(self) -> str | list[str] | None:
        """Local paths, or the address of an existing bucket."""
        return list(self._spec.source) if isinstance(self._spec.source, tuple) else self._spec.source

    @property
    def mode(self) -> StorageMode:
        """How nodes see it."""
        return self._spec.mode

    @property
    def persistent(self) -> bool:
        """Whether it outlives the cluster."""
        return self._spec.persistent

    def add_store(self, store_type: StoreType | str, region: str | None = None) -> None:
        """Choose the object store."""
        store = _store(store_type)
        self.stores[store] = None
        self._spec = _read({**self._spec.to_config(), "store": store.value})

    def construct(self) -> None:
        """Raise ``NotSupportedError``: buckets are made when object stores are built."""
        raise not_supported("Making a bucket")

    def sync_all_stores(self) -> None:
        """Raise ``NotSupportedError``: uploads come with object stores."""
        raise not_supported("Uploading to a bucket")

    def delete(self, store_type: StoreType | None = None) -> None:
        """Raise ``NotSupportedError``: deleting comes with object stores."""
        raise not_supported("Deleting a bucket")

    def __repr__(self) -> str:
        return f"Storage(name={self.name!r}, source={self.source!r}, mode={self.mode.value})"


def _store(store: StoreType | str) -> StoreType:
    try:
        return store if isinstance(store, StoreType) else StoreType(store.upper())
    except ValueError:
        allowed = ", ".join(one.value for one in StoreType)
        raise ValueError(f"Unknown object store {store!r}; allowed: {allowed}.") from None


def _mount_config(cached: Mapping[str, Any] | None, mount: Mapping[str, Any] | None) -> dict[str, Any] | None:
    config = {"mount_cached": dict(cached) if cached else None, "mount": dict(mount) if mount else None}
    return {key: value for key, value in config.items() if value is not None} or None


def _read(config: Mapping[str, Any]) -> StorageSpec:
    problems = Problems(kind="storage")
    if not isinstance(config, Mapping):
        raise InvalidSkyPilotConfigError("Invalid storage YAML: a storage is a mapping with name or source.")
    check_section(config, STORAGE, (), problems)
    problems.raise_if_any()
    return StorageSpec.from_config(config)

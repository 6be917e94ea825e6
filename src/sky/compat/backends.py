"""Objects of other versions that programs construct and hand on, or only name: back ends, stores, volumes.

There is one way to run a task here, so a back end is taken by `sky.launch(backend=…)` and makes no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from sky.core.errors import not_supported


class Backend:
    """Accepted wherever a back end is, and without effect."""

    NAME = "altostratus"

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Take whatever the program gives it."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        # An AttributeError would have programs that ask by `hasattr` go another way without a word.
        raise not_supported(f"{type(self).__name__}.{name}", instead="sky.launch() and sky.exec() run tasks.")


class CloudVmRayBackend(Backend):
    """The back end that programs construct."""


class LocalDockerBackend(Backend):
    """A back end of containers on this machine: `infra: local` with `image_id: docker:…` here."""


class AbstractStore:
    """A bucket in an object store, which only `sky.Storage` describes here."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise not_supported(f"{type(self).__name__}()", instead="sky.Storage(source=…) describes a bucket.")


class S3Store(AbstractStore):
    """A bucket of S3."""


class GcsStore(AbstractStore):
    """A bucket of Google Cloud Storage."""


class AzureBlobStore(AbstractStore):
    """A container of Azure Blob Storage."""


class R2Store(AbstractStore):
    """A bucket of Cloudflare R2."""


class Volume:
    """A volume, as it is described before it is made."""

    def __init__(self, **config: Any) -> None:
        self.config = dict(config)
        self.name: str | None = config.get("name")

    @classmethod
    def from_yaml_config(cls, config: Mapping[str, Any]) -> Volume:
        """Wrap a mapping."""
        return cls(**config)

    def to_yaml_config(self) -> dict[str, Any]:
        """Return the mapping."""
        return dict(self.config)

    def validate(self, **_options: Any) -> NoReturn:
        """Raise NotSupportedError: volumes are not built yet."""
        raise not_supported("A volume", "this version")

"""`sky.skypilot_config` and `sky.server.common` of other versions: the configuration and the address in use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sky.core.errors import not_supported
from sky.sdk import settings
from sky.sdk.server import ensure_server
from sky.sdk.transport import current_endpoint
from sky.wire.config import Config


def to_dict() -> Config:
    """Return what the configuration says that travels with a request."""
    return Config(settings.layers())


def loaded() -> bool:
    """Whether there is any configuration."""
    return bool(settings.layers())


def get_nested(keys: Sequence[str], default_value: Any = None, **_internal: Any) -> Any:
    """Return the value at `("a", "b")`, or the default."""
    return to_dict().get(tuple(keys), default_value)


@contextlib.contextmanager
def replace_skypilot_config(new_configs: Mapping[str, Any]) -> Iterator[None]:
    """Use another configuration inside this block, in this thread or task."""
    values = new_configs.to_dict() if isinstance(new_configs, Config) else dict(new_configs)
    with settings.replaced(values):
        yield


@contextlib.contextmanager
def override_skypilot_config(override_configs: Mapping[str, Any] | None) -> Iterator[None]:
    """Lay a mapping over the configuration inside this block, in this thread or task."""
    with settings.replaced(to_dict().over(override_configs or {}).to_dict()):
        yield


def get_server_url(host: str | None = None) -> str:
    """Return the address of the server that a call made now would reach."""
    if host is not None:
        raise not_supported("The address of a server on another host", instead="SKYPILOT_API_SERVER_ENDPOINT names it.")
    return str(current_endpoint())


def is_api_server_local() -> bool:
    """Whether that server is this user's own on this machine."""
    return current_endpoint().state is not None


def check_server_healthy_or_start(*_args: Any, **_kwargs: Any) -> None:
    """Return once the server listens; this user's own is started if need be."""
    if is_api_server_local():
        ensure_server()

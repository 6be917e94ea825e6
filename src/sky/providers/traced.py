"""Puts a span around each call to a provider, where traces are recorded; used by the registry."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from sky.core.errors import ProviderFailure
from sky.core.ports import Compute
from sky.kit.tracing import TRACING, span

#: What asks the cloud, of all that a provider may offer.
_CALLS = (
    "create", "list", "terminate", "start", "stop", "room", "identity", "open_ports", "image_of", "images",
    "remove_image", "end_on_shutdown", "offers",
)  # fmt: skip


def traced(cloud: str, opened: Compute) -> Compute:
    """The same provider, telling of its calls; as it is where nothing is recorded."""
    if TRACING.on:
        for name in _CALLS:
            method = getattr(opened, name, None)
            if callable(method):
                setattr(opened, name, _told(f"{cloud} {name}", method))
    return opened


def _told(name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(method)
    async def call(*given: object, **named: object) -> object:
        with span(name, kind="client") as made:
            try:
                return await method(*given, **named)
            except ProviderFailure as failed:
                if made is not None:
                    made.note(refused=type(failed).__name__)
                raise

    return call

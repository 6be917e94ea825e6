"""`sky.check` as a module: what programs ask of it besides calling it."""

from __future__ import annotations

from typing import Any

from sky.core.model.clouds import Cloud, cloud_named
from sky.sdk import infra
from sky.sdk.requests import get

check = infra.check


def check_capability(
    capability: Any = None,
    quiet: bool = False,
    verbose: bool = False,
    clouds: Any = None,
    **_internal: Any,
) -> dict[str, list[str]]:
    """Try the credentials of places (None: all). Returns `{workspace: [names of those that can be used for it]}`.

    `quiet` makes no difference: nothing is printed.
    """
    word = str(getattr(capability, "value", capability or "compute"))
    wanted = [str(each).lower() for each in clouds] if clouds is not None else None
    found = get(infra.check(wanted, verbose))
    return {
        workspace: [repr(cloud_named(name)) for name, access in places.items() if word in access]
        for workspace, places in found.items()
    }


def get_cached_enabled_clouds_or_refresh(*_capability: Any, raise_if_no_cloud_access: bool = False) -> list[Cloud]:
    """Return the places that can be used; raises NoCloudAccessError for none where that is asked for."""
    found = [cloud_named(name) for name in get(infra.enabled_clouds())]
    if not found and raise_if_no_cloud_access:
        from sky.core.errors import NoCloudAccessError  # noqa: PLC0415 - wanted only where nothing is enabled

        raise NoCloudAccessError()
    return found

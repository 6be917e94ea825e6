"""What the configuration files of user and project say to a client; YAML is loaded only where there is a file.

Called by `sdk.transport` for the endpoint and by `sdk.clusters` for the layers that travel with a launch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sky.wire.config import Config

#: Sections that are about this client or hold credentials; they do not travel with a request.
STAYS_HERE = ("api_server", "db", "admin_policy")


def layers() -> dict[str, Any]:
    """The merged configuration that a request carries. Raises InvalidSkyPilotConfigError."""
    config = _load()
    return {} if config is None else {key: value for key, value in config.to_dict().items() if key not in STAYS_HERE}


def endpoint() -> tuple[str | None, str | None]:
    """The endpoint and token that the files name, if they do."""
    config = _load()
    if config is None:
        return None, None
    return config.get(("api_server", "endpoint")), config.get(("api_server", "service_account_token"))


def _load() -> Config | None:
    named = os.environ.get("SKYPILOT_GLOBAL_CONFIG") or os.environ.get("SKYPILOT_PROJECT_CONFIG")
    if not named and not os.path.exists(".sky.yaml"):  # noqa: PTH110 - on the path of every call
        home = os.path.expanduser("~/.sky/config.yaml")  # noqa: PTH111
        if not os.path.exists(home):  # noqa: PTH110
            return None
    from sky.wire.config import load_config  # noqa: PLC0415 - 30 ms of YAML that most calls do not need

    return load_config(env=os.environ, cwd=Path.cwd(), home=Path.home())

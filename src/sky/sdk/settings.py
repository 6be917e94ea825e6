"""What the configuration says to a client: the files of user and project, and over them what this call is given.

Called by `sdk.transport` for the endpoint, by `sdk.clusters` for the layers that travel with a launch, and by the
command line for its `--config`. YAML is loaded only where there is a file to read or an override to understand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sky.wire.config import Config

#: Sections that are about this client or hold credentials; they do not travel with a request.
STAYS_HERE = ("api_server", "db", "admin_policy")

_overrides: ContextVar[tuple[str, ...]] = ContextVar("sky_config", default=())
_NEXT_PAIR = re.compile(r",(?=[A-Za-z_][\w.-]*=)")


def override(values: Sequence[str]) -> None:
    """Lay YAML files and dotted `key=value[,key=value]` over the files, for this context.

    Raises InvalidSkyPilotConfigError at once for what cannot be read.
    """
    pairs: list[str] = []
    for value in values:
        # `a=1,b.c=2` is two pairs; a comma inside a value (a list, say) is followed by no `key=`.
        pairs += [value] if Path(value).expanduser().is_file() else _NEXT_PAIR.split(value)
    _overrides.set(tuple(pairs))
    _load()


def layers() -> dict[str, Any]:
    """The merged configuration that a request carries. Raises InvalidSkyPilotConfigError."""
    config = _load()
    return {} if config is None else {key: value for key, value in config.to_dict().items() if key not in STAYS_HERE}


def endpoint() -> tuple[str | None, str | None]:
    """The endpoint and token that the configuration names, if it does."""
    config = _load()
    if config is None:
        return None, None
    return config.get(("api_server", "endpoint")), config.get(("api_server", "service_account_token"))


def _load() -> Config | None:
    named = os.environ.get("SKYPILOT_GLOBAL_CONFIG") or os.environ.get("SKYPILOT_PROJECT_CONFIG")
    given = _overrides.get()
    if not named and not given and not os.path.exists(".sky.yaml"):  # noqa: PTH110 - on the path of every call
        home = os.path.expanduser("~/.sky/config.yaml")  # noqa: PTH111
        if not os.path.exists(home):  # noqa: PTH110
            return None
    from sky.wire.config import load_config  # noqa: PLC0415 - 30 ms of YAML that most calls do not need

    return load_config(given, env=os.environ, cwd=Path.cwd(), home=Path.home())

"""Configuration as the command line sees it: the files of user and project, and `--config` of this call over them.

`connect` is called before any command runs, so that a configured server is found; `layers` by `launch`, whose request
carries the configuration. YAML is loaded only where there is a file to read or an option to understand.
"""

import os
import re
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from sky.sdk import transport

if TYPE_CHECKING:
    from sky.wire.config import Config

_overrides: ContextVar[tuple[str, ...]] = ContextVar("sky_cli_config", default=())

#: Sections that are about this client or hold credentials; they do not travel with a request.
_STAYS_HERE = ("api_server", "db", "admin_policy")
_NEXT_PAIR = re.compile(r",(?=[A-Za-z_][\w.-]*=)")


def connect() -> None:
    """Have calls look at the configuration for an endpoint, after argument and environment."""
    if _endpoint not in transport.configured:
        transport.configured.append(_endpoint)


def override(values: Sequence[str]) -> None:
    """Lay the values of `--config` over the files, for this command. Raises InvalidSkyPilotConfigError at once."""
    pairs: list[str] = []
    for value in values:
        # `a=1,b.c=2` is two pairs; a comma inside a value (a list, say) is followed by no `key=`.
        pairs += [value] if Path(value).expanduser().is_file() else _NEXT_PAIR.split(value)
    _overrides.set(tuple(pairs))
    _load()


def layers() -> dict[str, object]:
    """Return the merged configuration that a request carries."""
    if not _any_file() and not _overrides.get():
        return {}
    return {key: value for key, value in _load().to_dict().items() if key not in _STAYS_HERE}


def _any_file() -> bool:
    named = os.environ.get("SKYPILOT_GLOBAL_CONFIG") or os.environ.get("SKYPILOT_PROJECT_CONFIG")
    return bool(named) or Path("~/.sky/config.yaml").expanduser().exists() or Path(".sky.yaml").exists()


def _load() -> "Config":
    from sky.wire.config import load_config  # noqa: PLC0415 - 30 ms of YAML that most calls do not need

    return load_config(_overrides.get(), env=os.environ, cwd=Path.cwd(), home=Path.home())


def _endpoint() -> tuple[str | None, str | None]:
    if not _any_file() and not _overrides.get():
        return None, None
    config = _load()
    return config.get(("api_server", "endpoint")), config.get(("api_server", "service_account_token"))

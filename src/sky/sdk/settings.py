"""What the configuration says to a client: the files of user and project, and over them what this call is given.

Called by `sdk.transport` for the endpoint, by `sdk.clusters` for the layers that travel with a launch, and by the
command line for its `--config`. YAML is loaded only where there is a file to read or an override to understand.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sky.core.errors import not_supported
from sky.kit.paths import private_dir, state_dir

if TYPE_CHECKING:
    from sky.wire.config import Config

#: Sections that are about this client or hold credentials; they do not travel with a request.
STAYS_HERE = ("api_server", "db", "admin_policy")

_overrides: ContextVar[tuple[str, ...]] = ContextVar("sky_config", default=())
_replaced: ContextVar[Mapping[str, Any] | None] = ContextVar("sky_replaced_config", default=None)
_NEXT_PAIR = re.compile(r",(?=[A-Za-z_][\w.-]*=)")


def override(values: Sequence[str]) -> None:
    """Lay YAML files and dotted `key=value[,key=value]` over the files, for this context.

    Raises at once InvalidSkyPilotConfigError for what cannot be read, NotSupportedError for what no call can change.
    """
    before = _load()
    pairs: list[str] = []
    for value in values:
        # `a=1,b.c=2` is two pairs; a comma inside a value (a list, say) is followed by no `key=`.
        pairs += [value] if Path(value).expanduser().is_file() else _NEXT_PAIR.split(value)
    _overrides.set(tuple(pairs))
    after = _load()
    if after is not None and after.get(("local",)) != (before.get(("local",)) if before is not None else None):
        raise not_supported(
            "Describing the local machine for one call (`local`)",
            instead="The server reads that from its configuration file, ~/.sky/config.yaml.",
        )


@contextlib.contextmanager
def replaced(values: Mapping[str, Any]) -> Iterator[None]:
    """Take a whole configuration in place of all files, inside this block and context."""
    mark = _replaced.set(dict(values))
    try:
        yield
    finally:
        _replaced.reset(mark)


def layers() -> dict[str, Any]:
    """The merged configuration that a request carries. Raises InvalidSkyPilotConfigError."""
    config = _load()
    return {} if config is None else {key: value for key, value in config.to_dict().items() if key not in STAYS_HERE}


def admin_policy() -> str | None:
    """The policy that this client's configuration names, if it names one."""
    config = _load()
    named = None if config is None else config.get(("admin_policy",))
    return None if named is None else str(named)


def endpoint() -> tuple[str | None, str | None]:
    """The endpoint and token that the configuration names, if it does."""
    config = _load()
    if config is None:
        return None, None
    return config.get(("api_server", "endpoint")), config.get(("api_server", "service_account_token"))


def now() -> float:
    """The wall clock. Not `sky.kit.clock`, which loads asyncio: no call of the command line can wait for that."""
    return time.time()  # noqa: TID251 - the one place in this room


def login_file() -> Path:
    """Where a login to a shared server is kept."""
    return state_dir() / "login.json"


def stored_login() -> dict[str, Any] | None:
    """The login that `sky api login` made: `endpoint`, `token`, `renew_at` … None where there is none."""
    path = os.path.join(state_dir(), "login.json")  # noqa: PTH118 - on the path of every call
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            told = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise ValueError(f"The login in {path} cannot be read; log in again: sky api login -e URL") from None
    if not isinstance(told, dict) or not all(isinstance(told.get(key), str) for key in ("endpoint", "token")):
        raise ValueError(f"The login in {path} cannot be read; log in again: sky api login -e URL")
    return told


def keep_login(told: Mapping[str, Any]) -> None:
    """Keep a login, in a file that its owner alone may read."""
    path = login_file()
    private_dir(path.parent)
    fresh = path.with_suffix(f".{os.getpid()}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        json.dump(dict(told), out)
    fresh.replace(path)


def life_of(token: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a token's life, from what the server tells of it: half of it is over at `renew_at`."""
    end, at = token["expires_at"], now()
    again = None if end is None or not token["renewable"] else at + (end - at) / 2
    return {"expires_at": end, "renew_at": again, "ends_with_logout": token["kind"] == "login"}


def _load() -> Config | None:
    instead = _replaced.get()
    if instead is not None:
        from sky.wire.config import Config  # noqa: PLC0415 - as below

        return Config(instead)
    named = os.environ.get("SKYPILOT_GLOBAL_CONFIG") or os.environ.get("SKYPILOT_PROJECT_CONFIG")
    given = _overrides.get()
    if not named and not given and not os.path.exists(".sky.yaml"):  # noqa: PTH110 - on the path of every call
        home = os.path.expanduser("~/.sky/config.yaml")  # noqa: PTH111
        if not os.path.exists(home):  # noqa: PTH110
            return None
    from sky.wire.config import load_config  # noqa: PLC0415 - 30 ms of YAML that most calls do not need

    return load_config(given, env=os.environ, cwd=Path.cwd(), home=Path.home())

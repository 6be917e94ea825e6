"""Calls that the configuration takes from a role, by `rbac.roles`; asked by the gate for each call over TCP.

```yaml
rbac:
  roles:
    user:
      permissions:
        blocklist: [{path: /launch, method: POST}, {path: "/users/*"}]
```

A path may hold `*`; without a method all are meant. Nothing can be given to a role in this way, and nothing taken from
admins.
"""

import fnmatch
from collections.abc import Mapping

from sky.core.errors import InvalidSkyPilotConfigError

#: By role, paths and methods (`*` for all).
Blocks = Mapping[str, tuple[tuple[str, str], ...]]


def blocks_of(told: object) -> Blocks:
    """What `rbac.roles` says. Raises InvalidSkyPilotConfigError."""
    if told is None:
        return {}
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for role, said in _mapping(told, "rbac.roles").items():
        where = f"rbac.roles.{role}"
        if role not in ("user", "viewer"):
            raise _wrong(where, "calls can be taken from the roles user and viewer")
        permissions = _mapping(_mapping(said, where, "permissions").get("permissions") or {}, where, "blocklist")
        listed = permissions.get("blocklist") or []
        if not isinstance(listed, list | tuple):
            raise _wrong(f"{where}.permissions.blocklist", "a list of {path, method}")
        found[role] = tuple(_entry(each, f"{where}.permissions.blocklist") for each in listed)
    return found


def refused(blocks: Blocks, role: str, method: str, path: str) -> bool:
    """Whether a call is taken from this role."""
    return any(
        fnmatch.fnmatchcase(path, pattern) and called in ("*", method.upper())
        for pattern, called in blocks.get(role, ())
    )


def _entry(told: object, where: str) -> tuple[str, str]:
    entry = _mapping(told, where, "path", "method")
    path, method = entry.get("path"), entry.get("method", "*")
    if not isinstance(path, str) or not path.startswith("/") or not isinstance(method, str):
        raise _wrong(where, f"found {told!r}; allowed: {{path: /…, method: POST}}")
    return path, method.upper()


def _mapping(told: object, where: str, *known: str) -> Mapping[str, object]:
    if not isinstance(told, Mapping):
        raise _wrong(where, "a mapping")
    odd = [str(each) for each in told if known and each not in known]
    if odd:
        raise _wrong(where, f"found {', '.join(odd)[:80]}; allowed: {', '.join(known)}")
    return told


def _wrong(where: str, why: str) -> InvalidSkyPilotConfigError:
    return InvalidSkyPilotConfigError(f"Invalid config YAML: {where}: {why}")

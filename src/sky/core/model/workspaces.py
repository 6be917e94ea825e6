"""A workspace: who works in it, and which infra its machines may be on. Kept by `store.users`, read by the engine."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sky.core.errors import InvalidSkyPilotConfigError, InvalidWorkspaceNameError
from sky.core.model.clouds import cloud_named

DEFAULT = "default"

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
_OWN = ("private", "allowed_users", "admins", "read_access", "allowed_clouds")
#: Settings that leave only some regions of a place: pools of machines are regions of `ssh`.
_REGIONS = {"ssh": "allowed_node_pools", "kubernetes": "allowed_contexts"}


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace as configured.

    In a private one work only `allowed_users` and `admins`; all others are open to everybody. Its `admins` act on what
    others have in it. `read_access` of `all` lets those look who may not work in it. `infra` holds the settings of
    clouds; one with `disabled: true` is not used, and of `allowed_clouds` (None: all) those only.
    """

    name: str
    private: bool = False
    allowed_users: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    read_access: str = "users"
    allowed_clouds: tuple[str, ...] | None = None
    infra: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def disabled(self, cloud: str) -> bool:
        """Whether machines of a cloud may not be used in it."""
        if self.allowed_clouds is not None and cloud not in self.allowed_clouds:
            return True
        return bool(self.infra.get(cloud, {}).get("disabled"))

    def refuses(self, cloud: str, region: str) -> str | None:
        """Why machines of a place may not be used in it; None if they may."""
        if self.disabled(cloud):
            return f"workspace '{self.name}' does not use {cloud}"
        key = _REGIONS.get(cloud, "")
        listed = self.infra.get(cloud, {}).get(key)
        if isinstance(listed, list | tuple) and region not in listed:
            return f"workspace '{self.name}' uses of {cloud} only {', '.join(map(str, listed)) or 'nothing'} ({key})"
        return None

    def to_config(self) -> dict[str, object]:
        """As it stands in a configuration file."""
        told: dict[str, object] = {"private": self.private}
        if self.allowed_users:
            told["allowed_users"] = list(self.allowed_users)
        if self.admins:
            told["admins"] = list(self.admins)
        if self.read_access != "users":
            told["read_access"] = self.read_access
        if self.allowed_clouds is not None:
            told["allowed_clouds"] = list(self.allowed_clouds)
        return {**told, **{cloud: dict(settings) for cloud, settings in self.infra.items()}}


def check_workspace_name(name: str) -> str:
    """Return the name of a workspace or raise InvalidWorkspaceNameError."""
    if not _NAME.fullmatch(name):
        raise InvalidWorkspaceNameError(
            f"Workspace name {name[:80]!r} is not valid: at most 64 letters, digits, '-' and '_', with a letter or "
            "digit at both ends."
        )
    return name


def read_workspace(name: str, config: Mapping[str, object] | None) -> Workspace:
    """A workspace from its configuration.

    Raises InvalidWorkspaceNameError, InvalidSkyPilotConfigError with the path of what is wrong.
    """
    check_workspace_name(name)
    told = dict(config or {})
    private = told.get("private", False)
    if not isinstance(private, bool):
        raise _wrong(name, "private", private, "true or false")
    read_access = told.get("read_access", "users")
    if read_access not in ("users", "all"):
        raise _wrong(name, "read_access", read_access, "users, all")
    return Workspace(
        name,
        private,
        _names(name, "allowed_users", told),
        _names(name, "admins", told),
        str(read_access),
        _allowed(name, told),
        {_cloud(name, key): _settings(name, key, value) for key, value in told.items() if key not in _OWN},
    )


def _names(name: str, key: str, told: Mapping[str, object]) -> tuple[str, ...]:
    value = told.get(key) or ()
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise _wrong(name, key, value, "a list of user names")
    return tuple(dict.fromkeys(value))


def _allowed(name: str, told: Mapping[str, object]) -> tuple[str, ...] | None:
    if told.get("allowed_clouds") is None:
        return None
    return tuple(_cloud(name, each) for each in _names(name, "allowed_clouds", told))


def _cloud(name: str, key: str) -> str:
    try:
        return cloud_named(str(key)).canonical_name()
    except ValueError as unknown:
        raise InvalidSkyPilotConfigError(
            f"Invalid config YAML: workspaces.{name}: {unknown}; or one of {', '.join(_OWN)}"
        ) from None


def _settings(name: str, key: str, value: object) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(name, key, value, "a map")
    if not isinstance(value.get("disabled", False), bool):
        raise _wrong(name, f"{key}.disabled", value["disabled"], "true or false")
    return dict(value)


def _wrong(name: str, key: str, found: object, allowed: str) -> InvalidSkyPilotConfigError:
    return InvalidSkyPilotConfigError(
        f"Invalid config YAML: workspaces.{name}.{key}: found {str(found)[:40]!r}; allowed: {allowed}"
    )

"""Workspaces: which there are, which one is used. Reached as `sky.workspaces`, `sky.set_preferred_workspace` …"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sky.sdk import settings
from sky.sdk.ids import Answer, RequestId
from sky.sdk.records import Record
from sky.sdk.transport import call


def workspaces() -> RequestId[dict[str, dict[str, Any]]]:
    """Workspaces that one may see. Value: `{name: configuration}`."""
    told = {name: each["config"] for name, each in call("GET", "/workspaces").json().items()}
    return RequestId("workspaces", "workspaces", Answer(told))


def listing() -> list[Record]:
    """Workspaces that one may see: `name`, `config`, `may_work`, `may_lead`, `made_here`."""
    return [Record(each) for each in call("GET", "/workspaces").json().values()]


def get_user_workspace(requested: str | None = None) -> dict[str, Any]:
    """Where a launch works: `workspace` (None: it would have to be said), `preferred`, `accessible` …"""
    me = call("GET", "/users/role").json()
    asked = requested or active()
    chosen = asked or me["preferred"] or (me["workspaces"][0] if len(me["workspaces"]) == 1 else None)
    return {
        "workspace": chosen,
        "requested": asked,
        "preferred": me["preferred"],
        "accessible": me["workspaces"],
        "user": me["name"],
    }


def set_preferred_workspace(preferred: str | None) -> RequestId[dict[str, Any]]:
    """Work in this workspace unless a call says otherwise; None forgets it. Value: who one is, as the server knows."""
    told = call("POST", "/users/me/workspace", {"preferred": preferred}).json()
    return RequestId("set_preferred_workspace", "set_preferred_workspace", Answer(told))


def active() -> str | None:
    """The `active_workspace` of the configuration, if it names one."""
    named = settings.layers().get("active_workspace")
    return None if named is None else str(named)


def create_workspace(name: str, config: Mapping[str, Any] | None = None) -> Record:
    """Make a workspace; without a configuration it is open to everybody."""
    return _post("create", {"workspace_name": name, "config": dict(config or {})})


def update_workspace(name: str, config: Mapping[str, Any]) -> Record:
    """Replace a workspace's configuration."""
    return _post("update", {"workspace_name": name, "config": dict(config)})


def delete_workspace(name: str) -> None:
    """Remove a workspace; refused while there are clusters in it."""
    call("POST", "/workspaces/delete", {"workspace_name": name})


def add_users(name: str, users: Sequence[str]) -> Record:
    """Let users work in a private workspace."""
    return _post("batch_add_users", {"workspace_name": name, "users": list(users)})


def remove_users(name: str, users: Sequence[str]) -> Record:
    """Let users work there no longer."""
    return _post("batch_remove_users", {"workspace_name": name, "users": list(users)})


def _post(verb: str, body: Mapping[str, Any]) -> Record:
    return Record(call("POST", f"/workspaces/{verb}", body).json())

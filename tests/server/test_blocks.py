"""Calls that the configuration takes from a role; what of it admins read and change by calls; quotas."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from serving import Served
from townhall import Town

from sky.core.errors import ConcurrentWorkerExhaustedError, InvalidSkyPilotConfigError
from sky.server.blocks import blocks_of, refused
from sky.server.quota import Quota

LIST = [{"path": "/down", "method": "post"}, {"path": "/users/*"}]


def test_a_role_loses_what_is_listed() -> None:
    blocks = blocks_of({"user": {"permissions": {"blocklist": LIST}}})
    assert refused(blocks, "user", "POST", "/down")
    assert not refused(blocks, "user", "GET", "/down")
    assert refused(blocks, "user", "GET", "/users/role")
    assert not refused(blocks, "user", "POST", "/launch")
    assert not refused(blocks, "viewer", "POST", "/down")
    assert blocks_of(None) == {}


@pytest.mark.parametrize(
    "told",
    [3, {"admin": {}}, {"user": 3}, {"user": {"allow": []}}, {"user": {"permissions": {"blocklist": 3}}},
     {"user": {"permissions": {"blocklist": [{"path": "down"}]}}}, {"user": {"permissions": {"blocklist": ["/down"]}}},
     {"user": {"permissions": {"blocklist": [{"path": "/down", "verb": "POST"}]}}}],
)  # fmt: skip
def test_what_is_not_understood_is_refused(told: Any) -> None:
    with pytest.raises(InvalidSkyPilotConfigError, match=r"rbac\.roles"):
        blocks_of(told)


def test_the_gate_heeds_it_but_not_for_admins(state: Path) -> None:
    roles = {"user": {"permissions": {"blocklist": [{"path": "/status"}]}}}
    town = Town(state, config={"rbac": {"roles": roles}})
    try:
        ann, lea = town.move_in("ann"), town.move_in("lea", "admin")
        status, told = town.call(ann, "POST", "/status", {})
        assert status == 403
        assert "rbac.roles" in told["error"]["message"]
        assert town.call(ann, "POST", "/queue", {"cluster_name": "one"})[0] != 403
        assert town.call(lea, "POST", "/status", {})[0] == 200
        assert town.call(town.owner, "POST", "/status", {})[0] == 200
    finally:
        town.served.stop()


def test_the_configuration_is_shown_to_admins_without_what_may_be_secret(state: Path) -> None:
    config = {
        "allowed_clouds": ["aws"],
        "db": "postgresql://u:hidden-word@h/d",
        "workspaces": {"lab": {"private": True}},
    }
    town = Town(state, config=config)
    try:
        status, told = town.call(town.owner, "GET", "/workspaces/config")
        assert status == 200
        assert told["allowed_clouds"] == ["aws"]
        assert set(told["workspaces"]) == {"default", "lab"}
        assert "hidden-word" not in str(told)
        assert town.call(town.move_in("ann"), "GET", "/workspaces/config")[0] == 403
        # As it was read, with one more workspace.
        told["workspaces"]["team"] = {"private": True, "allowed_users": ["ann"]}
        status, after = town.call(town.owner, "POST", "/workspaces/config", {"config": told})
        assert status == 200
        assert after["workspaces"]["team"]["allowed_users"] == ["ann"]
        refusals = [{"allowed_clouds": ["gcp"]}, {"db": "x", "workspaces": {}}, {}, {"workspaces": {"lab": {}}}]
        for asked in refusals:
            assert town.call(town.owner, "POST", "/workspaces/config", {"config": asked})[0] in (400, 422)
    finally:
        town.served.stop()


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1e9

    def now(self) -> float:
        return self.at


async def test_uploads_of_a_day_are_bounded_for_each_user() -> None:
    clock = Hands()
    quota = Quota(clock, lambda: {"uploads_per_user_gb": 0.000_001})  # type: ignore[arg-type]
    quota.take("ann", 600)
    with pytest.raises(ConcurrentWorkerExhaustedError, match="ann has uploaded"):
        quota.take("ann", 600)
    quota.take("bob", 1000)
    clock.at += 86400
    quota.take("ann", 600)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 100

    taken = 0
    with pytest.raises(ConcurrentWorkerExhaustedError):
        async for piece in quota.counted("ann", pieces()):
            taken += len(piece)
    assert taken == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [("/launch", b'{"task": {}, "cluster_name": "a\\u0000b"}'), ("/status", b'{"cluster_names": ["\\\\\\u0000"]}'),
     ("/users/create", b'{"username": "x\\u0000"}')],
)  # fmt: skip
def test_nul_is_refused_before_anything_is_asked(served: Served, path: str, body: bytes) -> None:
    status, told, _ = served.call("POST", path, raw=body)
    assert status == 400
    assert "NUL" in told["error"]["message"]


def test_what_only_looks_like_nul_is_let_through(served: Served) -> None:
    assert served.call("POST", "/status", raw=rb'{"cluster_names": ["\\u0000", "u0000"]}')[0] == 200
    assert served.call("GET", "/api/get?request_id=%00")[0] == 400

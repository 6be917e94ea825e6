"""Workspaces where requests are carried out: whose cluster it is, and where machines may be."""

import asyncio

import pytest

from sky.core.model.statuses import RequestStatus
from sky.server.assembly import build
from sky.server.settings import Settings

CONFIG = {
    "local": {"cpus": 4},
    "workspaces": {
        "team": {"private": True, "allowed_users": ["ann"], "local": {"disabled": False}},
        "default": {"allowed_clouds": ["local"]},
        "usual": {},
        "elsewhere": {"local": {"disabled": True}},
        "picked": {"allowed_clouds": ["aws"]},
    },
}
TASK = {"run": "true"}


@pytest.fixture
async def plane(tmp_path):
    made = build(Settings(tmp_path / "s", config=CONFIG))
    await made.start()
    yield made
    for cluster in await made.clusters():
        done = await made.submit("down", {"cluster_name": cluster.name, "purge": True}, user="u")
        await made.wait(done.id, 20)
    await made.stop()


@pytest.fixture
def ask(plane):
    async def asked(name, body, **whose):
        request = await plane.submit(name, body, **{"user": "ann", "workspace": "team", "reach": "own", **whose})
        return await plane.wait(request.id, 60)

    return asked


async def test_workspaces_come_from_the_file_and_from_calls(plane):
    await plane.users.put_workspace("made", {"private": True})
    await plane.users.put_workspace("team", {"private": False})
    found = await plane.workspaces.all()
    assert list(found) == ["default", "elsewhere", "made", "picked", "team", "usual"]
    assert found["team"].private, "what the file says counts"
    assert (await plane.workspaces.get("gone")).private, "what is in one that is gone is nobody's to see"


async def test_a_cluster_is_in_the_workspace_that_it_was_made_in(plane, ask):
    done = await ask("launch", {"task": TASK, "cluster_name": "c"})
    assert done.status is RequestStatus.SUCCEEDED, done.error
    (cluster,) = await plane.clusters()
    assert (cluster.user, cluster.workspace) == ("ann", "team")
    assert (await plane.named("c")).id == cluster.id
    assert await plane.named("d") is None


@pytest.mark.parametrize("space", ["elsewhere", "picked", "usual"])
async def test_machines_are_where_the_workspace_allows(plane, ask, space):
    done = await ask(
        "launch", {"task": {**TASK, "resources": {"infra": "local"}}, "cluster_name": "c"}, workspace=space
    )
    assert done.error["type"] == "ResourcesUnavailableError"
    assert await plane.clusters() == []


@pytest.mark.parametrize(
    "whose",
    [
        {"user": "bob"},
        {"user": "ann", "workspace": "default"},
        {"user": "bob", "workspace": "default", "reach": "workspace"},
    ],
    ids=["another's", "in another workspace", "an admin of another workspace"],
)
async def test_a_request_does_not_touch_what_became_somebody_elses(plane, ask, whose):
    """The server has let it pass, for the name was free or its own then."""
    assert (await ask("launch", {"task": TASK, "cluster_name": "c"})).status is RequestStatus.SUCCEEDED
    for name, body in (
        ("launch", {"task": TASK, "cluster_name": "c"}),
        ("exec", {"task": TASK, "cluster_name": "c"}),
        ("stop", {"cluster_name": "c"}),
        ("down", {"cluster_name": "c", "purge": True}),
        ("start", {"cluster_name": "c"}),
        ("autostop", {"cluster_name": "c", "idle_minutes": 1}),
        ("cancel", {"cluster_name": "c", "all": True}),
        ("launch", {"task": TASK, "cluster_name": "d", "clone_disk_from": "c"}),
    ):
        done = await ask(name, body, **whose)
        assert done.error is not None, name
        assert done.error["type"] == "PermissionDeniedError", name
    assert [cluster.name for cluster in await plane.clusters()] == ["c"]
    for far in ({"user": "lea", "reach": "workspace"}, {"user": "root", "workspace": "default", "reach": "all"}):
        assert (await ask("cancel", {"cluster_name": "c", "all": True}, **far)).status is RequestStatus.SUCCEEDED


async def test_the_audit_log_knows_how_requests_ended(plane, ask):
    good = await ask("launch", {"task": TASK, "cluster_name": "c"})
    bad = await ask("down", {"cluster_name": "c"}, user="bob")

    async def ends():
        return {line.request_id: line for line in await plane.audit.read(limit=10)}

    async with asyncio.timeout(5):
        while set(found := await ends()) != {good.id, bad.id}:
            await asyncio.sleep(0.01)
    assert (found[good.id].user, found[good.id].workspace, found[good.id].outcome) == ("ann", "team", "SUCCEEDED")
    assert (found[good.id].operation, found[good.id].target) == ("end of launch", "cluster c")
    assert (found[bad.id].user, found[bad.id].outcome) == ("bob", "FAILED: PermissionDeniedError")


async def test_the_servers_own_machine_is_for_admins_unless_it_is_said(plane, ask):
    """Jobs there run as the server's user: whoever gets one there could be its owner."""
    task = {**TASK, "resources": {"infra": "local"}}
    refused = await ask("launch", {"task": task, "cluster_name": "c"}, workspace="usual", reach="workspace")
    assert refused.error["type"] == "ResourcesUnavailableError"
    done = await ask("launch", {"task": task, "cluster_name": "c"}, workspace="usual", reach="all")
    assert done.status is RequestStatus.SUCCEEDED, done.error


async def test_users_say_what_their_machines_are_and_not_how_the_server_reaches_them(plane, ask):
    config = {"aws": {"ssh_proxy_command": "touch /tmp/owned", "labels": {"a": "b"}}, "provision": {"hedge": 2}}
    body = {"task": TASK, "cluster_name": "c", "config": config}
    await ask("launch", body)
    (cluster,) = await plane.clusters()
    assert cluster.layers == {"aws": {"labels": {"a": "b"}}, "provision": {"hedge": 2}}
    await ask("launch", {**body, "cluster_name": "d"}, user="root", reach="all")
    assert (await plane.named("d")).layers["aws"]["ssh_proxy_command"] == "touch /tmp/owned"

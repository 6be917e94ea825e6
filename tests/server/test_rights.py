"""Who may do what over TCP: roles, others' things, workspaces, and the right that every route has to name."""

import asyncio
import itertools
import json

import pytest
from serving import Served
from townhall import Town

from sky.core.errors import ClusterDoesNotExist, PermissionDeniedError, WorkspaceAmbiguousError
from sky.core.policy.rights import Right
from sky.sdk import clusters, requests, users, workspaces
from sky.server.app import build_app
from sky.server.identity import owner
from sky.wire.openapi import Operation

TASK = {"task": {"run": "true"}}


def operations(monkeypatch) -> list[Operation]:
    """Every operation of the application."""
    import sky.server.app as module

    kept: list[Operation] = []

    def keep(routes, gate, auditor, seen):
        kept.extend(route.operation for route in routes)

    monkeypatch.setattr(module, "App", keep)

    class Anything:
        def __getattr__(self, name):
            return self

        def __call__(self, *given, **named):
            return self

        def __truediv__(self, other):
            return self

        def __fspath__(self):
            return "/nowhere"

    from pathlib import Path
    from types import SimpleNamespace

    from sky.server.api import Api

    api = Api.__new__(Api)
    api.plane = api.people = api.ways = api.may = api.metrics = Anything()
    api.settings = SimpleNamespace(state_dir=Path("/nowhere"), files=Path("/nowhere"))
    build_app(api, Anything(), token=None, hosts=None, stop=lambda: None)
    return kept


def test_every_route_names_the_right_that_it_needs(monkeypatch):
    found = operations(monkeypatch)
    assert len(found) > 40
    assert [each.path for each in found if each.right is None] == []
    public = {each.path for each in found if each.right is Right.PUBLIC}
    assert public == {"/health", "/api/health", "/healthz", "/readyz", "/openapi.json"} | {
        path for path in public if path.startswith("/auth/")
    }, "these calls are open to strangers"
    owners = {each.path for each in found if each.right is Right.OWNER}
    assert owners == {"/api/shutdown", "/api/rotate_key", "/api/backup", "/api/debug_dump"}


def test_every_change_is_on_record(monkeypatch):
    """What is not written into the audit log reads, or says why not."""
    left_out = {
        each.path
        for each in operations(monkeypatch)
        if each.right not in (Right.READ, Right.PUBLIC) and not each.on_record
    }
    assert left_out == {
        "/api/uploads/missing", "/api/uploads/pack", "/api/uploads/{hash}", "/api/server_logs", "/audit", "/metrics",
        "/nodes",
    }  # fmt: skip


def test_a_route_without_a_right_is_nobodys(town: Town):
    from sky.server.asgi import Call, Route
    from sky.server.authentication import Authentication
    from sky.server.identity import Gatekeeper
    from sky.server.people import People

    people = People(town.plane.users, town.plane.clock, owner(), lambda name: {})
    gate = Gatekeeper(people, "x" * 32, None, Authentication())
    headers = [(b"authorization", b"Bearer " + b"x" * 32)]
    call = Call("POST", "/new", b"", headers, None, local=False)  # type: ignore[arg-type]
    with pytest.raises(PermissionDeniedError, match="may not call /new"):
        asyncio.run(gate(call, Route(Operation("POST", "/new", ""), None)))  # type: ignore[arg-type]


CHANGES = [
    ("/launch", {**TASK, "cluster_name": "annas"}),
    ("/exec", {**TASK, "cluster_name": "annas"}),
    ("/start", {"cluster_name": "annas"}),
    ("/stop", {"cluster_name": "annas"}),
    ("/down", {"cluster_name": "annas", "purge": True}),
    ("/autostop", {"cluster_name": "annas", "idle_minutes": 1}),
    ("/cancel", {"cluster_name": "annas", "all": True}),
    ("/chaos", {"cluster_name": "annas", "fault": "kill"}),
    ("/launch", {**TASK, "cluster_name": "mine", "clone_disk_from": "annas"}),
]


@pytest.mark.parametrize(("path", "body"), CHANGES, ids=lambda each: each if isinstance(each, str) else "")
def test_nobody_changes_what_is_somebody_elses(town: Town, path, body):
    anna, bob, lea = (town.move_in(name, role) for name, role in (("anna", "user"), ("bob", "user"), ("lea", "admin")))
    town.own("annas", "anna")
    status, told = town.call(bob, "POST", path, body)
    assert (status, told["error"]["type"]) == (403, "PermissionDeniedError")
    assert "anna's" in told["error"]["message"]
    assert town.plane.submissions == 0
    for token in (anna, lea):
        assert town.call(token, "POST", path, body)[0] == 200
    assert [row.user for row in town.plane.rows.values()] == ["anna", "lea"]
    assert [row.reach for row in town.plane.rows.values()] == ["own", "all"]


def test_a_viewer_reads_only(town: Town):
    vic = town.move_in("vic", "viewer")
    town.own("annas", "anna")
    for path, body in [("/launch", TASK), ("/down", {"cluster_name": "annas"}), ("/api/cancel", {}), ("/nodes", {})]:
        status, told = town.call(vic, "POST", path, body)
        assert status == 403, path
        assert "vic is viewer" in told["error"]["message"]
    status, told = town.call(vic, "PUT", "/api/uploads/" + "0" * 64, b"x")
    assert status == 403
    assert [each["name"] for each in town.call(vic, "POST", "/status", {"all_users": True})[1]["result"]] == [
        "one",
        "two",
        "annas",
    ]
    assert town.call(vic, "POST", "/queue", {"cluster_name": "annas"})[0] == 200
    assert town.call(vic, "POST", "/optimize", {"tasks": [{"run": "true"}]})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/users/create", {"username": "x"}),
        ("POST", "/users/update", {"user_name": "bob", "role": "admin"}),
        ("POST", "/users/delete", {"user_name": "anna"}),
        ("POST", "/workspaces/create", {"workspace_name": "w"}),
        ("POST", "/workspaces/delete", {"workspace_name": "w"}),
        ("POST", "/catalog_refresh", {}),
        ("POST", "/ssh_up", {}),
        ("GET", "/audit", None),
        ("GET", "/api/server_logs?follow=false", None),
    ],
)
def test_administration_is_for_admins(town: Town, method, path, body):
    bob = town.move_in("bob")
    status, told = town.call(bob, method, path, body)
    assert (status, told["error"]["type"]) == (403, "PermissionDeniedError")
    assert [row["outcome"] for row in town.audit()] == (["refused: PermissionDeniedError"] if body is not None else [])


def test_status_shows_ones_own_and_on_demand_everybodys(town: Town):
    anna, bob = town.move_in("anna"), town.move_in("bob")
    town.own("annas", "anna")
    town.own("annas-2", "anna")
    town.own("bobs", "bob")

    def shown(token: str, **asked) -> list[str]:
        with town.as_(token):
            return [each.name for each in requests.get(clusters.status(**asked))]

    assert shown(anna) == ["annas", "annas-2"]
    assert shown(bob) == ["bobs"]
    assert shown(bob, all_users=True) == ["one", "two", "annas", "annas-2", "bobs"]
    # A plain name is that cluster, whose ever it is; commands act on it only if they may.
    assert shown(bob, cluster_names=["annas"]) == ["annas"]
    assert shown(town.owner, cluster_names=["one"]) == ["one"]
    assert shown(anna) == ["annas", "annas-2"], "an answer of bob's was given to anna"


def test_lines_of_the_ledger_are_shown_as_clusters_are(town: Town):
    anna, bob = town.move_in("anna"), town.move_in("bob")
    config = {"private": True, "allowed_users": ["anna"]}
    assert town.call(town.owner, "POST", "/workspaces/create", {"workspace_name": "team", "config": config})[0] == 200
    line = town.plane.billed[0]
    for name, workspace in (("hidden", "team"), ("orphan", "gone")):
        town.plane.billed.append(line._replace(cluster_name=name, owner="anna", workspace=workspace))

    def shown(token) -> set[str]:
        status, told = town.call(token, "POST", "/ledger", {"all": True})
        assert status == 200
        return {each["cluster"] for each in told["result"]}

    everybodys = {line.cluster_name for line in town.plane.billed} - {"hidden", "orphan"}
    assert shown(bob) == everybodys
    assert shown(anna) == shown(town.owner) == everybodys | {"hidden", "orphan"}


def test_a_private_workspace_is_not_there_for_others(town: Town):
    anna, bob, lea = town.move_in("anna"), town.move_in("bob"), town.move_in("lea")
    config = {"private": True, "allowed_users": ["anna"], "admins": ["lea"]}
    assert town.call(town.owner, "POST", "/workspaces/create", {"workspace_name": "team", "config": config})[0] == 200
    town.own("hidden", "anna", "team")
    with town.as_(bob):
        assert requests.get(clusters.status(all_users=True)) != []
        assert requests.get(clusters.status(["hidden"])) == []
        assert "hidden" not in [each.name for each in requests.get(clusters.status(all_users=True))]
        assert "hidden" not in [each.name for each in requests.get(clusters.cost_report())]
        assert "team" not in requests.get(workspaces.workspaces())
        for read in (
            lambda: clusters.queue("hidden"),
            lambda: clusters.job_status("hidden"),
            lambda: clusters.endpoints("hidden"),
            lambda: clusters.cluster_events("hidden"),
            lambda: clusters.down("hidden"),
            lambda: clusters.exec({"run": "true"}, "hidden"),
        ):
            with pytest.raises(ClusterDoesNotExist, match="'hidden' not found"):
                requests.get(read())
        with pytest.raises(ClusterDoesNotExist):
            clusters.tail_logs("hidden", 1)
        with pytest.raises(PermissionDeniedError, match="is taken"):
            clusters.launch({"run": "true"}, "hidden")
    with town.as_(anna):
        assert "hidden" in [each.name for each in requests.get(clusters.status())]
        assert requests.get(workspaces.workspaces())["team"] == {"private": True}, "who is in it is told to its admins"
    with town.as_(lea):
        assert requests.get(clusters.down("hidden")) is None
    assert [(row.user, row.workspace, row.reach) for row in town.plane.rows.values()] == [("lea", "team", "workspace")]


def test_a_launch_works_in_the_workspace_that_is_meant(town: Town):
    anna = town.move_in("anna")
    with town.as_(anna):
        requests.get(clusters.launch({"run": "true"}, "a"))
    config = {"private": True, "allowed_users": ["anna"]}
    town.call(town.owner, "POST", "/workspaces/create", {"workspace_name": "team", "config": config})
    with town.as_(anna):
        with pytest.raises(WorkspaceAmbiguousError, match="default, team"):
            clusters.launch({"run": "true"}, "b")
        requests.get(clusters.launch({"run": "true", "config": {"active_workspace": "team"}}, "b"))
        workspaces.set_preferred_workspace("team")
        assert workspaces.get_user_workspace()["workspace"] == "team"
        requests.get(clusters.launch({"run": "true"}, "c"))
    assert [row.workspace for row in town.plane.rows.values()] == ["default", "team", "team"]
    body = {**TASK, "config": {"active_workspace": "secret"}}
    assert town.call(anna, "POST", "/launch", body)[0] == 403
    assert town.audit()[0]["outcome"] == "failed: NoWorkspaceAccessError"


def test_requests_of_others_are_not_there(town: Town):
    anna, bob, lea = town.move_in("anna"), town.move_in("bob"), town.move_in("lea", "admin")
    town.plane.hold = {"launch"}
    id = town.call(anna, "POST", "/launch", TASK)[1]["request_id"]
    read = town.call(anna, "POST", "/status", {})[1]["request_id"]
    for path in (
        f"/api/get?request_id={id}&timeout=0",
        f"/api/get?request_id={id[:6]}&timeout=0",
        f"/api/stream?request_id={id}&follow=false",
        f"/api/status?request_ids={id}",
        f"/api/get?request_id={read}&timeout=0",
    ):
        status, told = town.call(bob, "GET", path)
        assert status == 400, path
        assert "request" in told["error"]["message"].lower()
        assert town.call(anna, "GET", path)[0] == 200
    assert town.call(bob, "POST", "/api/cancel", {"request_ids": [id]})[0] == 400
    assert town.call(bob, "GET", "/api/status?all=true")[1] == []
    assert [each["request_id"] for each in town.call(anna, "GET", "/api/status?all=true")[1]] == [id]
    assert [each["request_id"] for each in town.call(lea, "GET", "/api/status?all=true")[1]] == [id]
    for body in ({}, {"all_users": True}):
        assert town.call(bob, "POST", "/api/cancel", body)[1] == []
    assert town.call(lea, "POST", "/api/cancel", {"all_users": True})[1] == [id]


def test_a_request_id_of_somebody_else_gives_nothing(town: Town):
    anna, bob = town.move_in("anna"), town.move_in("bob")
    headers = {"X-Skypilot-Request-ID": "11111111-aaaa"}
    assert town.call(anna, "POST", "/launch", TASK, headers)[0] == 200
    status, told = town.call(bob, "POST", "/launch", TASK, headers)
    assert (status, told["error"]["type"]) == (409, "RequestAlreadyExistsError")
    assert town.call(anna, "POST", "/launch", TASK, headers)[0] == 200


def test_the_way_onto_nodes_is_for_those_who_may_change_the_cluster(town: Town):
    anna, bob = town.move_in("anna"), town.move_in("bob")
    town.own("annas", "anna")
    nodes = "/nodes"
    assert [each["name"] for each in town.call(anna, "POST", nodes, {})[1]["result"]] == ["annas"]
    assert town.call(bob, "POST", nodes, {"cluster_names": ["annas"]})[1]["result"] == []


def test_roles_are_given_and_taken(town: Town):
    bob = town.move_in("bob")
    with town.as_(town.owner):
        assert users.me().name == owner()
        users.create_user("carl", "viewer")
        assert {each.name: each.role for each in users.users()} == {owner(): "admin", "bob": "user", "carl": "viewer"}
        with pytest.raises(ValueError, match="already"):
            users.create_user("carl")
        users.update_user("bob", role="viewer")
        with pytest.raises(PermissionDeniedError, match="owns this server"):
            users.update_user(owner(), role="viewer")
        with pytest.raises(ValueError, match="no user"):
            users.update_user("nobody", role="viewer")
    assert town.call(bob, "POST", "/launch", TASK)[0] == 403
    with town.as_(bob):
        assert [each.name for each in users.users()] == ["bob"]
    with town.as_(town.owner):
        users.update_user("bob", role="user", disabled=True)
    assert town.call(bob, "POST", "/status", {})[0] == 401
    with town.as_(town.owner):
        users.update_user("bob", disabled=False)
        town.own("bobs", "bob")
        with pytest.raises(ValueError, match="bobs"):
            users.delete_user("bob")
        del town.plane.known["bobs"]
        users.delete_user("bob")
    assert town.call(bob, "POST", "/status", {})[0] == 401


def test_workspaces_are_made_changed_and_removed(town: Town):
    lea, bob = town.move_in("lea"), town.move_in("bob")
    with town.as_(town.owner):
        workspaces.create_workspace("team", {"private": True, "admins": ["lea"], "allowed_clouds": ["local"]})
        with pytest.raises(ValueError, match="already"):
            workspaces.create_workspace("team")
        with pytest.raises(ValueError, match="default"):
            workspaces.delete_workspace("default")
    with town.as_(bob), pytest.raises(ValueError, match="no workspace"):
        workspaces.add_users("team", ["bob"])
    with town.as_(lea):
        workspaces.add_users("team", ["bob", "bob"])
        assert [each.name for each in workspaces.listing() if each.may_lead] == ["team"]
    with town.as_(bob):
        with pytest.raises(PermissionDeniedError, match="no admin"):
            workspaces.add_users("team", ["carl"])
        assert workspaces.get_user_workspace()["accessible"] == ["default", "team"]
        assert town.call(bob, "POST", "/check", {"workspace": "team"})[1]["result"]["team"]["aws"]["enabled"] is False
    with town.as_(lea):
        workspaces.remove_users("team", ["bob"])
    assert town.call(bob, "POST", "/check", {"workspace": "team"})[0] == 403
    town.own("last", "lea", "team")
    with town.as_(town.owner):
        with pytest.raises(ValueError, match="not empty: clusters last"):
            workspaces.delete_workspace("team")
        del town.plane.known["last"]
        workspaces.delete_workspace("team")
        assert list(requests.get(workspaces.workspaces())) == ["default"]


def test_workspaces_of_the_configuration_are_changed_there(state):
    town = Town(state, config={"workspaces": {"fixed": {"private": True, "allowed_users": ["anna"]}, "wide": None}})
    try:
        anna, bob = town.move_in("anna"), town.move_in("bob")
        with town.as_(anna):
            assert workspaces.get_user_workspace()["accessible"] == ["default", "fixed", "wide"]
        with town.as_(bob):
            assert workspaces.get_user_workspace()["accessible"] == ["default", "wide"]
        with town.as_(town.owner), pytest.raises(ValueError, match="configuration file"):
            workspaces.update_workspace("fixed", {})
    finally:
        town.served.stop()


def test_the_audit_log_says_who_did_what(town: Town):
    anna = town.move_in("anna")
    body = {
        "task": {"run": "echo hush", "secrets": {"KEY": "secret-1"}, "envs": {"A": "secret-2"}},
        "cluster_name": "a",
        "command": "sky launch --secret KEY=secret-3",
    }
    id = town.call(anna, "POST", "/launch", body)[1]["request_id"]
    town.call(anna, "POST", "/down", {"cluster_name": "nope", "purge": True})
    town.call("sky_wrong", "POST", "/down", {"cluster_name": "a"})
    town.call(anna, "POST", "/status", {})
    town.call(anna, "POST", "/launch", b"{not json")
    bad, refused, down, launch = town.audit()
    assert (launch["user"], launch["via"], launch["address"]) == ("anna", "token", "127.0.0.1")
    assert (launch["operation"], launch["target"], launch["outcome"]) == ("POST /launch", "cluster a", "done")
    assert (launch["request_id"], launch["workspace"]) == (id, "default")
    assert (down["target"], json.loads(down["detail"])) == ("cluster nope", {"purge": True})
    assert (refused["user"], refused["outcome"]) == ("", "refused: ApiServerAuthenticationError")
    assert (bad["outcome"], bad["target"]) == ("failed: ClientError", "")
    assert "secret" not in json.dumps(town.audit())
    assert "hush" not in json.dumps(town.audit())


def test_strangers_do_not_fill_the_audit_log(town: Town, monkeypatch: pytest.MonkeyPatch):
    from sky.server import audit

    monkeypatch.setattr(audit, "STRANGERS_PER_MINUTE", 3)
    for _ in range(8):
        assert town.call(None, "POST", "/down", {"cluster_name": "x"})[0] == 401
    # Two minutes at most were touched.
    assert 3 <= len(town.audit()) <= 6


def test_a_call_that_is_cut_short_has_left_its_line(town: Town):
    lines = asyncio.run(town.plane.audit.read(limit=10))
    assert lines == []
    from sky.core.model.audit import AuditLine
    from sky.server.audit import joined

    begun = AuditLine(1.0, "c", "ann", "token", "", "POST /down", "cluster a", seq=1)
    done = begun._replace(at=3.0, outcome="done", request_id="r", seq=2)
    cut = begun._replace(call="d", seq=3)
    (first, second) = joined([cut, done, begun], 10)
    assert (first.call, first.outcome) == ("d", "")
    assert (second.call, second.outcome, second.at, second.seq) == ("c", "done", 1.0, 1)


def test_the_socket_is_the_owners(served: Served):
    status, told, _ = served.call("GET", "/users/role")
    assert (status, told["name"], told["role"], told["via"]) == (200, owner(), "admin", "socket")
    served.call("POST", "/launch", TASK, X_Skypilot_User="alice")
    assert [row.user for row in served.plane.rows.values()] == ["alice"]


def test_reads_of_one_user_are_not_anothers(town: Town):
    tokens = [town.move_in(name) for name in ("anna", "bob")]
    ids = [town.call(token, "POST", "/status", {})[1]["request_id"] for token in tokens]
    for token, id in itertools.product(tokens, ids):
        own = tokens.index(token) == ids.index(id)
        assert (town.call(token, "GET", f"/api/get?request_id={id}&timeout=0")[0] == 200) is own

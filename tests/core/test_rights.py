"""Who may do what: every case of the pure rules."""

import pytest

from sky.core.errors import (
    InvalidSkyPilotConfigError,
    InvalidWorkspaceNameError,
    NoWorkspaceAccessError,
    WorkspaceAmbiguousError,
)
from sky.core.model.layers import for_launch
from sky.core.model.users import Caller, Role, Token, TokenKind, User, check_user_name, lesser, read_role
from sky.core.model.workspaces import Workspace, read_workspace
from sky.core.policy.rights import (
    Reach,
    Right,
    acts,
    choose,
    enters,
    infra_for,
    leads,
    looks,
    narrowed,
    permits,
    reach,
    sees,
    touches,
)

OPEN = Workspace("open")
TEAM = Workspace("team", private=True, allowed_users=("ann",), admins=("lea",))
SHOWN = Workspace("shown", private=True, allowed_users=("ann",), read_access="all")


def who(name: str = "ann", role: Role = Role.USER, workspaces: frozenset[str] | None = None) -> Caller:
    return Caller(name, role, workspaces=workspaces)


@pytest.mark.parametrize(
    ("role", "rights"),
    [(Role.VIEWER, "public read"), (Role.USER, "public read use"), (Role.ADMIN, "public read use admin")],
)
def test_a_role_has_its_rights_and_no_other(role, rights):
    assert {right for right in Right if permits(role, right)} == set(rights.split())
    assert not permits(role, None)


@pytest.mark.parametrize(
    ("caller", "workspace", "answers"),
    [
        # (sees, enters, leads)
        (who("ann"), OPEN, (True, True, False)),
        (who("ann"), TEAM, (True, True, False)),
        (who("bob"), TEAM, (False, False, False)),
        (who("lea"), TEAM, (True, True, True)),
        (who("bob"), SHOWN, (True, False, False)),
        (who("bob", Role.ADMIN), TEAM, (True, True, True)),
        (who("ann", Role.VIEWER), TEAM, (True, False, False)),
        (who("ann", Role.VIEWER), OPEN, (True, False, False)),
        (who("ann", workspaces=frozenset(["open"])), TEAM, (False, False, False)),
        (who("ann", workspaces=frozenset(["team"])), TEAM, (True, True, False)),
        (who("bob", workspaces=frozenset(["team"])), TEAM, (False, False, False)),
        (who("bob", workspaces=frozenset(["open"])), SHOWN, (False, False, False)),
    ],
)
def test_who_gets_into_a_workspace(caller, workspace, answers):
    assert (sees(caller, workspace), enters(caller, workspace), leads(caller, workspace)) == answers


def test_things_of_others_are_changed_by_those_who_lead():
    assert acts(who("ann"), "ann", TEAM)
    assert not acts(who("ann"), "bob", TEAM)
    assert acts(who("lea"), "ann", TEAM)
    assert acts(who("root", Role.ADMIN), "ann", TEAM)
    # Who was put out of a workspace acts on nothing in it any more, but may still read what was theirs.
    assert not acts(who("bob"), "bob", TEAM)
    assert looks(who("bob"), "bob", TEAM)
    assert not looks(who("ann"), "bob", OPEN)
    assert not looks(who("ann", workspaces=frozenset(["open"])), "ann", TEAM)
    assert not acts(who("ann", Role.VIEWER), "ann", TEAM)


def test_how_far_a_request_reaches():
    assert reach(who("root", Role.ADMIN), TEAM) is Reach.ALL
    assert reach(who("root", Role.ADMIN, frozenset(["team"])), TEAM) is Reach.WORKSPACE
    assert reach(who("lea"), TEAM) is Reach.WORKSPACE
    assert reach(who("ann"), TEAM) is Reach.OWN
    assert touches("all", "ann", "team", owner="bob", inside="open")
    assert touches("workspace", "ann", "team", owner="bob", inside="team")
    assert not touches("workspace", "ann", "team", owner="bob", inside="open")
    assert touches("own", "ann", "team", owner="ann", inside="team")
    assert not touches("own", "ann", "team", owner="ann", inside="open")
    assert not touches("own", "ann", "team", owner="bob", inside="team")


def test_a_token_gives_no_more_than_its_user_has():
    token = Token("1", TokenKind.ACCOUNT, "ann", "t", "h", 0.0, role=Role.ADMIN)
    assert narrowed(who(), User("ann", Role.USER), token).role is Role.USER
    assert narrowed(who(), User("ann", Role.VIEWER), token).role is Role.VIEWER
    bound = Token("1", TokenKind.ACCOUNT, "ann", "t", "h", 0.0, workspaces=("team",))
    caller = narrowed(who(), User("ann", Role.ADMIN), bound)
    # Bound to workspaces, it does not administer the server.
    assert (caller.role, caller.workspaces, caller.token) == (Role.USER, frozenset(["team"]), "1")


def test_the_workspace_is_chosen_in_order():
    spaces = {each.name: each for each in (OPEN, TEAM)}
    assert choose(who(), spaces, "team", "open") is TEAM
    assert choose(who(), spaces, None, "team") is TEAM
    assert choose(who("bob"), spaces, None, None) is OPEN
    # A preference that does not hold any more locks nobody out.
    assert choose(who("bob"), spaces, None, "team") is OPEN
    with pytest.raises(WorkspaceAmbiguousError, match="open, team"):
        choose(who(), spaces, None, None)
    for name in ("team", "nowhere"):
        with pytest.raises(NoWorkspaceAccessError, match=name):
            choose(who("bob"), spaces, name, None)
    with pytest.raises(NoWorkspaceAccessError, match="any workspace"):
        choose(who("bob"), {"team": TEAM}, None, None)
    assert choose(who("eve", Role.VIEWER), {"open": OPEN}, None, None, sees) is OPEN


def test_a_workspace_is_read_and_written_alike():
    config = {
        "private": True,
        "allowed_users": ["ann"],
        "admins": ["lea"],
        "read_access": "all",
        "allowed_clouds": ["AWS", "ssh"],
        "gcp": {"disabled": True, "project_id": "p"},
        "ssh": {"allowed_node_pools": ["rack"]},
    }
    made = read_workspace("team", config)
    assert read_workspace("team", made.to_config()) == made
    assert made.allowed_clouds == ("aws", "ssh")
    assert made.refuses("gcp", "r") == "workspace 'team' does not use gcp"
    assert made.refuses("aws", "us-east-1") is None
    assert "only rack" in (made.refuses("ssh", "attic") or "")
    assert made.refuses("ssh", "rack") is None
    assert made.disabled("lambda")
    assert read_workspace("default", None) == Workspace("default")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"private": "yes"}, r"workspaces\.team\.private"),
        ({"allowed_users": "ann"}, r"allowed_users"),
        ({"read_access": "none"}, "users, all"),
        ({"awz": {}}, "did you mean 'aws'"),
        ({"aws": [1]}, "a map"),
        ({"aws": {"disabled": "no"}}, r"aws\.disabled"),
        ({"allowed_clouds": ["nowhere"]}, "nowhere"),
    ],
)
def test_what_is_wrong_with_a_workspace_is_said_with_its_place(config, says):
    with pytest.raises(InvalidSkyPilotConfigError, match=says):
        read_workspace("team", config)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a/b", "a" * 65, "..", "a b"])
def test_names_that_workspaces_may_not_have(name):
    with pytest.raises(InvalidWorkspaceNameError):
        read_workspace(name, {})


def test_names_and_roles_of_users():
    assert check_user_name("ann.b+c@example.org") == "ann.b+c@example.org"
    for name in ("", "a b", "a/b", "x" * 129, "a\n"):
        with pytest.raises(ValueError, match="user name"):
            check_user_name(name)
    assert read_role("Admin") is Role.ADMIN
    with pytest.raises(ValueError, match="viewer, user, admin"):
        read_role("root")
    assert lesser(Role.ADMIN, None) is Role.ADMIN
    assert lesser(Role.ADMIN, Role.VIEWER) is Role.VIEWER


def test_the_servers_own_machine_is_for_admins():
    for reach_of in (Reach.OWN, Reach.WORKSPACE):
        assert infra_for(reach_of, OPEN).disabled("local")
        assert not infra_for(reach_of, OPEN).disabled("aws")
        assert not infra_for(reach_of, read_workspace("w", {"local": {"disabled": False}})).disabled("local")
        assert not infra_for(reach_of, read_workspace("w", {"allowed_clouds": ["local"]})).disabled("local")
    assert not infra_for(Reach.ALL, OPEN).disabled("local")
    assert infra_for(Reach.ALL, read_workspace("w", {"local": {"disabled": True}})).disabled("local")


@pytest.mark.parametrize(
    "dangerous",
    [
        {"aws": {"ssh_proxy_command": "x"}},
        {"aws": {"profile": "x", "remote_identity": "admin"}},
        {"gcp": {"endpoint": "http://evil", "project_id": "x", "remote_identity": "x"}},
        {"provision": {"python_archive": "/etc/shadow"}},
        {"slurm": {"submit_as_user": "root", "container_mounts": ["/"]}},
        {"new_cloud": {"anything": 1}},
    ],
    ids=str,
)
def test_what_users_may_not_lay_over_the_servers_settings(dangerous):
    """Commands that the server would run, files that it would read, accounts and roles: of client and of task."""
    for client, task in ((dangerous, {}), ({}, dangerous)):
        left = for_launch(client, task, everything=False)
        assert [said for said in left.values() if said] == []
    assert for_launch({"aws": {"labels": {"a": "b"}}}, {"gcp": {"vpc_name": "v"}}, everything=False) == {
        "aws": {"labels": {"a": "b"}},
        "gcp": {"vpc_name": "v"},
    }

"""`sky users`, `sky workspace`, `sky api login|logout|audit` as they are typed."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from sky.server.identity import owner

# The command and its server, as the tests of the other commands make them.
_spec = importlib.util.spec_from_file_location("sky_command", Path(__file__).with_name("test_against_server.py"))
_command = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_command)


@pytest.fixture(scope="module")
def sky():
    with _command.served("build") as command:
        yield command


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


def test_users_are_shown_and_changed(sky):
    sky.good("users", "create", "u.ann", "--role", "viewer")
    sky.good("users", "set-role", "u.ann", "admin")
    sky.good("users", "disable", "u.ann")
    table = sky.good("users", "list").stdout
    assert table.splitlines()[0].split() == ["NAME", "ROLE", "KIND", "MADE_BY", "CREATED"]
    assert ["u.ann", "admin", "disabled"] in [row[:3] for row in rows(table)]
    sky.good("users", "enable", "u.ann")
    told = json.loads(sky.good("users", "list", "-o", "json").stdout)
    assert {each["name"]: each["role"] for each in told}[owner()] == "admin"
    assert set(told[0]) == {"name", "id", "role", "kind", "made_by", "created_at", "disabled"}
    sky.good("users", "delete", "u.ann", "-y")
    done = sky("users", "delete", "u.ann", "-y")
    assert done.returncode == 1
    assert "no user" in done.stderr


def test_a_token_is_printed_once(sky):
    made = sky.good("users", "token", "create", "t-ci", "--expires-in-days", "2", "-w", "default", "--renewable")
    assert re.fullmatch(r"sky_[0-9a-f]{16}_[\w-]{43}\n", made.stdout)
    (told,) = [
        each
        for each in json.loads(sky.good("users", "token", "list", "-o", "json").stdout)
        if each["user_name"] == "sa-t-ci"
    ]
    assert (told["workspaces"], told["renewable"], told["role"]) == (["default"], True, "user")
    assert made.stdout.strip() not in sky.good("users", "token", "list").stdout
    turned = json.loads(sky.good("users", "token", "rotate", told["token_id"], "-o", "json").stdout)
    assert turned["user_name"] == "sa-t-ci"
    sky.good("users", "token", "delete", turned["token_id"])
    assert turned["token_id"] not in sky.good("users", "token", "list").stdout


def test_workspaces_are_made_and_used(sky, tmp_path):
    sky.good("workspace", "create", "w-team", "--user", "ann", "--admin", "lea", "--cloud", "local")
    listed = sky.good("workspace", "list").stdout
    assert listed.splitlines()[0].split() == ["NAME", "ACCESS", "YOURS", "USERS", "INFRA"]
    assert ["w-team", "private", "admin", "ann", "only", "local"] in rows(listed)
    sky.good("workspace", "use", "w-team")
    assert "Workspace: w-team" in sky.good("workspace", "info").stdout
    told = json.loads(sky.good("workspace", "info", "-o", "json").stdout)
    assert (told["workspace"], told["accessible"]) == ("w-team", ["default", "w-team"])
    sky.good("workspace", "use", "--clear")
    assert "none" in sky.good("workspace", "info").stdout
    sky.good("workspace", "add-user", "w-team", "bob")
    sky.good("workspace", "remove-user", "w-team", "ann")
    (team,) = [
        each for each in json.loads(sky.good("workspace", "list", "-o", "json").stdout) if each["name"] == "w-team"
    ]
    assert team["config"] == {
        "private": True, "allowed_users": ["bob"], "admins": ["lea"], "allowed_clouds": ["local"]
    }  # fmt: skip
    (tmp_path / "w.yaml").write_text("private: false\naws: {disabled: true}\n")
    sky.good("workspace", "update", "w-team", "-f", str(tmp_path / "w.yaml"))
    assert ["w-team", "open", "admin", "-", "not", "aws"] in rows(sky.good("workspace", "list").stdout)
    sky.good("workspace", "delete", "w-team", "-y")
    assert sky("workspace", "use", "w-team").returncode == 1
    assert sky("workspace", "use").returncode == 2
    assert sky("workspace", "create", "../x").returncode == 1


def test_the_audit_log_is_shown(sky):
    sky.good("users", "create", "a.audited")
    table = sky.good("api", "audit", "-l", "500").stdout
    assert table.splitlines()[0].split() == ["WHEN", "USER", "FROM", "CALL", "ON", "OUTCOME", "REQUEST"]
    assert re.search(rf"{owner()}\s+socket\s+POST /users/create", table)
    told = json.loads(sky.good("api", "audit", "--user", owner(), "--hours", "1", "-o", "json").stdout)
    assert told[0]["operation"] == "POST /users/create" or len(told) > 1
    assert set(told[0]) == {
        "seq", "at", "user", "via", "address", "operation", "target", "workspace", "request_id", "outcome", "detail",
        "token_id",
    }  # fmt: skip


def test_login_says_what_is_missing(sky):
    done = sky("api", "login")
    assert done.returncode == 1
    assert "sky api login -e" in done.stderr
    assert sky("api", "logout").returncode == 1
    done = sky("api", "login", "-e", "http://127.0.0.1:1", "--token", "-", answers="\n")
    assert done.returncode == 2


def test_a_table_of_users_comes_in_and_goes_out(sky, tmp_path):
    table = tmp_path / "users.csv"
    table.write_text("username,password,role\nu.tab,long enough,viewer\nu bad,x,user\n")
    done = sky("users", "import", str(table))
    assert (done.returncode, "1 users taken, 1 not" in done.stderr + done.stdout) == (1, True)
    out = sky.good("users", "export").stdout
    assert out.splitlines()[0] == "username,password,role"
    (line,) = [each for each in out.splitlines() if each.startswith("u.tab,")]
    assert "$scrypt$" in line
    assert "long enough" not in out
    sky.good("users", "delete", "u.tab", "-y")
    table.write_text(out)
    sky.good("users", "import", str(table))
    assert "u.tab" in sky.good("users", "list").stdout

"""Several people on one server, with the real command: logins, whose is whose, workspaces, the audit log."""

import socket
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture
def people(sky):
    """The owner of a server, and two who come over TCP with tokens of theirs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    sky.good("api", "start", "--host", "127.0.0.1", "--port", port)
    with tempfile.TemporaryDirectory(prefix="sky-guests-") as folder:
        guests = []
        for name in ("ann", "bob"):
            guest = type(sky)(Path(folder) / name)
            guest.root.mkdir()
            token = sky.good("users", "token", "create", name).stdout
            guest.good("api", "login", "-e", f"http://127.0.0.1:{port}", "--token", "-", answers=token)
            guests.append(guest)
        # Guests get nothing on the server's own machine, unless the owner says so.
        assert "disabled" in guests[0]("check", "local").stdout
        (sky.root / "default.yaml").write_text("local: {disabled: false}\n")
        sky.good("workspace", "update", "default", "-f", "default.yaml")
        yield sky, guests[0], guests[1]
        sky("down", "-u", "-y")


def test_two_people_and_an_owner(people):
    owner, ann, bob = people
    assert "hi from ann" in ann.good("launch", "-y", "-c", "anns", "--infra", "local", "echo hi from ann").stdout
    assert "anns" not in bob.good("status").stdout
    assert "sa-ann" in bob.good("status", "-u").stdout
    assert "hi from ann" in bob.good("logs", "anns", "1").stdout
    for words in (["down", "-y", "anns"], ["exec", "anns", "true"], ["autostop", "-y", "anns"], ["ssh", "anns"]):
        refused = bob(*words)
        assert refused.returncode != 0, words
    assert "sa-ann's" in bob("down", "-y", "anns").stderr
    assert [each["name"] for each in ann.json("status")] == ["anns"]
    assert bob.json("api", "status", "-a") == []
    owner.good("down", "-y", "anns")
    told = owner.json("api", "audit")
    assert [each["user"] for each in told if each["operation"] == "POST /launch"] == ["sa-ann"]
    assert {each["outcome"] for each in told if each["user"] == "sa-bob" and each["via"] == "token"} == {
        "failed: PermissionDeniedError"
    }
    ann.good("api", "logout")
    assert "login" not in {path.stem for path in ann.state.iterdir()}


def test_a_private_workspace_with_infra_of_its_own(people):
    owner, ann, bob = people
    owner.good("workspace", "create", "team", "--user", "sa-ann", "--cloud", "aws")
    ann.good("workspace", "use", "team")
    refused = ann("launch", "-y", "-c", "x", "--infra", "local", "true")
    assert refused.returncode == 1
    assert "does not use local" in refused.stderr or "local" in refused.stderr
    (ann.root / "team.yaml").write_text("private: true\nallowed_users: [sa-ann]\nlocal: {disabled: false}\n")
    assert ann("workspace", "update", "team", "-f", "team.yaml").returncode == 1, "that is for admins"
    owner.good("workspace", "update", "team", "-f", str(ann.root / "team.yaml"))
    ann.good("launch", "-y", "-c", "x", "--infra", "local", "true")
    assert [each["workspace"] for each in ann.json("status")] == ["team"]
    assert bob.json("status", "-u") == []
    assert "not found" in bob.good("status", "x").stdout
    assert bob("launch", "-y", "-c", "x", "--infra", "local", "true").returncode == 1
    assert owner("workspace", "delete", "-y", "team").returncode == 1, "it is not empty"
    ann.good("down", "-y", "x")
    owner.good("workspace", "delete", "-y", "team")

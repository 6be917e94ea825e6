"""The SSH configuration of clusters: what is written, what is refused, and what of the user's own is left alone."""

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from sky.core.errors import ApiServerConnectionError, InvalidClusterNameError
from sky.sdk import ssh_files, ssh_seen
from sky.sdk.ssh_files import INCLUDE, Unwritable, refresh, texts, write
from sky.sdk.transport import Endpoint, local_endpoint, using_endpoint

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def entrance(**more: Any) -> dict[str, Any]:
    return {
        "host": "10.0.0.1", "port": 22, "user": "ada", "identity": "/keys/id 100%", "known_as": "[10.0.0.1]:22",
        "host_key": "", "known_hosts": "/s/keys/known_nodes", "proxy_command": "", **more,
    }  # fmt: skip


def node(rank: int = 0, *entrances: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "rank": rank, "kind": "ssh", "entrances": list(entrances or [entrance()]), "words": [], "home": "", "host": "",
        "problem": "", **more,
    }  # fmt: skip


def cluster(name: str = "c", *nodes: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "cluster_hash": "h", "nodes": list(nodes or [node()])}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def root(home: Path) -> Path:
    return home / ".sky" / "generated"


def settings(file: Path, host: str) -> dict[str, str]:
    """What `ssh` itself makes of a file."""
    done = subprocess.run(["ssh", "-G", "-F", str(file), host], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_ssh_reads_what_was_meant(home: Path) -> None:
    gate = entrance(host="gate.example.org", port=2222, known_as="[gate.example.org]:2222")
    made = cluster("c", node(0, entrance(host_key=KEY, known_hosts="")), node(1, gate, entrance(host="fe80::1%eth0")))
    file = write(made, root(home), home / "s")
    assert (file, file.stat().st_mode & 0o777) == (root(home) / "ssh" / "c", 0o600)
    head = settings(file, "c")
    assert (head["hostname"], head["port"], head["user"]) == ("10.0.0.1", "22", "ada")
    assert (head["stricthostkeychecking"], head["identitiesonly"], head["hostkeyalias"]) == ("true", "yes", "c")
    known = root(home) / "known_hosts" / "c"
    assert head["userknownhostsfile"] == str(known) and known.read_text() == f"c {KEY}\n"
    assert head["identityfile"] in ("/keys/id 100%%", "/keys/id 100%")
    second, jump = settings(file, "c-worker1"), settings(file, "c-worker1-jump1")
    assert second["proxyjump"] == "c-worker1-jump1" and second["hostname"] == "fe80::1%eth0"
    assert (second["hostkeyalias"], second["userknownhostsfile"]) == ("[10.0.0.1]:22", "/s/keys/known_nodes")
    assert (jump["hostname"], jump["port"], jump["hostkeyalias"]) == (gate["host"], "2222", gate["known_as"])


def test_a_proxy_command_is_passed_on_as_it_is(home: Path) -> None:
    proxied = entrance(proxy_command="nc -x 'a b' 100%")
    file = write(cluster("c", node(0, proxied)), root(home), home / "s")
    assert "  ProxyCommand nc -x 'a b' 100%%\n" in file.read_text()


def test_the_login_node_of_a_batch_system_is_there_once(home: Path) -> None:
    text, _ = texts(cluster("c", node(0, kind="slurm"), node(1, kind="slurm")), home / "known")
    assert [line for line in text.splitlines() if line.startswith("Host ")] == ["Host c-login"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"host": "a\n  ProxyCommand evil"}, "is no host"),
        ({"host": "-oProxyCommand=evil x"}, "is no host"),
        ({"user": "ada\nHost *"}, "is no user"),
        ({"host_key": KEY + "\n* " + KEY}, "is no host key"),
        ({"known_as": "x y"}, "is no name of a host key"),
        ({"identity": '/a"b'}, "cannot stand in an SSH configuration"),
        ({"identity": "/a/${HOME}"}, "cannot stand in an SSH configuration"),
        ({"identity": "/a\n  ProxyCommand evil"}, "cannot stand in a line"),
        ({"proxy_command": "nc\nHost *"}, "cannot stand in a line"),
    ],
)
def test_nothing_else_gets_into_the_file(home: Path, changes: dict[str, str], what: str) -> None:
    with pytest.raises(Unwritable, match=what):
        write(cluster("c", node(0, entrance(**changes))), root(home), home / "s")
    assert not root(home).exists()


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "a b", "a\nb", "*", ""])
def test_only_names_of_clusters_name_files(home: Path, name: str) -> None:
    with pytest.raises(InvalidClusterNameError):
        write(cluster(name), root(home), home / "s")
    assert not root(home).exists()


def test_one_that_cannot_be_written_hides_no_other(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = cluster("bad", node(0, entrance(host="a b")))
    refresh(str(root(home)), home / "s", lambda: [bad, cluster("good")], "seen")
    assert [path.name for path in (root(home) / "ssh").iterdir()] == ["good"]
    assert "'bad': 'a b' is no host" in capsys.readouterr().err
    assert (root(home) / ".seen").read_text() == "seen"


def test_the_users_own_file_gets_one_line_once(home: Path) -> None:
    config = home / ".ssh" / "config"

    def again() -> bytes:
        refresh(str(root(home)), home / "s", lambda: [cluster()])
        return config.read_bytes()

    assert again() == f"{INCLUDE}\n".encode()
    assert (config.stat().st_mode & 0o777, config.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    own = b"# mine \xff\r\nHost x\n  User y"
    config.write_bytes(own)
    config.chmod(0o644)
    assert again() == f"{INCLUDE}\n\n".encode() + own
    before = config.stat()
    assert again() == f"{INCLUDE}\n\n".encode() + own
    after = config.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_mode & 0o777) == (before.st_ino, before.st_mtime_ns, 0o644)
    config.write_bytes(own + b"\n  include  ~/.sky/generated/ssh/*\n")
    assert again().startswith(own), "the user has moved it"
    assert sorted(path.name for path in config.parent.iterdir()) == ["config"]


@pytest.mark.parametrize("how", ["link", "read-only"])
def test_a_file_that_is_not_ours_to_change_is_left_alone(
    home: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / ".ssh").mkdir()
    config, other = home / ".ssh" / "config", home / "dotfiles"
    other.write_text("Host x\n")
    if how == "link":
        config.symlink_to(other)
    else:
        config.write_text("Host x\n")
        config.chmod(0o400)
    for told in (1, 0):
        refresh(str(root(home)), home / "s", lambda: [cluster()])
        assert capsys.readouterr().err.count(f"put this line at its top: {INCLUDE}") == told, "said once"
    assert config.read_text() == "Host x\n" and config.is_symlink() == (how == "link")
    assert (root(home) / "ssh" / "c").exists()


def test_files_of_clusters_that_are_gone_go_and_others_stay(home: Path) -> None:
    state, other = home / "s", home / "t"
    refresh(str(root(home)), state, lambda: [cluster("a"), cluster("b")])
    refresh(str(root(home)), other, lambda: [cluster("c")])
    (root(home) / "ssh" / "mine").write_text("Host mine\n")
    local = {**node(), "kind": "local", "entrances": []}
    refresh(str(root(home)), state, lambda: [cluster("a"), cluster("l", local)])
    assert sorted(path.name for path in (root(home) / "ssh").iterdir()) == ["a", "c", "mine"]
    assert sorted(path.name for path in (root(home) / "known_hosts").iterdir()) == ["a", "c"]


def test_without_machines_elsewhere_nothing_is_made(home: Path) -> None:
    local = {**node(), "kind": "local", "entrances": []}
    refresh(str(root(home)), home / "s", lambda: [cluster("l", local)])
    assert [path.name for path in home.rglob("*") if path.is_file()] == [".lock"]


def test_a_server_that_does_not_answer_fails_nobody(home: Path) -> None:
    def ask() -> list[dict[str, Any]]:
        raise ApiServerConnectionError("gone")

    refresh(str(root(home)), home / "s", ask, "seen")
    assert [path.name for path in home.rglob("*") if path.is_file()] == [".lock"]


def test_of_two_commands_at_once_the_later_answer_counts(home: Path) -> None:
    there = [cluster("a")]
    asking, go_on = threading.Event(), threading.Event()

    def slow() -> list[dict[str, Any]]:
        told = list(there)
        asking.set()
        go_on.wait(20)
        return told

    first = threading.Thread(target=lambda: refresh(str(root(home)), home / "s", slow))
    second = threading.Thread(target=lambda: refresh(str(root(home)), home / "s", lambda: list(there)))
    first.start()
    assert asking.wait(20)
    there.append(cluster("b"))
    second.start()
    go_on.set()
    first.join()
    second.join()
    assert sorted(path.name for path in (root(home) / "ssh").iterdir()) == ["a", "b"]


class Asked:
    """Counts how often the server is asked."""

    def __init__(self, *clusters: dict[str, Any]) -> None:
        self.clusters, self.times = list(clusters), 0

    def __call__(self) -> list[dict[str, Any]]:
        self.times += 1
        return self.clusters


def record(**more: Any) -> dict[str, Any]:
    handle = {"stable_internal_external_ips": [("10.0.0.1", "1.2.3.4")]}
    return {"name": "c", "cluster_hash": "h", "status": "UP", "status_updated_at": 5, "cloud": "aws", "handle": handle,
            **more}  # fmt: skip


def test_a_status_that_tells_nothing_new_asks_nothing(home: Path) -> None:
    asked = Asked(cluster())
    with using_endpoint(local_endpoint(home / "s")):
        for told, times in (
            ([record(name="l", cloud="local"), record(name="l", cloud=None)], 0),
            ([record()], 1),
            ([record(), record(name="l", cloud="local")], 1),
            ([record(status_updated_at=6)], 2),
            ([record(status_updated_at=6, handle={"stable_internal_external_ips": [("10.0.0.1", "9.9.9.9")]})], 3),
            ([], 4),
            ([], 4),
        ):
            ssh_seen.saw(json.loads(json.dumps(told)), asked)
            assert asked.times == times, told


def test_a_server_elsewhere_has_no_keys_here(home: Path) -> None:
    asked = Asked(cluster())
    elsewhere = Endpoint(local_endpoint(home / "s").address)
    with using_endpoint(elsewhere):
        ssh_seen.saw([record()], asked)
        ssh_seen.changed("launch", "c", "aws", asked)
    assert asked.times == 0 and list(home.iterdir()) == []


def test_requests_that_make_or_end_clusters_count(home: Path) -> None:
    asked = Asked(cluster())
    with using_endpoint(local_endpoint(home / "s")):
        ssh_seen.changed("launch", "l", "local", asked)
        ssh_seen.changed("down", "c", None, asked)
        assert asked.times == 0, "there is no file of it"
        ssh_seen.changed("launch", "c", "aws", asked)
        asked.clusters = []
        ssh_seen.changed("down", "c", None, asked)
    assert asked.times == 2 and list((root(home) / "ssh").iterdir()) == []


def test_names_of_hosts() -> None:
    assert [ssh_files.host_of("c", rank) for rank in (0, 1)] == ["c", "c-worker1"]

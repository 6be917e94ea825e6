"""The way onto nodes as it is told to people; followed for real, with OpenSSH, over a jump host too."""

import subprocess
from pathlib import Path

import pytest
from small_plane import cluster

from sky.core.model.clusters import Instance, InstanceState, Phase
from sky.remote.keys import KeyRing
from sky.remote.known_nodes import KnownNodes
from sky.remote.ways import way_of
from sky.sdk.ssh_files import write
from sky.server.entrances import cluster_nodes
from sky.wire.codec import plain


def made(*reaches, phase=Phase.UP):
    nodes = tuple(
        Instance(f"id-c-{rank}", "id-c", rank, InstanceState.RUNNING, "10.0.0.9", reach)
        for rank, reach in enumerate(reaches)
    )
    return cluster("c", instances=nodes, phase=phase)


SSH = {"kind": "ssh", "host": "10.0.0.1", "port": "", "user": "ada", "host_key": "ssh-ed25519 AAAA c@h"}


def told(tmp_path, *reaches):
    (found,) = plain(cluster_nodes([made(*reaches)], KeyRing(tmp_path / "keys")))
    return found["nodes"]


def test_keys_and_names_are_those_of_the_server(tmp_path):
    own, pool = told(
        tmp_path, SSH, {**SSH, "host_key": "", "identity": "~/key", "home": ".sky/nodes/x", "port": "2200"}
    )
    (entrance,) = own["entrances"]
    assert (entrance["host_key"], entrance["known_hosts"], entrance["port"]) == ("ssh-ed25519 AAAA", "", 22)
    assert "PRIVATE KEY" in Path(entrance["identity"]).read_text()
    (entrance,) = pool["entrances"]
    assert (entrance["known_as"], entrance["known_hosts"]) == (
        "[10.0.0.1]:2200",
        str(tmp_path / "keys" / "known_nodes"),
    )
    assert entrance["identity"] == str(Path("~/key").expanduser()) and pool["home"] == ".sky/nodes/x"
    assert "PRIVATE" not in str(own) and "secret" not in str(pool)


def test_gates_come_first_and_a_proxy_command_is_filled(tmp_path):
    jumped, proxied = told(
        tmp_path, {**SSH, "jump": "bob@gate:2222,inner"}, {**SSH, "proxy_command": "nc -X %h %p 100%%"}
    )
    assert [(each["user"], each["host"], each["port"]) for each in jumped["entrances"]] == [
        ("bob", "gate", 2222), ("ada", "inner", 22), ("ada", "10.0.0.1", 22),
    ]  # fmt: skip
    assert jumped["entrances"][0]["known_as"] == "[gate]:2222"
    assert proxied["entrances"][0]["proxy_command"] == "nc -X 10.0.0.1 22 100%"


def test_other_ways(tmp_path):
    local, slurm, odd, wrong = told(
        tmp_path,
        {"kind": "local", "home": "/h", "socket": "/s", "keeper": "1"},
        {**SSH, "kind": "slurm", "job": "12", "node": "n1", "home": ".sky/x"},
        {"kind": "pigeon"},
        {**SSH, "host": "a b"},
    )
    assert (local["entrances"], local["words"], local["home"]) == ([], ["env", "HOME=/h", "SKY_NODE_ID=id-c-0"], "/h")
    assert {"--jobid=12", "--nodelist=n1", "--overlap"} <= set(slurm["words"]) and slurm["host"] == "n1"
    assert "pigeon" in odd["problem"] and "no host name" in wrong["problem"]


@pytest.mark.parametrize(("phase", "count"), [(Phase.UP, 1), (Phase.DEGRADED, 1), (Phase.STOPPED, 0)])
def test_only_what_is_up_is_told(tmp_path, phase, count):
    assert len(cluster_nodes([made(SSH, phase=phase)], KeyRing(tmp_path))) == count


def test_the_call(served):
    nodes = (Instance("id-one-0", "id-one", 0, InstanceState.RUNNING, "10.0.0.9", SSH),)
    served.do(lambda: served.plane.known.update(one=cluster("one", instances=nodes)))
    status, answer, _ = served.call("POST", "/nodes", {"cluster_names": ["one"]})
    assert status == 200 and [each["name"] for each in answer["result"]] == ["one"]
    assert answer["result"][0]["nodes"][0]["entrances"][0]["host"] == "10.0.0.1"
    status, answer, _ = served.call("POST", "/nodes", {"cluster_names": "one"})
    assert status == 400


def test_openssh_follows_it_over_a_jump_host_and_meets_the_right_keys(tmp_path, lab):
    gate, inner = lab.create(2)
    keys = KeyRing(tmp_path / "keys")
    login = {"user": inner.user, "identity": gate.key}
    # The keys of both are told by the bed: one is on record with the node, the gate's is pinned.
    reach = {"kind": "ssh", "host": inner.ip, "port": "22", **login, "host_key": inner.host_key}
    jump = f"{gate.user}@{gate.ip}:22"
    pins = KnownNodes(keys.known_nodes())
    pins.pin(f"[{gate.ip}]:22", " ".join(gate.host_key.split()[:2]))
    behind = {**reach, "jump": jump, "host_key": ""}
    pins.pin(way_of(behind).known_as, " ".join(inner.host_key.split()[:2]))
    (found,) = plain(cluster_nodes([made({**reach, "jump": jump}, reach, behind)], keys))
    file = write(found, tmp_path / "generated", tmp_path)

    def ssh(host, *options):
        words = ["ssh", "-F", str(file), "-o", "BatchMode=yes", *options, host, "hostname; echo $SSH_CONNECTION"]
        return subprocess.run(words, capture_output=True, text=True, timeout=60)

    by_gate, direct, pinned = ssh("c"), ssh("c-worker1"), ssh("c-worker2")
    assert pinned.returncode == 0 and pinned.stdout.splitlines()[1].split()[0] == gate.ip, pinned.stderr
    assert by_gate.returncode == 0, by_gate.stderr
    name, connection = by_gate.stdout.splitlines()
    assert f"{name}\n" == inner.run("hostname").stdout and connection.split()[0] == gate.ip
    assert direct.stdout.splitlines()[0] == name and gate.ip not in direct.stdout
    for node in found["nodes"]:
        for entrance in node["entrances"]:
            if entrance["host_key"]:
                entrance["host_key"] = " ".join(gate.host_key.split()[:2])
    assert write(found, tmp_path / "generated", tmp_path) == file
    for host in ("c", "c-worker1"):
        refused = ssh(host)
        assert refused.returncode == 255 and "HOST IDENTIFICATION HAS CHANGED" in refused.stderr

"""Nodes by SSH: who is let in and who is believed, which way it goes, and what is noticed when it ends."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import importlib.util
import lzma
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from sky.agent.connection import ConnectionLost
from sky.core.errors import AgentUnreachable, NotSupportedError
from sky.remote.bootstrap import ensure_agent
from sky.remote.errors import AgentNotStarted, LinkDown, LoginRefused, NoPython
from sky.remote.interpreter import Interpreters, pack
from sky.remote.keys import KeyRing
from sky.remote.sync import sync_content
from sky.server.fleet import NodeFleet, node_config

_FOUND = importlib.util.spec_from_file_location("ssh_nodes", Path(__file__).with_name("ssh_nodes.py"))
nodes = importlib.util.module_from_spec(_FOUND)
_FOUND.loader.exec_module(nodes)
reach_of, cluster_of, connections, until, output, bare_host = (
    nodes.reach_of, nodes.cluster_of, nodes.connections, nodes.until, nodes.output, nodes.bare_host
)  # fmt: skip


@pytest.fixture(scope="module")
def hosts(shared_lab):
    """Two hosts of this file, whose sshd and agents tests leave as they were."""
    return shared_lab.create("a", "b")


@pytest.fixture
def host(hosts):
    return hosts[0]


@pytest.fixture
def keys(tmp_path):
    return KeyRing(tmp_path / "keys")


@pytest.fixture
async def fleet(keys):
    """A fleet that knows one password."""
    made = NodeFleet(None, keys, lambda cloud, name: "open sesame" if name == "word" else None)
    yield made
    if made._links is not None:
        await made._links.close()


@pytest.fixture
async def up(fleet, host, request):
    """A cluster of one node with a home of its own, for the test alone."""
    cluster = cluster_of(reach_of(host, home=f".sky-nodes/{request.node.name[:30]}"), id=request.node.name[:40])
    await fleet.bring_up(cluster)
    yield cluster
    await fleet.quiesce(cluster)


def way(fleet, cluster):
    return fleet.channel(cluster, cluster.instances[0])


async def test_an_agent_comes_up_serves_and_is_found_again(fleet, host):
    cluster = cluster_of(reach_of(host))
    await fleet.bring_up(cluster)
    said = await output(fleet, cluster, "id -un; pwd; echo $HOME", "first")
    assert [line.split(b") ")[-1] for line in said.splitlines()] == [b"sky", b"/home/sky", b"/home/sky"]
    before = await fleet._clients["c-0"].hello()
    await fleet.forget("c")
    await fleet.bring_up(cluster)
    assert (await fleet._clients["c-0"].hello())["pid"] == before["pid"]
    listed = host.run("ls -ld ~/.sky/agent ~/.sky/agent/node.json ~/.sky/agent/agent.sock; ps ax").stdout
    assert "drwx------" in listed and "-rw-------" in listed and "srw-------" in listed
    assert "cluster_name" not in listed, "the configuration is in no list of processes"
    await fleet.quiesce(cluster)


@pytest.fixture
def asked(monkeypatch):
    """What is opened over real connections, in order: commands, and streams to the agent's socket."""
    seen = []

    def counted(kind, name):
        real = getattr(asyncssh.SSHClientConnection, name)

        def opened(self, *args, **options):
            seen.append(kind)
            return real(self, *args, **options)

        monkeypatch.setattr(asyncssh.SSHClientConnection, name, opened)

    counted("command", "create_session")
    counted("agent", "create_unix_connection")
    return seen


async def test_a_fresh_node_takes_one_command_and_a_known_one_none(fleet, lab, asked):
    cluster = cluster_of(*(reach_of(host) for host in lab.create(2)), id="counted")
    await fleet.bring_up(cluster)
    assert asked == ["command"] * 2, "for each node, and no look, no question and no connection besides"
    head = await fleet.head(cluster)
    await head.ping()
    pid = (await fleet._clients["counted-0"].hello())["pid"]
    assert asked == ["command", "command", "agent"]
    asked.clear()
    await fleet.bring_up(cluster)
    assert asked == ["command"] * 2, "an agent that is there without our knowledge is left alone"
    known = replace(cluster, ever_up=True)
    asked.clear()
    await fleet.bring_up(known)
    assert asked == ["agent"] * 2, "to a known one nothing has to be sent"
    assert (await fleet._clients["counted-0"].hello())["pid"] == pid
    await fleet.quiesce(known)

    async def gone():
        try:
            await (await way(fleet, known).open_agent()).close()
        except ConnectionRefusedError:
            return True
        return False

    await until(gone)
    asked.clear()
    first = replace(known, num_nodes=1, instances=known.instances[:1])
    await fleet.bring_up(first)
    assert asked == ["agent", "command"], "it was not there any more"
    await fleet.quiesce(first)


async def test_a_node_without_python_takes_two_commands(fleet, lab, asked):
    host = bare_host(lab)
    cluster = cluster_of(reach_of(host), id="two")
    await fleet.bring_up(cluster)
    assert asked == ["command"] * 2, "one finds out, the other brings Python and agent"
    await (await fleet.head(cluster)).ping()
    assert asked == ["command", "command", "agent"]
    assert host.run("ls ~/.sky/python").stdout.split() == ["bin", "lib", "own"], "and leaves nothing else there"
    assert host.run("ls -d ~/.sky/python.new.*").stdout == ""
    await fleet.quiesce(cluster)


async def test_why_an_agent_did_not_come_up_is_told_with_what_it_said(fleet, host, asked):
    cluster = cluster_of(reach_of(host, home=".sky-nodes/wrong"), id="wrong")
    channel = way(fleet, cluster)
    config = {**node_config(cluster, cluster.instances[0]), "cpus": "many"}
    with pytest.raises(AgentNotStarted, match=r"node 0 .* did not come up\. It said: .*cpus"):
        await ensure_agent(channel, config, timeout=20.0, known=False)
    assert asked == ["command"]
    host.run("mkdir -p ~/.sky-nodes; : >~/.sky-nodes/inway")
    cluster = cluster_of(reach_of(host, home=".sky-nodes/inway"), id="inway")
    with pytest.raises(AgentUnreachable, match=r"cannot install the agent on node 0 .*Not a directory: /home/sky/"):
        await fleet.bring_up(cluster)


async def test_nodes_that_share_a_login_have_homes_of_their_own(fleet, host):
    cluster = cluster_of(*(reach_of(host, home=f".sky-nodes/p-{each}") for each in range(2)), id="p")
    single = [cluster_of(node.reach, id=f"p{node.rank}") for node in cluster.instances]
    await asyncio.gather(*(fleet.bring_up(each) for each in single))
    for rank, each in enumerate(single):
        assert f"/home/sky/.sky-nodes/p-{rank}\n".encode() in await output(fleet, each, "cd; pwd", "k")
        await fleet.quiesce(each)


async def test_a_long_home_has_its_socket_elsewhere(fleet, host):
    cluster = cluster_of(reach_of(host, home="/".join(["long" * 15] * 2)), id="long")
    await fleet.bring_up(cluster)
    place = await way(fleet, cluster).place()
    assert place.socket.startswith("/tmp/.sky-") and len(place.home) > 120
    await fleet.quiesce(cluster)


# --- whom to believe ---------------------------------------------------------------------------------------------


async def test_another_key_than_the_one_it_was_made_with_is_refused(fleet, hosts):
    cluster = cluster_of(reach_of(hosts[0], host_key=hosts[1].host_key))
    with pytest.raises(LoginRefused, match="something else answers at this address"):
        await way(fleet, cluster).ready(5.0)


async def test_the_first_key_is_pinned_and_a_changed_one_refused(fleet, hosts, keys):
    cluster = cluster_of(reach_of(hosts[0], host_key=""))
    await way(fleet, cluster).ready(5.0)
    name = f"[{hosts[0].ip}]:22"
    assert keys.known_nodes().read_text() == f"{name} {hosts[0].host_key}\n"
    assert keys.known_nodes().stat().st_mode & 0o777 == 0o600
    await fleet.forget("c")
    await way(fleet, cluster).ready(5.0)
    await fleet.forget("c")
    keys.known_nodes().write_text(f"{name} {hosts[1].host_key}\n")
    with pytest.raises(LoginRefused, match=r"has changed.*remove the line that begins with \[.*known_nodes"):
        await way(fleet, cluster).ready(5.0)
    fleet._links.known.forget(name)
    await way(fleet, cluster).ready(5.0)
    assert fleet._links.known.key(name) == hosts[0].host_key


# --- how to be let in --------------------------------------------------------------------------------------------


async def test_the_installations_own_key_gets_in(fleet, host, keys):
    shown = keys.identity().with_suffix(".pub").read_text()
    host.exec("sh", "-c", f"echo '{shown.strip()}' >>/home/sky/.ssh/authorized_keys")
    done = await way(fleet, cluster_of(reach_of(host, identity=""))).run(["echo", "in"])
    assert done == (0, b"in\n", b"")


async def test_a_login_that_fails_is_told_at_once(fleet, host):
    began = time.monotonic()
    with pytest.raises(LoginRefused, match=rf"sky@{host.ip}:22 let nobody in with this installation's key"):
        await way(fleet, cluster_of(reach_of(host, identity=""))).ready(60.0)
    assert time.monotonic() - began < 30
    with pytest.raises(AgentUnreachable, match=r"node 0 .*authentication failed"):
        await fleet.bring_up(cluster_of(reach_of(host, identity="")))


async def test_keys_that_cannot_be_used_say_why(fleet, host, tmp_path):
    locked = tmp_path / "locked"
    await asyncio.to_thread(
        subprocess.run, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True
    )
    (tmp_path / "none").write_text("no key")
    for name, words in (("locked", "protected by a passphrase"), ("none", "cannot be used"), ("x", "cannot be read")):
        with pytest.raises(LoginRefused, match=words):
            await way(fleet, cluster_of(reach_of(host, identity=str(tmp_path / name)))).ready(5.0)


async def test_a_password_gets_in_and_stays_out_of_messages(fleet, host):
    host.exec("sh", "-c", "echo 'sky:open sesame' | chpasswd")
    host.configure_sshd("PasswordAuthentication yes")
    cluster = cluster_of(reach_of(host, identity="", secret="word"))
    await until(lambda: _gets_in(fleet, cluster))
    host.exec("sh", "-c", "echo 'sky:another' | chpasswd")
    await fleet.forget("c")
    with pytest.raises(LoginRefused, match="and the password") as caught:
        await way(fleet, cluster).ready(5.0)
    assert "sesame" not in str(caught.value) + repr(caught.value.__cause__)


async def _gets_in(fleet, cluster):
    try:
        await way(fleet, cluster).ready(5.0)
    except LoginRefused:
        return False
    return True


async def test_a_new_machine_may_refuse_for_a_while(fleet, lab):
    (host,) = lab.create(1)
    host.exec("sh", "-c", "mv /home/sky/.ssh /home/sky/later")

    async def let_in():
        await asyncio.sleep(0.5)
        host.exec("sh", "-c", "mv /home/sky/later /home/sky/.ssh")

    opening = asyncio.create_task(let_in())
    await way(fleet, cluster_of(reach_of(host))).ready(30.0, new=True)
    await opening


# --- which way it goes -------------------------------------------------------------------------------------------


async def test_jump_hosts_are_passed_through(fleet, hosts, keys):
    gate, host = hosts
    cluster = cluster_of(reach_of(host, host_key="", jump=f"sky@{gate.ip}:22"))
    done = await way(fleet, cluster).run(["/bin/sh", "-c", "echo $SSH_CONNECTION"])
    assert done.stdout.split()[0] == gate.ip.encode()
    known = keys.known_nodes().read_text()
    assert f"[{gate.ip}]:22 {gate.host_key}" in known and f"[{host.ip}]:22@_{gate.ip}" not in known
    assert len(known.splitlines()) == 2
    with pytest.raises(LinkDown, match="by way of"):
        await way(fleet, cluster_of(reach_of(host, port="23", jump=f"sky@{gate.ip}"), id="d")).run(["true"])
    await fleet.forget("c")
    await fleet.forget("d")
    assert fleet._links._links == {}, "the gate's connection goes with the last that went through it"


async def test_a_proxy_command_is_the_users_own(fleet, hosts):
    gate, host = hosts
    proxy = f"exec ssh -F {gate.ssh_config} -W %h:%p a"
    cluster = cluster_of(reach_of(host, proxy_command=proxy))
    done = await way(fleet, cluster).run(["/bin/sh", "-c", "echo $SSH_CONNECTION"])
    assert done.stdout.split()[0] == gate.ip.encode()
    with pytest.raises(AgentUnreachable, match="proxy_command knows"):
        await way(fleet, cluster_of(reach_of(host, proxy_command="nc %x"), id="d")).ready(1.0)


async def test_without_forwarding_a_relay_stands_in(fleet, hosts):
    host = hosts[1]
    host.configure_sshd("AllowStreamLocalForwarding no")
    cluster = cluster_of(reach_of(host, home=".sky-nodes/relay"), id="relay")
    await fleet.bring_up(cluster)
    assert b"through\n" in await output(fleet, cluster, "echo through", "k")
    assert way(fleet, cluster).link.forwards is False
    blob = b"x" * (7 << 20)
    rc, said = await fleet._clients["relay-0"].run("cat /dev/zero | head -c 900000 | wc -c")
    assert (rc, said.strip()) == (0, b"900000")
    with pytest.raises(Exception, match="hashes and sizes"):
        args = {"root": "workdir", "dest": "~/x", "delete": False, "more": False}
        reply, _ = await fleet._clients["relay-0"].call("sync_begin", args, b"[]")
        await fleet._clients["relay-0"].call("sync_put", {**reply, "hashes": [], "sizes": []}, blob)
    await fleet.quiesce(cluster)

    async def gone():
        try:
            await (await way(fleet, cluster).open_agent()).close()
        except ConnectionRefusedError as error:
            assert "no agent listens" in str(error)
            return True
        return False

    await until(gone)


async def test_ports_behind_a_node_are_reached_through_it(fleet, hosts):
    stream = await way(fleet, cluster_of(reach_of(hosts[0]))).open_tcp(hosts[1].ip, 22)
    assert (await stream.reader.readline()).startswith(b"SSH-2.0-")
    stream.close()
    await stream.wait_closed()
    with pytest.raises(ConnectionRefusedError, match=r"cannot connect to 127\.0\.0\.1:9"):
        await way(fleet, cluster_of(reach_of(hosts[0]))).open_tcp("127.0.0.1", 9)


@pytest.mark.parametrize(
    ("part", "value"),
    [("host", "-oProxyCommand=x"), ("host", "a b"), ("user", "-l"), ("user", "x;y"), ("port", "0"), ("port", "x"),
     ("jump", "a b"), ("home", "../up"), ("home", "/etc"), ("jump", ",".join(["h"] * 9))],
)  # fmt: skip
async def test_a_way_that_cannot_be_one_is_refused(fleet, part, value):
    reach = {"kind": "ssh", "host": "127.0.0.1", "port": "22", "user": "me", part: value}
    with pytest.raises(AgentUnreachable):
        fleet.channel(cluster_of({**reach}), cluster_of({**reach}).instances[0])


@pytest.mark.parametrize("layers", [{}, {"provision": {"ssh_timeout": 0.4}}])
async def test_how_long_a_machine_is_waited_for_can_be_said(keys, host, layers):
    settings = {} if layers else {"ssh_timeout": 0.4}
    fleet = NodeFleet(None, keys, None, lambda: settings)
    cluster = replace(cluster_of(reach_of(host, port="24", power="machine")), layers=layers)
    began = time.monotonic()
    with pytest.raises(AgentUnreachable, match=r"[Rr]efused"):
        await fleet.bring_up(cluster)
    assert 0.4 < time.monotonic() - began < 60, "not the minutes that a new machine has"
    await fleet.forget("c")


async def test_nobody_there_is_told_with_address_and_reason(fleet, host):
    with pytest.raises(LinkDown, match=rf"cannot reach sky@{host.ip}:24: .*[Rr]efused"):
        await way(fleet, cluster_of(reach_of(host, port="24"))).ready(0.3)


# --- commands ----------------------------------------------------------------------------------------------------


async def test_commands_have_input_environment_output_and_an_end(fleet, host):
    channel = way(fleet, cluster_of(reach_of(host)))
    script = 'cat\necho "$MINE and $1"\necho bad >&2\nexit 4\n'
    done = await channel.run(["/bin/sh", "-c", script, "name", "it's"], env={"MINE": "a 'b'"}, input=b"given\n")
    assert done == (4, b"given\na 'b' and it's\n", b"bad\n")
    assert (await channel.run(["sh", "-c", "kill -9 $$"])).rc == 137
    with pytest.raises(TimeoutError):
        await channel.run(["sleep", "601"], timeout=0.3)

    async def gone():
        return (await channel.run(["pgrep", "-f", "sleep 60[1]"])).rc == 1

    await until(gone)


async def test_what_a_node_says_is_bounded(fleet, host):
    channel = way(fleet, cluster_of(reach_of(host)))
    with pytest.raises(OSError, match="said more than"):
        await channel.run(["yes"], timeout=20)
    with pytest.raises(OSError, match="said more than"):
        await channel.run(["/bin/sh", "-c", "yes >&2"], timeout=20)


async def test_a_chatty_login_does_not_disturb(fleet, lab):
    (host,) = lab.create(1)
    host.exec("sh", "-c", "sed -i '1i echo Welcome; echo now >&2' /home/sky/.bashrc")
    cluster = cluster_of(reach_of(host))
    await fleet.bring_up(cluster)
    assert (await way(fleet, cluster).run(["true"])).stdout == b"Welcome\n"
    await fleet.quiesce(cluster)


async def test_a_login_that_runs_no_commands_is_told(fleet, lab):
    (host,) = lab.create(1)
    host.exec("usermod", "-s", "/usr/sbin/nologin", "sky")
    with pytest.raises(AgentUnreachable, match="does not run commands for us"):
        await fleet.bring_up(cluster_of(reach_of(host)))


# --- Python ------------------------------------------------------------------------------------------------------


async def test_a_node_without_python_gets_one(fleet, lab, tmp_path):
    host = bare_host(lab)
    cluster = cluster_of(reach_of(host, home=".sky-nodes/bare"))
    await fleet.bring_up(cluster)
    said = await output(fleet, cluster, "env; command -v python3 || echo none", "k")
    assert b"none" in said and b"LD_LIBRARY_PATH" not in said, "jobs see nothing of it"
    entries = [{"path": "x", "type": "file", "mode": 0o644, "size": 1, "hash": hashlib.sha256(b"x").hexdigest()}]
    (tmp_path / "x").write_bytes(b"x")
    await sync_content(fleet._clients["c-0"], entries, lambda name: tmp_path / "x", "~/there")
    assert host.run("cat .sky-nodes/bare/there/x").stdout == "x"
    again = cluster_of(reach_of(host), id="d")
    parts = "find ~ -name '*.so' -printf '%i %T@ %p\\n' | sort"
    before = host.run(parts).stdout
    await fleet.bring_up(again)
    assert before and host.run(parts).stdout == before, "it is there already"
    for each in (cluster, again):
        await fleet.quiesce(each)


async def test_an_archive_of_python_is_checked_before_it_is_used(lab, keys, tmp_path):
    host, archive, settings = bare_host(lab), tmp_path / "python.tar.xz", {}
    fleet = NodeFleet(None, keys, None, lambda: settings)
    settings["python_archive"] = str(archive)
    cluster = cluster_of(reach_of(host))
    with pytest.raises(AgentUnreachable, match=r"python\.tar\.xz cannot be read"):
        await fleet.bring_up(cluster)
    archive.write_bytes(b"no archive")
    with pytest.raises(AgentUnreachable, match="is damaged: not a tar"):
        await fleet.bring_up(cluster)
    whole = gzip.decompress(await asyncio.to_thread(pack))
    archive.write_bytes(await asyncio.to_thread(lzma.compress, whole, preset=0))
    settings["python_archive_sha256"] = "0" * 64
    with pytest.raises(AgentUnreachable, match=r"has the SHA-256 [0-9a-f]{64}, expected 0000"):
        await fleet.bring_up(cluster)
    settings["python_archive_sha256"] = hashlib.sha256(archive.read_bytes()).hexdigest()
    await fleet.bring_up(cluster)
    await fleet.quiesce(cluster)
    await fleet.forget("c")


@pytest.mark.parametrize(
    ("machine", "libc"),
    [("Linux sparc64", "glibc 9.99"), (None, "glibc 2.1"), (None, "musl libc (x86_64)"), (None, "")],
)
async def test_our_own_python_is_not_sent_where_it_would_not_run(tmp_path, machine, libc):
    here = f"{os.uname().sysname} {os.uname().machine}"
    with pytest.raises(NoPython, match=r"provision\.python_archive"):
        await Interpreters(dict, tmp_path).archive(machine or here, libc)


# --- one connection, and its end ---------------------------------------------------------------------------------


async def test_all_lines_share_one_connection_and_forget_closes_it(fleet, lab):
    (host,) = lab.create(1)
    cluster = cluster_of(reach_of(host))
    await fleet.bring_up(cluster)
    head = await fleet.head(cluster)
    await asyncio.gather(*(fleet._client(cluster, cluster.head, number).hello() for number in range(8)), head.ping())
    assert connections(host) == 1
    await fleet.quiesce(cluster)
    await fleet.forget("c")

    async def closed():
        return connections(host) == 0

    await until(closed)
    assert fleet._links._links == {}


async def test_an_address_that_a_node_no_longer_has_is_let_go(fleet, lab):
    before, gate, after = lab.create(3)
    old = cluster_of(reach_of(before, host_key="", jump=f"sky@{gate.ip}"), reach_of(after, home=".second"))
    await fleet.bring_up(old)
    head = await fleet.head(old)
    await asyncio.gather(head.ping(), head.events(0, 0.0))
    assert connections(gate) == 1
    fresh = cluster_of(reach_of(after))
    await fleet.bring_up(fresh)
    (way_now,) = fleet._links._links
    assert way_now.host == after.ip and fleet._links.link(way_now, "c").users == {"c"}

    async def closed():
        return connections(gate) == connections(before) == 0

    await until(closed)
    # Whoever still holds the old record is led to where the node is now, and opens nothing else.
    boot = (await fleet._clients["c-0"].hello())["started_at"]
    assert (await head._client.hello())["started_at"] == (await head._held().hello())["started_at"] == boot
    assert list(fleet._links._links) == [way_now] and "c-1" not in fleet._clients
    await fleet.quiesce(fresh)


async def test_a_call_outlives_a_partition(fleet, lab):
    (host,) = lab.create(1)
    cluster = cluster_of(reach_of(host))
    await fleet.bring_up(cluster)
    client = fleet._clients["c-0"]
    await client.hello()
    link, first = way(fleet, cluster).link, client._connection
    lab.partition(host)
    asking = asyncio.create_task(client.call("hello", timeout=60.0))
    await until(_lost(link))
    assert first.closed and not asking.done()
    lab.heal(host)
    assert (await asking)[0]["node_id"] == "c-0"
    await fleet.quiesce(cluster)


def _lost(link):
    async def lost():
        return link._connection is None

    return lost


@pytest.mark.parametrize(("how", "within"), [("freeze", 17.0), ("stop", 10.0)])
async def test_a_node_that_died_or_hangs_is_noticed(fleet, lab, how, within):
    (host,) = lab.create(1)
    cluster = cluster_of(reach_of(host))
    await fleet.bring_up(cluster)
    connection = await way(fleet, cluster).open_agent()
    asking = asyncio.create_task(connection.call("events", {"since": 0, "wait": 60}))
    await connection.call("hello", {})
    began = time.monotonic()
    lab.do(how, host.name)
    with pytest.raises(ConnectionLost):
        await asking
    assert time.monotonic() - began < within
    await connection.close()
    if how == "freeze":
        lab.thaw(host)


# --- the library -------------------------------------------------------------------------------------------------


def test_the_library_is_loaded_only_when_it_is_needed():
    code = "import sys, sky.server.fleet; sys.exit('asyncssh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


async def test_a_missing_library_says_what_to_install(fleet, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "asyncssh"] + [
        f"sky.remote.{each}" for each in ("ssh", "ssh_link", "streams")
    ]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    cluster = cluster_of({"kind": "ssh", "host": "127.0.0.1", "user": "me"})
    with pytest.raises(NotSupportedError, match=r"pip install 'altostratus\[ssh\]'"):
        fleet.channel(cluster, cluster.instances[0])

"""The reader of ssh_config(5) files, held against what ssh itself makes of the same file."""

import shutil
import subprocess

import pytest

from sky.providers.ssh_hosts import SshHosts

CONFIG = """
# a comment
User everywhere
Host gpu-* !gpu-9
    HostName %h.rack.example
    Port=2222
    IdentityFile ~/.ssh/rack
Host gpu-1 edge
    User "first user"
    ProxyJump me@gate:2200,inner
Host inner
    HostName 10.0.0.9
Match exec "touch /tmp/never"
    User wrong
Host tunnel
    ProxyCommand nc -X connect -x proxy:3128 %h %p
Host none
    ProxyJump none
    ProxyCommand none
Include more.d/*
Match all
    Port 2022
"""


@pytest.fixture
def hosts(tmp_path):
    (tmp_path / ".ssh" / "more.d").mkdir(parents=True)
    (tmp_path / ".ssh" / "config").write_text(CONFIG)
    (tmp_path / ".ssh" / "more.d" / "a").write_text("Host included\n  HostName 10.1.1.1\nInclude a\n")
    return SshHosts(tmp_path / ".ssh" / "config", tmp_path)


def test_names_are_those_without_patterns(hosts):
    assert list(hosts.names()) == ["gpu-1", "edge", "inner", "tunnel", "none", "included"]


def test_ways_to_hosts(hosts, tmp_path):
    assert hosts.reach("gpu-1") == {
        "kind": "ssh", "host": "gpu-1.rack.example", "port": "2222", "user": "everywhere",
        "identity": str(tmp_path / ".ssh" / "rack"), "jump": "me@gate:2200,everywhere@10.0.0.9:2022",
    }  # fmt: skip
    assert hosts.reach("gpu-9") == {"kind": "ssh", "host": "gpu-9", "port": "2022", "user": "everywhere"}
    assert hosts.reach("tunnel")["proxy_command"] == "nc -X connect -x proxy:3128 %h %p"
    assert set(hosts.reach("none")) == {"kind", "host", "port", "user"}
    assert hosts.reach("included")["host"] == "10.1.1.1"
    over = hosts.reach("included", over={"user": "root", "identity": "~/key", "port": ""})
    assert (over["user"], over["identity"], over["port"]) == ("root", str(tmp_path / "key"), "2022")


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh to compare with")
@pytest.mark.parametrize("name", ["gpu-1", "gpu-7", "gpu-9", "edge", "inner", "stranger"])
def test_ssh_reads_the_same(hosts, tmp_path, name):
    text = CONFIG.replace('Match exec "touch /tmp/never"\n    User wrong\n', "").replace("Include more.d/*\n", "")
    (tmp_path / "plain").write_text(text)
    shown = subprocess.run(["ssh", "-G", "-F", str(tmp_path / "plain"), name], capture_output=True, text=True)
    theirs = dict(line.split(" ", 1) for line in shown.stdout.splitlines() if " " in line)
    mine = hosts.reach(name)
    assert (mine["host"], mine["port"], mine["user"]) == (theirs["hostname"], theirs["port"], theirs["user"])


@pytest.mark.parametrize(
    "text", ["", "Host", "Host a\nUser", 'Host a\nUser "open', "\0\xff\nInclude\n", "=\n= =\nHost ="]
)
def test_files_that_make_no_sense_name_nothing_dangerous(tmp_path, text):
    (tmp_path / "config").write_bytes(text.encode("latin-1"))
    hosts = SshHosts(tmp_path / "config", tmp_path)
    assert hosts.reach("a")["host"] == "a"


def test_a_file_that_is_not_there(tmp_path):
    assert SshHosts(tmp_path / "nothing", tmp_path).names() == []

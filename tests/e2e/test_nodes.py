"""Getting onto nodes as people do: `ssh NAME` and an editor's way, `sky ssh`, forwarded ports; and files of the web."""

import functools
import http.server
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest
from cloud_household import places

pytestmark = pytest.mark.e2e

#: A person's `ssh` reads the account's home, whatever HOME says: another one is put in its place.
AT_HOME = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def rack(shared_sky, shared_lab):
    """A cluster `c` of two nodes on two machines of a pool."""
    hosts = shared_lab.create(2)
    told = [{"ip": host.ip, "user": host.user, "identity_file": host.key} for host in hosts]
    (shared_sky.root / ".sky").mkdir(exist_ok=True)
    (shared_sky.root / ".sky" / "ssh_node_pools.yaml").write_text(json.dumps({"rack": {"hosts": told}}))
    shared_sky.good("launch", "-y", "-c", "c", "--infra", "ssh/rack", "--num-nodes", "2", "--cpus", "1", "touch ~/mark")
    return hosts


def at_home(sky, *words):
    """A program in an account whose home is that of the test."""
    home = str(Path("~root").expanduser())
    program = ["unshare", "-m", "sh", "-c", AT_HOME, "sh", str(sky.root), home, *words]
    return subprocess.run(program, capture_output=True, text=True, env=sky.env, timeout=60)


def generated(sky, name="c"):
    return sky.root / ".sky" / "generated" / "ssh" / name


def test_ssh_by_name_just_works(shared_sky, rack):
    sky = shared_sky
    config = sky.root / ".ssh" / "config"
    assert config.read_text().splitlines()[0] == "Include ~/.sky/generated/ssh/*"
    assert [path.stat().st_mode & 0o777 for path in (config, generated(sky))] == [0o600, 0o600]
    for name, host in (("c", rack[0]), ("c-worker1", rack[1])):
        done = at_home(sky, "ssh", name, "hostname; exit 3")
        assert (done.returncode, done.stdout) == (3, host.run("hostname").stdout), done.stderr
    note = sky.root / "note"
    note.write_text("by hand\n")
    done = at_home(sky, "scp", "-q", str(note), "c-worker1:/tmp/note")
    assert done.returncode == 0, done.stderr
    assert rack[1].run("cat /tmp/note").stdout == "by hand\n"


def test_a_shell_is_in_the_nodes_own_home(shared_sky, rack):
    done = shared_sky("ssh", "c", "--", "ls mark; pwd; echo $HOME; exit 7")
    mark, here, home = done.stdout.splitlines()
    assert (done.returncode, mark) == (7, "mark"), done.stderr
    assert here == home != rack[0].run("echo ~").stdout.strip()
    done = shared_sky("ssh", "c", "--worker", "1", answers="hostname; cat mark\nexit 5\n")
    assert (done.returncode, done.stdout) == (5, rack[1].run("hostname").stdout), done.stderr
    assert shared_sky("ssh", "c", "--", "cat", "a 'file' of spaces").stderr.count("a 'file' of spaces") == 1


def at_a_terminal(sky, *words, typed):
    """Exit code and output of a command that a person types into."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*sky.program, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=sky.env, start_new_session=True
    )
    os.close(theirs)
    os.write(ours, typed)
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:
        pass  # the other side is closed
    os.close(ours)
    return process.wait(30), said


def test_a_terminal_is_one_there_too(shared_sky, rack):
    typed = b"test -t 0 && echo a-$((1+1))-terminal; cat mark && exit 9\n"
    code, said = at_a_terminal(shared_sky, "ssh", "c", typed=typed)
    assert (code, b"a-2-terminal" in said) == (9, True), said


def test_another_host_key_is_not_logged_in_to(shared_sky, rack):
    pins = shared_sky.state / "keys" / "known_nodes"
    before = pins.read_text()
    first, second = (line.split() for line in before.splitlines()[:2])
    try:
        pins.write_text(f"{first[0]} {second[1]} {second[2]}\n{second[0]} {first[1]} {first[2]}\n")
        done = shared_sky("ssh", "c", "--", "echo in")
        assert (done.returncode, done.stdout) == (255, "") and "HOST IDENTIFICATION HAS CHANGED" in done.stderr
        pins.write_text("")
        done = shared_sky("ssh", "c", "--", "echo in")
        assert (done.returncode, done.stdout) == (255, "") and "verification failed" in done.stderr
    finally:
        pins.write_text(before)
    assert shared_sky("ssh", "c", "--", "echo in").stdout == "in\n"


def page(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/mark", timeout=10) as answer:
        return answer.read()


def until_it_arrives(sky, port):
    """Wait for the page; the job that has it takes its time to begin."""
    for _ in range(200):
        try:
            assert page(port) == b"content\n"
        except OSError:
            sky("queue", "c")
        else:
            return
    raise AssertionError("nothing came")


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lines_of(process):
    """What a command says on stdout, up to its first line."""
    return process.stdout.readline().strip()


def test_ports_are_forwarded_until_ctrl_c_and_after_a_break(shared_sky, rack, eventually):
    sky = shared_sky
    sky.good(
        "exec", "-d", "c", "--num-nodes", "1", "cd ~ && echo content >mark && python3 -m http.server 8123 -b 127.0.0.1"
    )
    here, other = free_port(), free_port()
    process = sky.start("port-forward", "c", f"{here}:8123", f"{other}:8123")
    try:
        assert lines_of(process) == f"127.0.0.1:{here} -> c:8123"

        def arrives(port):
            try:
                return page(port) == b"content\n"
            except OSError:
                return False

        eventually(functools.partial(arrives, here))
        assert page(other) == b"content\n"
        taken = sky("port-forward", "c", f"{here}:8123")
        assert taken.returncode == 1 and f"Port {here} of this machine is in use" in taken.stderr
        (tunnel,) = children(process.pid)
        os.kill(tunnel, signal.SIGKILL)
        eventually(lambda: children(process.pid) not in ([], [tunnel]) and arrives(here))
    finally:
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=30)
    assert process.returncode == 0, talk
    assert "is gone; trying again" in talk and "Connected again" in talk
    with pytest.raises(OSError):
        page(here)


def test_what_is_gone_leaves_no_file(shared_sky, shared_lab, rack):
    sky = shared_sky
    (sky.root / ".ssh").mkdir(exist_ok=True)
    (sky.root / ".ssh" / "config").write_text("Host mine\n  User me\n")
    sky.good("launch", "-y", "-c", "d", "--infra", "ssh/rack", "--cpus", "1", "true")
    assert generated(sky, "d").exists()
    assert (sky.root / ".ssh" / "config").read_text() == "Include ~/.sky/generated/ssh/*\n\nHost mine\n  User me\n"
    stranger = generated(sky, "theirs")
    stranger.write_text("# Written by sky; changes are overwritten. Server: /elsewhere\nHost theirs\n")
    sky.good("down", "-y", "d")
    assert not generated(sky, "d").exists()
    assert generated(sky).exists() and stranger.exists()
    done = sky("ssh", "d")
    assert done.returncode == 1 and "not found" in done.stderr
    # What was not noticed when it happened is noticed by the next status.
    sky.good("status")
    shutil.rmtree(sky.root / ".sky" / "generated")
    sky.good("status")
    assert generated(sky).exists()


def test_nodes_of_this_machine(sky):
    sky.good("launch", "-y", "-c", "c", "--infra", "local", "--num-nodes", "2", "true")
    homes = sky.node_homes()
    done = sky("ssh", "c", "-w", "1", "--", "pwd; echo $HOME; exit 6")
    assert (done.returncode, done.stdout) == (6, f"{homes[1]}\n{homes[1]}\n"), done.stderr
    assert sky("ssh", "c", answers="pwd\n").stdout.splitlines()[-1] == str(homes[0])
    assert not (sky.root / ".ssh").exists() and not (sky.root / ".sky").exists(), "they have no SSH server"
    (homes[0] / "mark").write_text("content\n")
    there, here = free_port(), free_port()
    sky.good("exec", "-d", "c", f"cd ~ && python3 -m http.server {there} -b 127.0.0.1; sleep 60")
    process = sky.start("port-forward", "c", f"{here}:{there}")
    try:
        assert lines_of(process) == f"127.0.0.1:{here} -> c:{there}"
        until_it_arrives(sky, here)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    sky.good("stop", "-y", "c")
    done = sky("ssh", "c")
    assert done.returncode == 1 and "is STOPPED" in done.stderr


def test_words_that_are_wrong(sky):
    for words, said in (
        (("ssh", "no such"), "is not valid"),
        (("port-forward", "c", "0"), "allowed: PORT, or PORT:REMOTE"),
        (("port-forward", "c", "80:x"), "allowed: PORT, or PORT:REMOTE"),
        (("port-forward", "c", "8080", "8080:80"), "wanted twice"),
        (("ssh", "--", "up"), "Cluster 'up' not found"),
        (("ssh", "c", "--wurker", "1"), "No such option"),
    ):
        done = sky(*words)
        assert done.returncode != 0 and said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert "--worker" in sky.good("ssh", "--help").stdout
    sky.good("launch", "-y", "-c", "up", "--infra", "local", "true")
    assert sky("ssh", "--", "up", "--worker", "0", "echo", "in").stdout == "in\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture
def site(tmp_path):
    """The address and the folder of a web server that all hosts of the bed reach."""
    made = http.server.ThreadingHTTPServer(("0.0.0.0", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    (tmp_path / "data.txt").write_text("content\n")
    yield made.server_address[1], tmp_path
    made.shutdown()
    thread.join()
    made.server_close()


def launch_with(sky, infra, mounts, name="c"):
    task = {
        "num_nodes": 2,
        "resources": {"infra": infra, "cpus": 1},
        "file_mounts": mounts,
        "run": "cat ~/in/data.txt ~/named",
    }
    (sky.root / "task.yaml").write_text(json.dumps(task))
    return sky("launch", "-y", "-c", name, "task.yaml")


def test_files_of_the_web_are_there_when_the_task_runs(sky, site):
    port, folder = site
    url = f"http://127.0.0.1:{port}"
    for content, words in (
        ("content\n", "8 B from the web"),
        ("content\n", "8 B, the same as on the web"),
        ("content of another day\n", "23 B from the web"),
    ):
        (folder / "data.txt").write_text(content)
        facts = (folder / "data.txt").stat()
        os.utime(folder / "data.txt", (facts.st_atime, 1_700_000_000 + len(content)))
        done = launch_with(sky, "local", {"~/in/": f"{url}/data.txt", "~/named": f"{url}/data.txt"})
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(content) == 4, done.stdout
        assert words in sky.good("events", "c").stdout
    done = launch_with(sky, "local", {"~/x": f"{url}/nothing?key=s3cr3t"})
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert re.search(r"node [01] \(", done.stderr) and f"could not fetch {url}/nothing" in done.stderr, done.stderr
    assert "HTTP status 404" in done.stderr and "s3cr3t" not in done.stderr


def test_machines_elsewhere_fetch_by_themselves(shared_sky, rack, site):
    url = f"http://{rack[0].gateway}:{site[0]}"
    mounts = {"~/in/": f"{url}/data.txt", "~/named": f"{url}/data.txt"}
    done = launch_with(shared_sky, "ssh/rack", mounts, "w")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("content") == 4, done.stdout
    shared_sky.good("down", "-y", "w")


def test_without_the_program_ssh_it_is_said_so(shared_sky, rack):
    env = {**shared_sky.env, "PATH": "/nowhere"}
    done = subprocess.run([*shared_sky.program, "ssh", "c"], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 1 and "Install the OpenSSH client" in done.stderr, done.stderr


@pytest.fixture(scope="module")
def batch(slurm_bed):
    """The login node of a batch system."""
    return slurm_bed.host("login")


def test_nodes_of_a_batch_system(sky, batch):
    (sky.root / ".slurm").mkdir()
    host = f"Host lab\n  HostName {batch.ip}\n  User {batch.user}\n  IdentityFile {batch.key}\n"
    (sky.root / ".slurm" / "config").write_text(host)
    sky.good("launch", "-y", "-c", "c", "--infra", "slurm/lab", "--num-nodes", "2", "--cpus", "1", "touch ~/mark")
    done = sky("ssh", "c", "-w", "1", "--", "hostname; ls mark; exit 7")
    assert done.returncode == 7 and done.stdout.splitlines()[1:] == ["mark"], done.stderr
    assert done.stdout.splitlines()[0] not in ("login", sky("ssh", "c", "--", "hostname").stdout.strip())
    code, said = at_a_terminal(sky, "ssh", "c", typed=b"test -t 0 && echo a-$((1+1))-terminal; cat mark && exit 9\n")
    assert (code, b"a-2-terminal" in said) == (9, True), said
    sky.good("exec", "-d", "c", "--num-nodes", "1", "cd ~ && echo content >mark && python3 -m http.server 8123")
    here = free_port()
    process = sky.start("port-forward", "c", f"{here}:8123")
    try:
        assert lines_of(process) == f"127.0.0.1:{here} -> c:8123"
        until_it_arrives(sky, here)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    sky.good("down", "-y", "c")
    assert not generated(sky).exists()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("infra", ["aws/us-east-1", "gcp/us-central1"])
def test_machines_of_clouds_come_and_go_by_their_name(clouds, infra, eventually):
    sky = clouds.sky
    try:
        done = clouds.launch("c", places(infra))
        assert done.returncode == 0, done.stderr
        alias = (sky.root / ".sky" / "generated" / "known_hosts" / "c").read_text()
        assert alias.startswith("c ssh-ed25519 "), "the key that the machine was made with"
        assert at_home(sky, "ssh", "c", "hostname").stdout == sky("ssh", "c", "--", "hostname").stdout != ""
        sky.good("stop", "-y", "c")
        assert not generated(sky).exists()
        sky.good("start", "-y", "c")
        done = at_home(sky, "ssh", "c", "echo in again")
        assert done.stdout == "in again\n", done.stderr
        sky.good("autostop", "-y", "c", "-i", "0")

        def stopped():
            return sky.json("status")[0]["status"] == "STOPPED"

        eventually(stopped, 60)
        assert not generated(sky).exists(), "nobody asked for it, and `status` saw it"
    finally:
        clouds.clean()

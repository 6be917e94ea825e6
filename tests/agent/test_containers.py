"""Tasks in containers of a real engine, on a test host whose agent stays outside."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from sky.agent.container import Engine, _defaults
from sky.agent.containers import parse
from sky.agent.fields import Refused

PROGRAMS = ("dash", "cat", "mkdir", "rm", "sleep", "mktemp", "env", "id")


def image(shell=True):
    """The root of an image as a tar: a shell and a few programs of this machine."""
    out = io.BytesIO()
    wanted = {}
    for name in PROGRAMS if shell else ("sleep",):
        path = shutil.which(name, path="/usr/bin:/bin")
        wanted[f"bin/{name}"] = path
        for word in subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout.split():
            if word.startswith("/"):
                wanted[word[1:]] = word
    if shell:
        wanted["bin/sh"] = wanted["bin/dash"]
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for name, path in sorted(wanted.items()):
            tar.add(Path(path).resolve(), arcname=name)
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    return out.getvalue()


HIDDEN = {"docker": ("podman",), "podman": ("docker", "dockerd")}
FOLDERS = ("/usr/bin", "/usr/sbin", "/usr/local/bin")
DOCKERD = (
    "dockerd --iptables=false --bridge=none --insecure-registry 10.0.0.0/8 >/var/log/dockerd.log 2>&1 </dev/null &"
    " for i in $(seq 300); do docker version >/dev/null 2>&1 && exit; sleep 0.1; done; cat /var/log/dockerd.log"
)


@pytest.fixture(scope="module", params=["docker", "podman"])
def engine(shared_lab, request):
    """A host with an engine that has the image `tiny`; it is called as the engine is."""
    name = request.param
    if shutil.which("dockerd" if name == "docker" else name, path="/usr/sbin:/usr/bin") is None:
        pytest.skip(f"no {name} on this machine")
    disk = tempfile.mkdtemp(prefix=name, dir="/var/tmp")
    place = {"docker": "/var/lib/docker", "podman": "/var/lib/containers"}[name]
    hidden = [f"{folder}/{each}" for each in HIDDEN[name] for folder in FOLDERS if Path(folder, each).exists()]
    (host,) = shared_lab.create(name, bind=[f"{disk}:{place}:rw"], hide=hidden)
    if name == "docker":
        # A dockerd that runs on this machine belongs to this machine: its socket is not shown to the host.
        started = host.exec("sh", "-c", DOCKERD)
        assert started.stdout == "", started.stdout
    load(host, image(), "tiny")
    yield host
    host.destroy()
    shutil.rmtree(disk, ignore_errors=True)


def load(host, tar, name):
    command = [*host.lab.command, "exec", host.name, host.name, "import", "-", name]
    subprocess.run(command, input=tar, capture_output=True, check=True)


@pytest.fixture
async def inside(engine, start_machines):
    """A cluster of one node with an engine; its agent is that of a user without rights who may use the engine: docker
    by its group, podman by sudo."""
    if engine.name == "docker":
        engine.exec("sh", "-c", "groupadd -f docker; usermod -aG docker sky; chgrp docker /var/run/docker.sock")
    engine.exec("sh", "-c", "rm -rf /home/sky/.sky /home/sky/sky_* /home/sky/.docker")
    cluster = await start_machines([engine], user="sky")
    yield cluster
    await cluster.head.kill_all(grace=0.1, remove=True, patience=60)
    await cluster.head.shutdown()
    assert engine.exec(engine.name, "ps", "-aq").stdout == ""


@pytest.fixture
def by_sudo(inside, engine):
    """The agent's user may not use the engine but as root."""
    if engine.name == "docker":
        engine.exec("chgrp", "root", "/var/run/docker.sock")
    yield inside
    if engine.name == "docker":
        engine.exec("chgrp", "docker", "/var/run/docker.sock")


def tiny(name="tiny", *options, **more):
    return {"image": name, "run_options": list(options), "login": None, **more}


async def test_setup_and_run_share_a_container_with_the_tasks_environment(inside, engine):
    secret = f"s3cret-{uuid.uuid4().hex}"
    job_id = await inside.submit(
        'cat /made; echo "$GREETING|$TOKEN|$SKYPILOT_NODE_RANK|$HOME"; cat hello; id -u; echo out >&2; exit 7',
        setup="echo made by setup > /made; [ -e /etc/passwd ] || echo no passwd here; echo hi > ~/sky_workdir/hello",
        container=tiny(),
        envs={"GREETING": "two\nlines 'quoted'"},
        secrets={"TOKEN": secret},
        workdir=True,
    )
    status, log = await inside.result(job_id)
    assert status == "FAILED" and (await inside.head.job(job_id))["exit_codes"] == [7], log
    words = [line.partition(") ")[2] for line in log.splitlines()]
    expected = ["no passwd here", "made by setup", "two", f"lines 'quoted'|{secret}|0|/home/sky", "hi", "0", "out"]
    assert words[: len(expected)] == expected
    left = engine.exec("grep", "-rl", secret, "/home/sky/.sky", "/tmp").stdout
    assert left == "" and (await inside.result(await inside.submit("cat /made", container=tiny())))[0] == "SUCCEEDED"


async def test_nothing_of_a_task_is_on_a_command_line(inside, engine):
    secret = f"s3cret-{uuid.uuid4().hex}"
    job_id = await inside.submit(
        f"echo up; : {secret}; while ! [ -e ~/go ]; do sleep 0.1; done", container=tiny(), secrets={"TOKEN": secret}
    )
    await inside.said(job_id, b"up")
    listed = engine.exec("sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").stdout
    assert "sky-enter" in listed and secret not in listed
    assert _inspected(engine).count(secret) == 0
    engine.exec("touch", "/home/sky/go")
    assert (await inside.result(job_id))[0] == "SUCCEEDED"
    engine.exec("rm", "/home/sky/go")


def _inspected(engine):
    names = engine.exec(engine.name, "ps", "-q").stdout.split()
    assert names
    return engine.exec(engine.name, "inspect", *names).stdout


async def test_a_cancelled_job_ends_inside_too_and_may_clean_up(inside, engine):
    job_id = await inside.submit(
        "trap 'echo cleaned > ~/cleaned; exit 0' TERM; echo up; sleep 1001 & wait $!; sleep 1002",
        container=tiny(),
        cancel_grace=5.0,
    )
    other = await inside.submit("echo other; while ! [ -e ~/go ]; do sleep 0.1; done", container=tiny())
    for job in (job_id, other):
        await inside.said(job)
    await inside.head.cancel([job_id])
    assert (await inside.until(job_id))["status"] == "CANCELLED"
    assert engine.exec("cat", "/home/sky/cleaned").stdout == "cleaned\n"
    assert "sleep 100" not in engine.exec("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert (await inside.head.job(other))["status"] == "RUNNING", "its neighbour goes on"
    engine.exec("touch", "/home/sky/go")
    assert (await inside.result(other))[0] == "SUCCEEDED"
    engine.exec("rm", "/home/sky/go", "/home/sky/cleaned")


async def test_an_engine_that_only_root_may_use_is_used_as_root(by_sudo, engine):
    job_id = await by_sudo.submit("echo up; sleep 1003", container=tiny(), cancel_grace=0.5)
    await by_sudo.said(job_id)
    begun = time.monotonic()
    await by_sudo.head.cancel([job_id])
    assert (await by_sudo.until(job_id))["status"] == "CANCELLED" and time.monotonic() - begun < 30
    assert "sleep 1003" not in engine.exec("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout


async def test_files_outside_of_the_home_are_seen_inside(inside, engine):
    engine.exec("sh", "-c", "mkdir -p /data && echo precious > /data/file")
    job_id = await inside.submit("cat /data/file; [ ! -e /none ]", container=tiny(mounts=["/data", "/none"]))
    status, log = await inside.result(job_id)
    assert status == "SUCCEEDED" and "precious" in log


async def test_a_job_in_a_container_outlives_the_agent(inside, engine):
    job_id = await inside.submit("echo up; while ! [ -e ~/go ]; do sleep 0.1; done; echo end", container=tiny())
    await inside.said(job_id, b"up")
    old = await inside.nodes[0].pid()
    engine.exec("kill", "-9", str(old))
    while await inside.nodes[0].pid() == old:
        await asyncio.sleep(0.05)
    engine.exec("touch", "/home/sky/go")
    status, log = await inside.result(job_id)
    assert status == "SUCCEEDED" and log.count("up") == log.count("end") == 1
    engine.exec("rm", "/home/sky/go")


async def test_options_of_the_run_are_given_and_a_stopped_container_goes_on(inside, engine):
    wanted = tiny("tiny", "--hostname", "elsewhere", "--network", "none", "-e", "FROM_OPTIONS=yes")
    script = "cat /proc/sys/kernel/hostname; echo $FROM_OPTIONS; echo was here >> /kept; cat /kept"
    status, log = await inside.result(await inside.submit(script, container=wanted))
    assert status == "SUCCEEDED" and "elsewhere" in log and "yes" in log
    await inside.head.kill_all(grace=0.1, patience=60)
    assert engine.exec(engine.name, "ps", "-q").stdout == "" != engine.exec(engine.name, "ps", "-aq").stdout
    engine.exec("sh", "-c", "kill -9 $(cat /home/sky/.sky/agent/lock)")
    status, log = await inside.result(await inside.submit(script, container=wanted, key="again"))
    assert status == "SUCCEEDED" and log.count("was here") == 2


async def test_what_cannot_be_had_is_said(inside, engine):
    job_id = await inside.submit("true", container=tiny("127.0.0.1:9/nothing:1"))
    job = await inside.until(job_id)
    assert job["status"] == "FAILED_DRIVER"
    assert f"ContainerFailed: head: {engine.name} cannot pull 127.0.0.1:9/nothing:1: " in job["reason"]
    assert "connection refused" in job["reason"]
    load(engine, image(shell=False), "bare")
    job = await inside.until(await inside.submit("true", container=tiny("bare")))
    assert "the image bare has no /bin/sh" in job["reason"]
    job = await inside.until(await inside.submit("true", container=tiny("tiny", "--no-such-option")))
    assert "cannot start a container of tiny with the options --no-such-option: " in job["reason"]
    assert "unknown flag" in job["reason"]
    with pytest.raises(Exception, match="'image' is not the name"):
        await inside.submit("true", container=tiny("--privileged"))


class Registry(BaseHTTPRequestHandler):
    """A registry with one image, for those who log in."""

    expected = "Basic " + base64.b64encode(b"me:p@ss word").decode()
    blobs: ClassVar[dict[str, bytes]] = {}
    manifest = b""
    let_in = 0
    asked = threading.Event()
    go_on = threading.Event()

    def do_GET(self):
        if self.headers.get("Authorization") != self.expected:
            self.answer(401, b"{}", "application/json", challenge=True)
            return
        type(self).let_in += 1
        if "/slow/" in self.path:
            self.asked.set()
            self.go_on.wait(60)
        if "/manifests/" in self.path:
            self.answer(200, self.manifest, "application/vnd.docker.distribution.manifest.v2+json")
        elif "/blobs/" in self.path:
            self.answer(200, self.blobs[self.path.rpartition("/")[2]], "application/octet-stream")
        else:
            self.answer(200, b"{}", "application/json")

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def answer(self, code, data, kind, challenge=False):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if code == 200 and kind.endswith("v2+json"):
            self.send_header("Docker-Content-Digest", digest(data))
        if challenge:
            self.send_header("WWW-Authenticate", 'Basic realm="here"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def registry(engine):
    """Where it listens, as the host sees it."""
    layer = image()
    packed = gzip.compress(layer, 1)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
    ).encode()
    kind = "application/vnd.docker"
    Registry.let_in = 0
    Registry.asked.clear()
    Registry.go_on.clear()
    Registry.blobs = {digest(packed): packed, digest(config): config}
    Registry.manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.distribution.manifest.v2+json",
            "config": {"mediaType": f"{kind}.container.image.v1+json", "size": len(config), "digest": digest(config)},
            "layers": [
                {"mediaType": f"{kind}.image.rootfs.diff.tar.gzip", "size": len(packed), "digest": digest(packed)}
            ],
        }
    ).encode()
    with ThreadingHTTPServer(("0.0.0.0", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        where = f"{engine.gateway}:{server.server_port}"
        if engine.name == "podman":
            known = f'[[registry]]\\nlocation = "{where}"\\ninsecure = true\\n'
            engine.exec("sh", "-c", f"mkdir -p /etc/containers; printf '{known}' >/etc/containers/registries.conf")
        yield where
        server.shutdown()
        thread.join()


async def test_a_private_image_is_pulled_by_a_login_that_leaves_nothing(inside, engine, registry):
    name = f"{registry}/private/tiny:1"
    job = await inside.until(await inside.submit("true", container=tiny(name)))
    assert "cannot pull" in job["reason"] and Registry.let_in == 0
    wrong = {"server": registry, "username": "me", "password": "wr0ng-password"}
    job = await inside.until(await inside.submit("true", container=tiny(name, login=wrong)))
    assert f"cannot log in to {registry} as me" in job["reason"] and "wr0ng" not in job["reason"]
    login = {"server": registry, "username": "me", "password": "p@ss word"}
    status, log = await inside.result(await inside.submit("env; echo in", container=tiny(name, login=login)))
    assert status == "SUCCEEDED" and "in" in log and "p@ss" not in log, log
    assert engine.exec("sh", "-c", "ls -d /home/sky/.docker /tmp/sky-login-* 2>/dev/null").stdout == ""
    assert engine.exec("grep", "-rl", "p@ss word", "/home/sky/.sky").stdout == ""


async def test_a_job_is_cancelled_while_its_image_is_pulled(inside, engine, registry):
    login = {"server": registry, "username": "me", "password": "p@ss word"}
    job_id = await inside.submit("true", container=tiny(f"{registry}/slow/tiny:1", login=login), cancel_grace=0.5)
    assert await asyncio.to_thread(Registry.asked.wait, 30)
    begun = time.monotonic()
    await inside.head.cancel([job_id])
    assert (await inside.until(job_id))["status"] == "CANCELLED" and time.monotonic() - begun < 30
    Registry.go_on.set()
    assert (
        engine.exec("sh", "-c", "ls -d /home/sky/.docker 2>/dev/null; grep -rl 'p@ss word' /home/sky/.sky").stdout == ""
    )


def test_containers_get_the_nodes_devices_unless_their_options_say_otherwise():
    wanted = {"run_options": [], "home": "/h", "mounts": [], "gpus": True}
    words = _defaults(Engine(["docker"]), wanted)
    assert words[-2:] == ["--gpus", "all"] and "host" in words
    assert "nvidia.com/gpu=all" in _defaults(Engine(["sudo", "-n", "podman"]), wanted)
    wanted["run_options"] = ["--gpus=1", "--net", "none", "--shm-size=1g"]
    assert _defaults(Engine(["docker"]), wanted) == ["-v", "/h:/h", "-e", "HOME=/h"]


def test_an_image_without_a_registry_is_meant_as_docker_takes_it():
    podman = Engine(["sudo", "-n", "podman"])
    named = {"ubuntu:22.04": "docker.io/library/ubuntu:22.04", "a/b": "docker.io/a/b"}
    named |= {name: name for name in ("quay.io/a/b", "localhost/a", "here:5000/a")}
    assert {name: podman.whole(name) for name in named} == named
    assert Engine(["docker"]).whole("ubuntu") == "ubuntu"


async def test_a_node_without_an_engine_says_so(lab, start_machines):
    hidden = [f"{folder}/{name}" for folder in FOLDERS for name in ("docker", "podman")]
    (host,) = lab.create(1, hide=[path for path in hidden if Path(path).exists()])
    cluster = await start_machines([host])
    job = await cluster.until(await cluster.submit("true", container=tiny()))
    assert "no container engine that works (docker: " in job["reason"] and "install docker or podman" in job["reason"]


def test_bad_containers_are_refused():
    for values in ("tiny", {}, {"image": ""}, {"image": "a b"}, {"image": "-v"}, {"image": "a", "run_options": "x"}):
        with pytest.raises(Refused):
            parse(values)
    with pytest.raises(Refused, match="neither the server nor"):
        parse({"image": "a", "login": {"server": "-x", "username": "u", "password": "p"}})
    found = parse({"image": "a", "login": {"server": "s", "username": "u", "password": "hidden"}})
    assert "hidden" not in repr(found)
    assert parse(None) is None


def test_an_engine_that_hangs_is_given_up():
    rc, said = Engine(["sleep"]).ask("600", within=0.1)
    assert rc != 0 and "did not answer" in said

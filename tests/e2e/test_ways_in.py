"""The ways to the control plane: another process over TCP, this very process, streams over a server that died."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

pytestmark = pytest.mark.e2e


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def python(program, env, cwd, *words):
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, env=env, cwd=cwd, timeout=90
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def told(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read())


def test_a_client_elsewhere_launches_over_tcp_with_a_token(sky):
    port = free_port()
    sky.good("api", "start", "--host", "127.0.0.1", "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    for path in ("/health", "/api/health"):
        status, health = told(url + path)
        assert (status, health["status"]) == (200, "healthy")
    status, refused = told(f"{url}/api/status")
    assert status == 401 and "ApiServerAuthenticationError" in json.dumps(refused)
    # Another home and another state directory: nothing of the server's owner is at hand but what is said here.
    away = sky.root / "away"
    (away / "project").mkdir(parents=True)
    (away / "project" / "data.txt").write_text("from far away\n")
    env = {key: value for key, value in sky.env.items() if not key.startswith("SKY")}
    env |= {"HOME": str(away), "SKY_STATE_DIR": str(away / "s"), "SKYPILOT_API_SERVER_ENDPOINT": url}
    run = [*sky.program, "launch", "-y", "-c", "c", "--infra", "local", "--workdir", "project", "cat data.txt"]
    without = subprocess.run(run, capture_output=True, text=True, env=env, cwd=away, timeout=60)
    assert without.returncode == 1 and "token" in without.stderr and "Traceback" not in without.stderr
    env["SKYPILOT_SERVICE_ACCOUNT_TOKEN"] = (sky.state / "token").read_text().strip()
    done = subprocess.run(run, capture_output=True, text=True, env=env, cwd=away, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "from far away" in done.stdout
    assert not (away / "s" / "server.lock").exists(), "no server was started over there"
    # The same by configuration instead of variables, and per call.
    token = env.pop("SKYPILOT_SERVICE_ACCOUNT_TOKEN")
    del env["SKYPILOT_API_SERVER_ENDPOINT"]
    (away / ".sky").mkdir()
    section = {"api_server": {"endpoint": url, "service_account_token": token}}
    (away / ".sky" / "config.yaml").write_text(json.dumps(section))
    assert "c" in python("import sky; print([each.name for each in sky.get(sky.status())])", env, away)
    (away / ".sky" / "config.yaml").unlink()
    program = (
        "import sys\nfrom sky.sdk.transport import using_endpoint\nimport sky\n"
        "with using_endpoint(sys.argv[1], sys.argv[2]):\n    print([each.name for each in sky.get(sky.status())])\n"
    )
    assert python(program, env, away, url, token).strip() == "['c']"


def test_the_whole_product_in_one_process(sky):
    program = (
        "import io, sys, threading\nimport sky\nfrom sky import local\n"
        "with local.embedded(sys.argv[1]) as endpoint:\n"
        "    task = sky.Task(run='echo from inside', num_nodes=2).set_resources(sky.Resources(infra='local'))\n"
        "    job, handle = sky.get(sky.launch(task, cluster_name='c'))\n"
        "    out = io.StringIO()\n"
        "    print(sky.tail_logs('c', job, follow=True, output_stream=out), out.getvalue().count('from inside'))\n"
        "    sky.get(sky.down('c'))\n"
        "    print(sky.get(sky.status()))\n"
        "print([thread.name for thread in threading.enumerate()])\n"
    )
    said = python(program, sky.env, sky.root, str(sky.root / "e")).splitlines()
    assert said == ["0 2", "[]", "['MainThread']"]
    assert not sky.state.exists(), "no server of its own was started"


def test_a_follower_sees_each_line_once_over_a_killed_server(sky):
    count = "for i in $(seq 1 120); do echo line-$i.; sleep 0.01; done"
    sky.good("launch", "-y", "-c", "c", "true")
    process = sky.start("exec", "c", count)
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "line-40." in line:
                os.kill(sky.server_pid(), signal.SIGKILL)
    finally:
        _, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert re.findall(r"line-(\d+)\.", "".join(lines)) == [str(number) for number in range(1, 121)]


def test_many_threads_share_the_sdk(sky):
    sky.good("launch", "-y", "-c", "c", "true")
    program = (
        "import concurrent.futures, io, sky\n"
        "def one(number):\n"
        "    task = sky.Task(name=f'n{number}', run=f'echo it-is-{number}')\n"
        "    job, _ = sky.get(sky.exec(task, 'c'))\n"
        "    out = io.StringIO()\n"
        "    code = sky.tail_logs('c', job, follow=True, output_stream=out)\n"
        "    return job, code, f'it-is-{number}\\n' in out.getvalue()\n"
        "with concurrent.futures.ThreadPoolExecutor(8) as pool:\n"
        "    done = list(pool.map(one, range(16)))\n"
        "print(sorted(job for job, _, _ in done), {code for _, code, _ in done}, {right for _, _, right in done})\n"
    )
    assert python(program, sky.env, sky.root).strip() == f"{list(range(2, 18))} {{0}} {{True}}"


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_git_workdir_by_branch_tag_and_commit(sky):
    repo = sky.root / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    commits = []
    for word in ("one", "two", "three"):
        (repo / "file").write_text(word + "\n")
        git(repo, "add", "file")
        git(repo, "commit", "-q", "-m", word)
        commits.append(git(repo, "rev-parse", "HEAD"))
    git(repo, "tag", "v2", commits[1])
    url = f"file://{repo}"
    for ref, word in (("main", "three"), ("v2", "two"), (commits[0], "one")):
        words = ("--git-url", url, "--git-ref", ref)
        done = sky.good("launch", "-y", "-c", "c", "--infra", "local", *words, "cat file")
        assert re.search(rf"\) {word}$", done.stdout, re.MULTILINE), (ref, done.stdout)


@pytest.mark.parametrize("ref", ["nowhere", "short"])
def test_a_git_ref_is_what_runs_or_nothing_does(sky, ref):
    repo = sky.root / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    for word in ("one", "two"):
        (repo / "file").write_text(word + "\n")
        git(repo, "add", "file")
        git(repo, "commit", "-q", "-m", word)
    wanted = git(repo, "rev-parse", "--short", "HEAD~1") if ref == "short" else ref
    url = f"file://{repo}"
    done = sky("launch", "-y", "-c", "c", "--infra", "local", "--git-url", url, "--git-ref", wanted, "cat file")
    assert ") two" not in done.stdout, "something else ran than what was asked for"
    if ref == "short":
        assert done.returncode == 0 and ") one" in done.stdout
    else:
        assert done.returncode == 1 and "nowhere" in done.stderr and "Traceback" not in done.stderr


def test_ignored_files_stay_at_home_and_bytes_are_counted(sky):
    work = sky.root / "work"
    (work / "logs").mkdir(parents=True)
    (work / "big.bin").write_text("x" * 300_000)
    (work / "code.py").write_text("print(1)\n")
    (work / "logs" / "a.log").write_text("said\n")
    (work / ".env").write_text("k=v\n")
    (work / ".gitignore").write_text("logs/\n.env\n")
    launch = ("launch", "-y", "-c", "c", "--infra", "local", "--workdir", "work", "find . -type f | sort")
    shown = sky.good(*launch).stdout
    assert "./big.bin" in shown and "./code.py" in shown
    assert "a.log" not in shown and "./.env" not in shown
    (work / ".skyignore").write_text("*.bin\n")  # stands alone: what git ignores is no longer asked
    shown = sky.good(*launch).stdout
    assert "./logs/a.log" in shown and "./big.bin" not in shown
    synced = [event["text"] for event in sky.json("events", "c") if event["kind"] == "FilesSynced"]
    assert re.search(r"300\.0 [kK]i?B sent|293\.\d Ki?B sent", synced[0]), synced
    assert re.search(r", \d{1,3} B sent", synced[1]), synced


def test_the_document_of_the_api_is_served_and_names_every_call(sky):
    sky.good("api", "start")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as door:
        door.connect(str(sky.state / "api.sock"))
        door.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: sky\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: door.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and b"application/json" in head
    paths = set(json.loads(body)["paths"])
    wanted = {
        *("/launch", "/exec", "/status", "/start", "/stop", "/down", "/autostop", "/queue", "/job_status", "/cancel"),
        *("/logs", "/cost_report", "/check", "/endpoints", "/api/get", "/api/stream", "/api/status", "/api/cancel"),
        *("/api/health", "/health"),
    }
    assert wanted <= paths
    assert (sky.state / "api.sock").stat().st_mode & 0o777 == 0o600

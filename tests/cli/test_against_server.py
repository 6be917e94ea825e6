"""Commands against a real server process that holds the small control plane of the server's own tests."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sky import cli
from sky.server.identity import owner

PLANE = Path(__file__).parent.parent / "server"
#: The code under test, wherever the command is run.
SOURCE = str(Path(cli.__file__).parents[2])
Run = subprocess.CompletedProcess[str]


class Sky:
    """The command, talking to one server."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("SKY")}
        self.env |= {"HOME": str(root), "SKY_STATE_DIR": str(root / "s"), "PYTHONPATH": SOURCE}

    def __call__(self, *words: str, answers: str = "", **env: str) -> Run:
        return subprocess.run(
            [sys.executable, "-m", "sky.cli", *words],
            input=answers,
            capture_output=True,
            text=True,
            env=self.env | env,
            cwd=self.root,
            timeout=60,
        )

    def good(self, *words: str, answers: str = "") -> Run:
        done = self(*words, answers=answers)
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@contextmanager
def served(build: str) -> Iterator[Sky]:
    """A server that holds a plane of the server's tests, and the command that talks to it."""
    root = Path(tempfile.mkdtemp(prefix="sky-cli-"))  # sockets need a short path
    command = Sky(root)
    reader, writer = os.pipe()
    server = subprocess.Popen(
        [sys.executable, "-m", "sky.server", "--plane", f"small_plane:{build}", "--ready-fd", str(writer)],
        env=command.env | {"PYTHONPATH": f"{PLANE}{os.pathsep}{SOURCE}"},
        pass_fds=(writer,),
        stdin=subprocess.DEVNULL,
    )
    os.close(writer)
    try:
        assert os.read(reader, 16), "the server did not start"
        yield command
    finally:
        os.close(reader)
        server.terminate()
        server.wait(20)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def sky() -> Iterator[Sky]:
    with served("build") as command:
        yield command


@pytest.fixture
def slow_sky() -> Iterator[Sky]:
    with served("build_slow") as command:
        yield command


def test_status(sky: Sky) -> None:
    lines = sky.good("status").stdout.splitlines()
    assert re.split(r"\s{2,}", lines[1]) == ["NAME", "INFRA", "RESOURCES", "STATUS", "AUTOSTOP", "LAUNCHED"]
    assert [line.split()[0] for line in lines[2:]] == ["one", "two"]
    assert all(re.search(r"\bUP\b", line) for line in lines[2:])


def test_status_is_the_same_with_and_without_click(sky: Sky) -> None:
    for words in (("one",), ("one", "-v"), ("one", "-o", "json"), ("-o", "yaml")):
        assert sky.good("status", *words).stdout == sky.good("status", "--show-services", *words).stdout


def test_plain_status_loads_little(sky: Sky) -> None:
    code = (
        "import json, sys\nfrom sky.cli import main\nassert main(['status']) == 0\n"
        "sys.stdout.flush()\nprint(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=sky.env, check=True)
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert not modules & {
        "click",
        "asyncio",
        "yaml",
        "msgspec",
        "ssl",
        "http.client",
        "sqlalchemy",
        "subprocess",
        "shutil",
    }
    assert len(modules) < 150


def test_status_of_a_missing_cluster_names_it_on_stdout(sky: Sky) -> None:
    done = sky.good("status", "gone")
    assert "'gone' not found" in done.stdout
    assert json.loads(sky.good("status", "gone", "-o", "json").stdout) == []


def test_verbose_status(sky: Sky) -> None:
    shown = sky.good("status", "-v", "one").stdout
    assert all(word in shown for word in ("HEAD_IP", "127.0.0.2", "COMMAND", "sky launch", "LAST_EVENT", "is up"))


def test_values_alone(sky: Sky) -> None:
    assert sky.good("status", "--ip", "one").stdout == "127.0.0.2\n"
    assert sky.good("status", "--endpoint", "8080", "one").stdout == "http://127.0.0.2:8080\n"
    assert sky.good("status", "--endpoints", "one").stdout == "8080: http://127.0.0.2:8080\n"
    gone = sky("status", "--ip", "gone")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "'gone' not found" in gone.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--ip"),
        ("status", "--ip", "--endpoints", "one"),
        ("status", "-o", "xml"),
        ("stop",),
        ("stop", "-a", "one"),
        ("down",),
        ("autostop", "--cancel", "-i", "3", "one"),
        ("start", "one", "--down"),
        ("logs", "one", "1", "2"),
        ("logs", "one", "--status", "--provision"),
        ("cancel", "one", "1", "-a"),
        ("exec", "one"),
        ("launch", "--resize", "echo hi"),
        ("launch", "--gpu", "H100", "echo hi"),
        ("launch", "missing.yaml"),
        ("launch", "--config", "active_workspace=x", "--num-nodes", "0", "echo hi"),
        ("gpus", "list", "H100:x"),
        ("api", "logs"),
        ("api", "cancel"),
        ("api", "status", "-l", "0"),
        ("cost-report", "--days", "-1"),
    ],
)
def test_wrong_usage_sends_nothing(sky: Sky, words: tuple[str, ...]) -> None:
    done = sky(*words)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr


def test_queue(sky: Sky) -> None:
    lines = sky.good("queue", "one").stdout.splitlines()
    row = next(line for line in lines if line.startswith("1 "))
    assert row.split()[:3] == ["1", "task-1", owner()] and "SUCCEEDED" in row.split()
    assert {job["job_id"]: job["status"] for job in json.loads(sky.good("queue", "one", "-o", "json").stdout)} == {
        1: "SUCCEEDED",
        2: "RUNNING",
        3: "FAILED",
    }
    missing = sky("queue", "gone")
    assert missing.returncode == 1 and "'gone' not found" in missing.stderr


@pytest.mark.parametrize(("job", "code"), [("1", 0), ("2", 101), ("3", 100), ("9", 102)])
def test_logs_end_with_the_outcome_of_the_job(sky: Sky, job: str, code: int) -> None:
    done = sky("logs", "one", job, "--no-follow")
    assert done.returncode == code
    words = {0: "SUCCEEDED", 100: "FAILED"}
    finished = f"Job finished (status: {words.get(code)})" in done.stdout
    assert finished == (code in words)
    assert ("hello\nworld\n" in done.stdout) == (code != 102)


@pytest.mark.parametrize(("job", "code", "word"), [("1", 0, "SUCCEEDED"), ("3", 1, "FAILED"), ("9", 1, "not found")])
def test_logs_status(sky: Sky, job: str, code: int, word: str) -> None:
    done = sky("logs", "one", job, "--status")
    assert (done.returncode, done.stdout) == (code, f"Job {job}: {word}\n")


def test_logs_are_fetched(sky: Sky) -> None:
    path = json.loads(sky.good("logs", "one", "1", "-s", "-o", "json").stdout)["1"]
    assert (Path(path) / "run.log").read_text() == "hello\nworld\n"


def test_launch_shows_its_plan_and_asks(sky: Sky) -> None:
    done = sky("launch", "-c", "fresh", "echo hi", answers="n\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"INFRA +INSTANCE +vCPUs +Mem\(GB\) +GPUS +COST \(\$\) +CHOSEN", done.stderr)
    assert "Launching a new cluster 'fresh'. Proceed? [Y/n]" in done.stderr
    assert "pass -y" in sky("launch", "-c", "fresh", "echo hi").stderr


def test_launch_detached_prints_the_job_on_stdout_and_talk_on_stderr(sky: Sky) -> None:
    done = sky.good("launch", "-d", "-c", "fresh", "echo hi", answers="y\n")
    assert done.stdout == "Job submitted, ID: 7\n"
    assert "launch begins" in done.stderr and "sky logs fresh 7" in done.stderr


def test_launch_on_an_existing_cluster_does_not_ask(sky: Sky) -> None:
    done = sky.good("launch", "-d", "-c", "one", "echo hi")
    assert "existing cluster 'one'" in done.stderr and "Proceed" not in done.stderr


def test_launch_as_json(sky: Sky) -> None:
    found = json.loads(sky.good("launch", "-y", "-d", "-c", "fresh", "echo hi", "-o", "json").stdout)
    assert found.keys() == {"request_id", "cluster", "job_id", "exit_code"}
    assert (found["cluster"], found["job_id"], found["exit_code"]) == ("fresh", 7, None)


def test_dryrun_submits_nothing(sky: Sky) -> None:
    before = sky.good("api", "status", "-a", "-o", "json").stdout
    found = json.loads(sky.good("launch", "--dryrun", "echo hi", "-o", "json").stdout)
    assert [place["infra"] for place in found[0]["placements"]] == ["local"]
    assert found[0]["rejections"][0]["reason"] == "not enabled"
    assert sky.good("api", "status", "-a", "-o", "json").stdout == before


def test_exec_follows_its_job(sky: Sky) -> None:
    done = sky("exec", "one", "echo", "hi")
    assert done.stdout.startswith("Job submitted, ID: 7\n")
    assert done.returncode == 102  # the small plane has no job 7


def test_async_prints_the_id_alone(sky: Sky) -> None:
    for words in (
        ("launch", "-y", "--async", "echo hi"),
        ("exec", "one", "--async", "true"),
        ("stop", "-y", "--async", "one"),
    ):
        request_id = sky.good(*words).stdout.strip()
        assert re.fullmatch(r"[0-9a-f-]{36}", request_id)
        assert "is over" in sky.good("api", "logs", request_id[:10]).stdout


def test_the_record_of_a_launch_has_no_secret(sky: Sky) -> None:
    sky.good("exec", "one", "-d", "true", "--secret", "A=hush-hush", "--secret=B=hush-hush", "--env", "C=1")
    raw = subprocess.run(
        [sys.executable, "-c", "from sky.sdk.requests import api_status; print(list(api_status(all_status=True)))"],
        capture_output=True, text=True, env=sky.env, check=True,
    ).stdout  # fmt: skip
    assert "--secret A --secret=B --env C=1" in raw
    assert "hush-hush" not in raw


def test_several_clusters_are_stopped_and_each_outcome_told(sky: Sky) -> None:
    done = sky("stop", "one", "two", "gone", answers="y\n")
    assert done.returncode == 1
    assert "Stopping 2 clusters: one, two. Proceed? [Y/n]" in done.stderr
    assert "Cluster 'gone' not found." in done.stderr
    assert done.stderr.count("is stopped") == 2
    outcomes = json.loads(sky.good("down", "-a", "-y", "-o", "json").stdout)
    assert [(one["cluster"], one["status"], one["error"]) for one in outcomes] == [
        ("one", "SUCCEEDED", None),
        ("two", "SUCCEEDED", None),
    ]


def test_no_is_no(sky: Sky) -> None:
    for words in (("stop", "one"), ("down", "-a"), ("cancel", "one"), ("autostop", "one"), ("api", "cancel", "-a")):
        done = sky(*words, answers="n\n")
        assert (done.returncode, done.stdout) == (1, ""), words
        assert "nothing was done" in done.stderr


def test_cancelling_what_is_not_there_says_so(sky: Sky) -> None:
    done = sky("cancel", "-y", "one", "2", "77")
    assert done.returncode == 1
    assert "job 77 not found" in done.stderr and "nothing was cancelled" in done.stderr


def test_a_failure_of_the_server_is_one_block(sky: Sky) -> None:
    done = sky("cancel", "-y", "gone", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Cluster 'gone' not found.")
    assert "Next: `sky status`" in done.stderr


def test_a_terminal_without_unicode_is_no_failure(sky: Sky) -> None:
    done = sky("events", "one", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "[INIT ? UP]" in done.stdout


def test_check_and_gpus(sky: Sky) -> None:
    shown = sky.good("check").stdout
    assert "local: enabled [compute]" in shown and "reason: no credentials" in shown and "Enabled infra: local" in shown
    assert json.loads(sky.good("check", "-o", "json").stdout)["default"]["aws"]["hint"] == "run: aws configure"
    assert re.search(r"^H100 +8$", sky.good("gpus", "list").stdout, re.M)
    assert "HOURLY_SPOT_PRICE" in sky.good("gpus", "list", "h100:8").stdout
    assert sky.good("show-gpus", "H100").stdout == sky.good("gpus", "list", "H100").stdout
    assert sky.good("gpus", "list", "B200").stdout == "No B200.\n"


def test_costs_and_events(sky: Sky) -> None:
    shown = sky.good("cost-report", "--days", "0").stdout
    assert re.search(r"COST/hr +COST \(est\.\)", shown) and "$ 2.00" in shown
    assert "the agent answers  [INIT → UP]" in sky.good("events", "one").stdout
    assert json.loads(sky.good("events", "one", "-o", "jsonl").stdout)["kind"] == "AgentsReady"
    assert sky("events", "gone").returncode == 1


def test_the_ledger(sky: Sky) -> None:
    shown = sky.good("ledger").stdout
    assert shown == "Nothing is billed.\n"
    shown = sky.good("ledger", "--all").stdout
    assert (
        re.search(r"^one +machine +i-one +local +localhost", shown, re.M) and "Total: $ 6.00; $ 0.00 per hour" in shown
    )
    told = json.loads(sky.good("ledger", "-a", "-o", "json").stdout)
    assert [(each["cluster"], each["resource"], each["price_hourly"], each["cost"]) for each in told] == [
        ("one", "i-one", 2.0, 2.0),
        ("gone", "i-gone", 2.0, 4.0),
    ]
    lines = list(csv.DictReader(sky.good("ledger", "-a", "-o", "csv").stdout.splitlines()))
    assert [(each["cluster"], float(each["cost"]), each["reason"]) for each in lines] == [
        ("one", 2.0, "asked to go down"),
        ("gone", 4.0, "asked to go down"),
    ]
    assert sky("ledger", "--days", "-1").returncode == 2


def test_api_info_and_status(sky: Sky) -> None:
    found = json.loads(sky.good("api", "info", "-o", "json").stdout)
    assert found["server"]["status"] == "healthy" and found["server"]["url"].startswith("unix://")
    header = sky.good("api", "status", "-a").stdout.splitlines()[0]
    assert header == "No requests." or re.split(r"\s{2,}", header) == ["ID", "User", "Name", "Created", "Status"]


def test_config_of_this_call_names_the_server(sky: Sky) -> None:
    done = sky("status", "--config", "api_server.endpoint=http://127.0.0.1:9")
    assert done.returncode == 1 and "127.0.0.1:9" in done.stderr
    project = sky.root / ".sky.yaml"
    project.write_text(f"api_server:\n  endpoint: unix://{sky.root}/s/api.sock\n")
    try:
        assert "one" in sky.good("status").stdout
        project.write_text("api_server:\n  endpoynt: x\n")
        wrong = sky("status")
        assert wrong.returncode == 1 and ".sky.yaml:2:3" in wrong.stderr and "endpoint" in wrong.stderr
    finally:
        project.unlink()


def test_names_of_clusters_complete(sky: Sky) -> None:
    done = sky("", COMP_WORDS="sky stop o", COMP_CWORD="2", _SKY_COMPLETE="bash_complete")
    assert done.stdout.split() == ["plain,one"]


def test_a_reader_that_leaves_early_is_no_failure(sky: Sky) -> None:
    begun = time.monotonic()
    script = f"{sys.executable} -m sky.cli queue | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=sky.env, timeout=60)
    assert done.stdout.strip() in ("0", "141") and done.stderr == ""
    assert time.monotonic() - begun < 30


def test_ctrl_c_leaves_a_launch_going_and_says_how_to_go_on(slow_sky: Sky) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sky.cli", "launch", "-y", "-c", "fresh", "echo hi"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=slow_sky.env,
        cwd=slow_sky.root,
    )
    try:
        assert process.stderr is not None
        assert any("launch begins" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        out, talk = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    (row,) = json.loads(slow_sky.good("api", "status", "-o", "json").stdout)
    assert f"the request goes on. Follow: sky api logs {row['request_id']}" in talk
    assert f"Cancel: sky api cancel {row['request_id']}" in talk
    assert "Traceback" not in talk
    assert slow_sky.good("api", "cancel", row["request_id"]).stdout == f"Cancelled {row['request_id']}\n"


#: Makes standard input the controlling terminal, so that its ^C is a signal, and becomes the command.
OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def on_terminal(sky: Sky, *words: str, keys: bytes = b"", wait_for: bytes = b"", **env: str) -> tuple[int, str]:
    """Run the command on a terminal of its own, type `keys` once `wait_for` is shown; its code and all it showed."""
    terminal, line = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, sys.executable, "-m", "sky.cli", *words],
        stdin=line,
        stdout=line,
        stderr=line,
        start_new_session=True,
        env=sky.env | {"TERM": "xterm"} | env,
        cwd=sky.root,
    )
    os.close(line)
    shown, typed = b"", not keys
    try:
        while True:
            if not typed and wait_for in shown:
                os.write(terminal, keys)
                typed = True
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # how Linux says that the other end is gone
                break
            if not piece:
                break
            shown += piece
    finally:
        os.close(terminal)
        code = process.wait(60)
    return code, shown.decode()


def test_ctrl_c_at_a_question_does_nothing(sky: Sky) -> None:
    before = sky.good("api", "status", "-a", "-o", "json").stdout
    code, shown = on_terminal(sky, "down", "one", keys=b"\x03", wait_for=b"[Y/n]")
    assert code == 130
    assert "nothing was done" in shown and "Traceback" not in shown
    assert sky.good("api", "status", "-a", "-o", "json").stdout == before


def test_a_question_is_answered_on_a_terminal(sky: Sky) -> None:
    code, shown = on_terminal(sky, "stop", "one", keys=b"y\n", wait_for=b"[Y/n]")
    assert code == 0
    assert "is stopped" in shown


def test_a_terminal_gets_colour_and_lines_that_fit(sky: Sky) -> None:
    _, shown = on_terminal(sky, "status", "-v", COLUMNS="60")
    assert "\x1b[32mUP" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert all(len(line) <= 70 for line in plain.splitlines())  # nine columns do not go below six each
    _, quiet = on_terminal(sky, "status", NO_COLOR="1")
    assert "\x1b" not in quiet


def test_what_cannot_be_done_yet_is_said_before_anything_else(sky: Sky) -> None:
    flag = ["--docker"]
    done = sky("launch", "-y", "-c", "one", *flag, "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ") and flag[0] in done.stderr and "not supported yet" in done.stderr


def test_a_log_has_no_other_form(sky: Sky) -> None:
    done = sky("logs", "one", "1", "-o", "json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--status" in done.stderr


def test_the_end_of_a_job_stands_on_a_line_of_its_own(sky: Sky) -> None:
    assert sky.good("logs", "one", "1").stdout == "hello\nworld\nJob finished (status: SUCCEEDED).\n"

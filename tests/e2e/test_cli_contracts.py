"""What scripts rely on: texts, columns, exit codes, shapes of `-o json`, prompts and globs, through the real command.

One server and one cluster serve all tests of this file that only look; what changes a cluster makes its own.
"""

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from patience import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

Run = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def sky(shared_sky):
    return shared_sky


@pytest.fixture(scope="module")
def launched(sky: Any) -> Run:
    (sky.root / "hello.yaml").write_text(
        "name: hello\nresources:\n  infra: local\nrun: echo hi from $SKYPILOT_NODE_RANK\n"
    )
    return sky.good("launch", "-y", "-c", "look", "hello.yaml")


@pytest.fixture
def cluster(sky: Any, launched: Run) -> str:
    return "look"


# --- launch and exec -------------------------------------------------------------------------------------------------


def test_launch_prints_what_scripts_look_for(launched: Run) -> None:
    assert re.search(r"^Job submitted, ID: 1$", launched.stdout, re.M)
    assert re.search(r"\(hello, pid=\d+\) hi from 0", launched.stdout)
    assert "Job finished (status: SUCCEEDED)" in launched.stdout


def test_the_talk_of_a_launch_is_on_stderr(launched: Run) -> None:
    assert "INFRA" in launched.stderr and "CHOSEN" in launched.stderr
    assert "INFRA" not in launched.stdout


def test_exec_runs_on_the_cluster(sky: Any, cluster: str) -> None:
    done = sky.good("exec", cluster, "echo", "again")
    assert re.search(r"^Job submitted, ID: \d+$", done.stdout, re.M)
    assert re.search(r"pid=\d+\) again", done.stdout)


def test_the_end_of_a_job_begins_a_line(sky: Any, cluster: str) -> None:
    assert "quiet\nJob finished (status: SUCCEEDED)." in sky.good("exec", cluster, "printf quiet").stdout


def test_git_workdir_is_what_was_asked_for_or_an_error(sky: Any, cluster: str) -> None:
    repository = sky.root / "repo"
    subprocess.run(["git", "init", "-q", "-b", "main", repository], check=True)
    for name in ("one", "two"):
        who = ["-c", "user.name=n", "-c", "user.email=e"]
        subprocess.run(
            ["git", "-C", repository, *who, "commit", "-q", "--allow-empty", "-m", name], check=True, env=sky.env
        )
    first = subprocess.run(
        ["git", "-C", repository, "rev-parse", "HEAD~"], capture_output=True, text=True, check=True
    ).stdout.strip()
    show = ["git log -1 --format=%s"]
    place = ["--git-url", f"file://{repository}", "--git-ref"]
    made = [sky.good("launch", "-y", "-c", cluster, *place, ref, *show).stdout for ref in ("main", first)]
    assert [re.search(r"pid=\d+\) (\w+)", text)[1] for text in made] == ["two", "one"]  # type: ignore[index]
    missing = sky("launch", "-y", "-c", cluster, *place, "nosuch", *show)
    assert missing.returncode == 1
    assert "nosuch" in missing.stderr


def test_a_failing_job_gives_its_code(sky: Any, cluster: str) -> None:
    assert sky("exec", cluster, "exit 3").returncode == 100


def test_exec_on_a_missing_cluster(sky: Any, cluster: str) -> None:
    done = sky("exec", "nowhere", "echo hi")
    assert done.returncode == 1
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr


def test_exec_as_json_keeps_stdout_for_the_result(sky: Any, cluster: str) -> None:
    done = sky.good("exec", cluster, "echo on-stderr", "-o", "json")
    found = json.loads(done.stdout)
    assert set(found) == {"request_id", "cluster", "job_id", "exit_code"}
    assert (found["cluster"], found["exit_code"]) == (cluster, 0)
    assert "on-stderr" in done.stderr


def test_async_prints_an_id_that_can_be_followed(sky: Any, cluster: str) -> None:
    request_id = sky.good("exec", cluster, "echo later", "--async").stdout.strip()
    assert re.fullmatch(r"\S+", request_id)
    sky.good("api", "logs", request_id[:8])
    rows = sky.json("api", "status", "-a", request_id)
    assert [row["status"] for row in rows] == ["SUCCEEDED"]  # type: ignore[union-attr]


def test_dryrun_changes_nothing(sky: Any, cluster: str) -> None:
    done = sky.good("launch", "--dryrun", "-c", "never", "--infra", "local", "echo hi")
    assert "CHOSEN" in done.stderr
    assert "'never' not found" in sky("status", "never").stdout


def test_a_launch_that_is_not_confirmed_does_nothing(sky: Any, cluster: str) -> None:
    done = sky("launch", "-c", "never", "--infra", "local", "echo hi", answers="n\n")
    assert done.returncode == 1
    assert "Launching a new cluster 'never'. Proceed? [Y/n]" in done.stderr
    assert "pass -y" in sky("launch", "-c", "never", "--infra", "local", "echo hi").stderr
    assert "'never' not found" in sky("status", "never").stdout


def test_bad_task_files_are_told_with_their_line(sky: Any) -> None:
    (sky.root / "bad.yaml").write_text("resources:\n  accelerator: H100\n")
    done = sky("launch", "-y", "bad.yaml")
    assert done.returncode == 1
    assert "bad.yaml:2:3" in done.stderr and "accelerators" in done.stderr
    assert "Traceback" not in done.stderr


def test_secrets_never_show(sky: Any, cluster: str) -> None:
    done = sky.good("exec", cluster, "test -n $KEY", "--secret", "KEY=sesame-open")
    shown = done.stdout + done.stderr + sky.good("events", cluster).stdout
    shown += sky.good("api", "status", "-a", "-o", "json").stdout + sky.good("status", "-v", "-o", "json").stdout
    assert "sesame-open" not in shown


def test_ctrl_c_while_following_leaves_the_job_running(sky: Any, cluster: str) -> None:
    process = sky.start("exec", cluster, "echo begun; sleep 600")
    try:
        assert process.stdout is not None
        job_id = ""
        for line in process.stdout:
            job_id = line.split(": ")[1].strip() if line.startswith("Job submitted, ID: ") else job_id
            if "begun" in line:
                break
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "the job runs on" in talk and f"sky cancel {cluster} {job_id}" in talk
    until(lambda: "RUNNING" in sky("logs", cluster, job_id, "--status").stdout)
    sky.good("cancel", "-y", cluster, job_id)
    until(lambda: "CANCELLED" in sky("logs", cluster, job_id, "--status").stdout)
    assert sky("logs", cluster, job_id).returncode == 103


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_rows_begin_with_the_name_and_carry_the_status(sky: Any, cluster: str) -> None:
    lines = sky.good("status").stdout.splitlines()
    header = next(line for line in lines if line.startswith("NAME"))
    assert re.split(r"\s{2,}", header) == ["NAME", "INFRA", "RESOURCES", "STATUS", "AUTOSTOP", "LAUNCHED"]
    row = next(line for line in lines if line.startswith(f"{cluster} "))
    assert re.search(r"\bUP\b", row) and "ago" in row and "local" in row


def test_status_of_a_missing_cluster(sky: Any, cluster: str) -> None:
    done = sky("status", "gone")
    assert "'gone' not found" in done.stdout
    assert done.returncode == 0


def test_status_takes_globs(sky: Any, cluster: str) -> None:
    assert [row["name"] for row in sky.json("status", "lo*")] == [cluster]  # type: ignore[union-attr]
    assert sky.json("status", "zz*") == []


def test_plain_status_and_status_with_options_agree(sky: Any, cluster: str) -> None:
    # A minute may be over between one and the other, and with it the age that both of them show.
    until(lambda: sky.good("status", cluster).stdout == sky.good("status", cluster, "-o", "table").stdout)


def test_verbose_status_adds_columns(sky: Any, cluster: str) -> None:
    shown = sky.good("status", "-v", cluster).stdout
    assert all(column in shown for column in ("HEAD_IP", "COMMAND", "LAST_EVENT"))


def test_ip_is_only_the_address(sky: Any, cluster: str) -> None:
    assert re.fullmatch(r"127(\.\d+){3}\n", sky.good("status", "--ip", cluster).stdout)
    assert sky("status", "--ip", "gone").returncode == 1
    assert sky("status", "--ip").returncode == 2


def test_status_shape(sky: Any, cluster: str) -> None:
    (row,) = sky.json("status", cluster)  # type: ignore[misc]
    assert row.keys() >= {"name", "status", "infra", "resources", "nodes", "autostop", "launched_at", "head_ip"}
    assert (row["name"], row["status"], row["infra"], row["nodes"]) == (cluster, "UP", "local", 1)


# --- queue, logs, events, costs --------------------------------------------------------------------------------------


def test_queue_columns(sky: Any, cluster: str) -> None:
    lines = sky.good("queue", cluster).stdout.splitlines()
    header = next(line for line in lines if line.startswith("ID"))
    assert re.split(r"\s{2,}", header) == [
        "ID", "NAME", "USER", "SUBMITTED", "STARTED", "DURATION", "RESOURCES", "STATUS", "LOG", "GIT COMMIT",
    ]  # fmt: skip
    first = next(line for line in lines if line.startswith("1 "))
    assert first.split()[1] == "hello" and "SUCCEEDED" in first.split()


def test_queue_shape(sky: Any, cluster: str) -> None:
    rows = sky.json("queue", cluster)
    assert {row["job_id"]: row["status"] for row in rows}[1] == "SUCCEEDED"  # type: ignore[union-attr]


def test_logs_of_a_job(sky: Any, cluster: str) -> None:
    done = sky.good("logs", cluster, "1")
    assert re.search(r"\(hello, pid=\d+\) hi from 0", done.stdout)
    assert "Job finished (status: SUCCEEDED)" in done.stdout


def test_logs_status(sky: Any, cluster: str) -> None:
    assert "SUCCEEDED" in sky.good("logs", cluster, "1", "--status").stdout
    assert sky("logs", cluster, "999", "--status").returncode == 1


def test_logs_of_a_missing_job(sky: Any, cluster: str) -> None:
    assert sky("logs", cluster, "999").returncode == 102


def test_logs_can_be_fetched(sky: Any, cluster: str) -> None:
    done = sky.good("logs", cluster, "1", "--sync-down", "-o", "json")
    path = Path(json.loads(done.stdout)["1"]).expanduser()
    assert any("hi from 0" in file.read_text() for file in path.rglob("*") if file.is_file())


def test_events_tell_a_story(sky: Any, cluster: str) -> None:
    story = sky.good("events", cluster).stdout
    assert "[PROVISIONING]" in story.splitlines()[0]
    assert "[BOOTSTRAPPING → UP]" in story
    assert "job 1: SUCCEEDED" in story
    ports = sky.good("status", "--endpoints", cluster)
    assert (ports.stdout, "no open ports" in ports.stderr) == ("", True)
    assert all(event["text"] for event in sky.json("events", cluster))  # type: ignore[union-attr]


def test_cost_report(sky: Any, cluster: str) -> None:
    shown = sky.good("cost-report").stdout
    assert "COST (est.)" in shown and cluster in shown and "$ 0.00" in shown


# --- infra and server ------------------------------------------------------------------------------------------------


def test_check_lists_local(sky: Any) -> None:
    shown = sky.good("check").stdout
    assert "local: enabled [compute" in shown
    assert sky.json("check")["default"]["local"]["enabled"] is True  # type: ignore[index]


def test_gpus_list_answers(sky: Any) -> None:
    assert isinstance(sky.json("gpus", "list", "-a"), list)
    assert sky("gpus", "list", "H100:x").returncode == 2


def test_api_info(sky: Any, cluster: str) -> None:
    found = sky.json("api", "info")
    assert found["server"]["status"] == "healthy"  # type: ignore[index]
    assert "API version" in sky.good("api", "info").stdout


def test_api_status(sky: Any, cluster: str) -> None:
    shown = sky.good("api", "status", "-a").stdout
    assert re.split(r"\s{2,}", shown.splitlines()[0]) == ["ID", "User", "Name", "Created", "Status"]
    assert "launch" in shown and "SUCCEEDED" in shown


# --- what changes clusters -------------------------------------------------------------------------------------------


def test_stop_start_autostop_down_with_globs_and_prompts(sky: Any, cluster: str) -> None:
    for name in ("many-a", "many-b"):
        sky.good("launch", "-y", "-d", "-c", name, "--infra", "local", "echo hi")
    refused = sky("stop", "many-*", answers="n\n")
    assert refused.returncode == 1
    assert "many-a" in refused.stderr and "many-b" in refused.stderr and "2 clusters" in refused.stderr
    sky.good("autostop", "-y", "-i", "30", "--down", "many-a")
    assert re.search(r"^many-a .*30m \(down\)", sky.good("status", "many-a").stdout, re.M)
    sky.good("autostop", "-y", "--cancel", "many-a")
    assert "30m" not in sky.good("status", "many-a").stdout
    outcomes = json.loads(sky.good("stop", "-y", "many-*", "-o", "json").stdout)
    assert {one["cluster"]: one["status"] for one in outcomes} == {"many-a": "SUCCEEDED", "many-b": "SUCCEEDED"}
    assert sky.good("status", "many-*").stdout.count("STOPPED") == 2
    stopped = sky("exec", "many-a", "echo hi")
    assert stopped.returncode == 1 and "many-a" in stopped.stderr
    sky.good("start", "many-a", answers="y\n")
    assert re.search(r"^many-a .*\bUP\b", sky.good("status", "many-a").stdout, re.M)
    mixed = sky("down", "-y", "many-*", "not-there")
    assert mixed.returncode == 1 and "'not-there' not found" in mixed.stderr
    assert sky.json("status", "many-*") == []


def test_launch_with_down_leaves_nothing(sky: Any, cluster: str) -> None:
    sky.good("launch", "-y", "-c", "brief", "--infra", "local", "--down", "echo hi")
    until(lambda: sky.json("status", "brief") == [])


@pytest.mark.parametrize("words", [("stop",), ("down",), ("stop", "-a", "x"), ("logs",), ("exec", "c"), ("autostop",)])
def test_wrong_usage_is_code_2(sky: Any, words: tuple[str, ...]) -> None:
    done = sky(*words)
    assert done.returncode == 2 and done.stdout == ""

"""The action as a runner runs it: its steps by bash, inputs as variables only, outputs from files, a real server.

A small runner of our own stands in for GitHub's: it evaluates the expressions that the action uses and no others.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
INPUT = re.compile(r"\$\{\{ inputs\.([a-z-]+) \}\}")


@dataclass
class Result:
    code: int = 0
    text: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""


class Runner:
    """Runs the action's steps in a folder of its own, for one home with its server."""

    def __init__(self, root: Path) -> None:
        self.root, self.work, self.temp = root, root / "work", root / "temp"
        self.work.mkdir()
        self.temp.mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SKY", "GITHUB_", "RUNNER_"))}
        # A workflow's steps find the Python that was installed for them; here it is the one of the tests.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = {**kept, "HOME": str(root), "SKY_STATE_DIR": str(root / "s"), "PATH": path}
        self.env |= {
            "RUNNER_TEMP": str(self.temp), "GITHUB_ACTION_PATH": str(ROOT), "GITHUB_ACTION": "__sky",
            "GITHUB_REPOSITORY": "me/My.Repo", "GITHUB_RUN_ID": "77", "GITHUB_JOB": "train",
        }  # fmt: skip
        self.begun: subprocess.Popen[str] | None = None
        self.said = ""

    def run(self, *, only: tuple[str, ...] = (), tidy: bool = True, **inputs: str) -> Result:
        """All steps, as the runner would: a failing one ends it, but for those that run always."""
        given = {name: str(each.get("default", "")) for name, each in ACTION["inputs"].items()}
        given |= {"package": "none", **{name.replace("_", "-"): value for name, value in inputs.items()}}
        assert not set(given) - set(ACTION["inputs"])
        result = Result()
        for step in ACTION["runs"]["steps"]:
            if (result.code and step.get("if") != "always()") or (not tidy and step["name"] == "Tidy up"):
                continue
            files = {name: self.temp / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_PATH")}
            for path in files.values():
                path.write_text("")
            env = {key: INPUT.sub(lambda found: given[found[1]], value) for key, value in step["env"].items()}
            code, text = self._step(step["run"], {**self.env, **env, **{key: str(path) for key, path in files.items()}})
            result.code, result.text = result.code or code, result.text + text
            result.outputs |= outputs_of(files["GITHUB_OUTPUT"].read_text())
            result.summary += files["GITHUB_STEP_SUMMARY"].read_text()
        return result

    def _step(self, script: str, env: dict[str, str]) -> tuple[int, str]:
        assert "${{" not in script, "an input would become part of a script"
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        self.begun = subprocess.Popen(
            command, cwd=self.work, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        lines = []
        with self.begun as begun:
            assert begun.stdout is not None
            for line in begun.stdout:
                lines.append(line)
                self.said += line
        return begun.returncode, "".join(lines)

    def sky(self, *words: str) -> str:
        command = [str(Path(sys.executable).with_name("sky")), *words]
        told = {"env": self.env, "cwd": self.work, "timeout": 90}
        return subprocess.run(command, **told, capture_output=True, text=True, check=False).stdout

    def clusters(self) -> list[str]:
        return [each["name"] for each in json.loads(self.sky("status", "-u", "-o", "json"))]


def outputs_of(text: str) -> dict[str, str]:
    """What a step wrote to GITHUB_OUTPUT, in the form for values of several lines."""
    found = re.findall(r"^([a-z-]+)<<(\w+)\n(.*?)\n\2$", text, re.M | re.S)
    assert not re.sub(r"^([a-z-]+)<<(\w+)\n(.*?)\n\2\n", "", text, flags=re.M | re.S), "nothing else is there"
    return {name: value for name, _, value in found}


@pytest.fixture(scope="module")
def home() -> Iterator[Runner]:
    # Not tmp_path: sockets below it need a short path.
    root = Path(tempfile.mkdtemp(prefix="sky-gha-"))
    runner = Runner(root)
    try:
        yield runner
    finally:
        runner.sky("down", "-a", "-y")
        runner.sky("api", "stop")
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def runner(home: Runner) -> Iterator[Runner]:
    home.said = ""
    (home.work / "task.yaml").write_text("resources: {infra: local}\nenvs: {WHO: nobody}\nrun: echo hello $WHO\n")
    yield home
    assert home.clusters() == [], "nothing is left"
    assert list(home.temp.glob("sky-*.json*")) == []


def test_it_is_what_the_schema_of_actions_wants():
    checker = str(Path(sys.executable).with_name("check-jsonschema"))
    for schema, files in (
        ("vendor.github-actions", [ROOT / "action.yml"]),
        ("vendor.github-workflows", sorted((ROOT / "examples").glob("*.yml"))),
    ):
        done = subprocess.run(
            [checker, "--builtin-schema", schema, *map(str, files)], capture_output=True, text=True, check=False
        )
        assert files and done.returncode == 0, done.stdout


def test_inputs_and_outputs_are_all_used_and_documented():
    readme = (ROOT / "README.md").read_text()
    passed = " ".join(value for step in ACTION["runs"]["steps"] for value in step["env"].values())
    for name in ACTION["inputs"]:
        assert f"inputs.{name} " in passed, f"{name} goes nowhere"
        assert f"| `{name}` |" in readme, name
    for name, output in ACTION["outputs"].items():
        assert f"steps.run.outputs.{name} " in output["value"]
        assert f"`{name}`" in readme, name


def test_a_task_runs_and_tells_how_it_went(runner):
    done = runner.run(task="task.yaml", envs="# who\nWHO=you = me\n")
    assert done.code == 0, done.text
    assert "hello you = me" in done.text
    told = done.outputs
    assert (told["status"], told["exit-code"], told["job-id"], told["infra"]) == ("SUCCEEDED", "0", "1", "local")
    assert told["cluster"].startswith("gh-my-repo-77-train-") and told["cost"] == "0.0000" and told["request-id"]
    assert "| status | `SUCCEEDED` |" in done.summary


def test_a_job_that_fails_fails_the_step(runner):
    done = runner.run(command="exit 7", infra="local")
    assert (done.code, done.outputs["status"], done.outputs["exit-code"]) == (100, "FAILED", "100")
    assert "::error::job 1" in done.text


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "give a task"),
        ({"mode": "dance", "command": "true"}, "mode: found 'dance'"),
        ({"command": "true", "wait": "maybe"}, "allowed: true, false"),
        ({"command": "true", "timeout_minutes": "soon"}, "expected a number of minutes"),
        ({"command": "true", "envs": "1A=2"}, "line 1 is not NAME=VALUE"),
        ({"command": "true", "secrets": "hushhush"}, "line 1 is not NAME=VALUE"),
        ({"mode": "down"}, "give the cluster"),
        ({"task": "no-such.yaml"}, "no-such.yaml"),
        ({"command": "true", "infra": "local", "gpus": "H100:8"}, "::error title=ResourcesUnavailableError"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(runner, inputs, words):
    done = runner.run(**inputs)
    assert done.code in (1, 2) and words in done.text and "Traceback" not in done.text
    assert "hushhush" not in done.text


def test_inputs_are_data(runner):
    mischief = "\"; touch pwned; $(touch pwned) `touch pwned` '"
    done = runner.run(command="printenv X", infra="local", envs=f"X={mischief}")
    assert done.code == 0 and mischief in done.text
    for name in ("task", "name", "cluster", "infra", "gpus", "mode", "endpoint", "package"):
        runner.run(**{"command": "true", "infra": "local", name: mischief})
    assert list(runner.work.glob("**/pwned")) == []


def test_secrets_are_masked_before_anything_else_is_said(runner):
    done = runner.run(command="echo the secret is $KEY", infra="local", secrets="KEY=open sesame", token="sky_hidden")
    masks = [line for line in done.text.splitlines() if line.startswith("::add-mask::")]
    assert masks[:2] == ["::add-mask::sky_hidden", "::add-mask::open sesame"]
    first = next(line for line in done.text.splitlines() if "open sesame" in line or "sky_hidden" in line)
    assert first == masks[0]
    assert "open sesame" not in runner.sky("api", "status", "-a", "-o", "json")


def test_a_job_cannot_give_the_runner_commands(runner):
    done = runner.run(command="echo ::set-output name=x::y; echo ::error::no", infra="local")
    token = re.search(r"^::stop-commands::(\w+)$", done.text, re.M)
    assert token is not None and done.code == 0
    inside = done.text[token.end() : done.text.index(f"\n::{token[1]}::\n")]
    assert "::set-output name=x::y" in inside and "::error::no" in inside


def test_a_named_cluster_stays_is_used_and_taken_down(runner):
    assert runner.run(command="true", infra="local", cluster="mine").code == 0
    assert runner.clusters() == ["mine"]
    done = runner.run(command="echo again", mode="exec", cluster="mine")
    assert (done.code, done.outputs["job-id"]) == (0, "2")
    assert runner.run(mode="down", cluster="mine").outputs["status"] == "DOWN"


def test_a_managed_job(runner):
    done = runner.run(command="exit 1", infra="local", mode="managed", name="m")
    assert (done.code, done.outputs["cluster"]) == (100, f"m-{done.outputs['job-id']}")


def test_without_waiting_it_is_submitted_and_tidies_itself_up(runner):
    done = runner.run(command="echo late", infra="local", wait="false")
    assert (done.code, done.outputs["status"]) == (0, "SUBMITTED") and "exit-code" not in done.outputs
    runner.sky("api", "get", done.outputs["request-id"])
    assert runner.clusters() == [done.outputs["cluster"]]
    # Its nodes would take it down some idle minutes after the job: not waited for.
    runner.sky("down", "-y", done.outputs["cluster"])


def test_time_that_is_up_calls_it_off(runner):
    done = runner.run(command="echo begun; sleep 600", infra="local", timeout_minutes="0.05")
    assert done.outputs["status"] == "TIMED_OUT" and done.code in (100, 103), done.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_workflow_that_is_cancelled_leaves_nothing(runner, number):
    done = in_background(runner, number, tidy=False)
    assert (done.code, done.outputs["status"]) == (103, "CANCELLED"), done.text


def test_what_a_killed_step_left_is_tidied_up(runner):
    done = in_background(runner, signal.SIGKILL, tidy=True)
    assert done.code != 0 and "calling off what was begun" in done.text


def in_background(runner: Runner, number: signal.Signals, *, tidy: bool) -> Result:
    """Run, and send the step's own process a signal once its job has begun."""
    found: list[Result] = []
    thread = threading.Thread(
        target=lambda: found.append(runner.run(command="echo begun; sleep 600", infra="local", tidy=tidy))
    )
    thread.start()
    until = time.monotonic() + 60
    while "\nbegun" not in runner.said and ") begun" not in runner.said:
        assert time.monotonic() < until and thread.is_alive(), runner.said
        time.sleep(0.05)
    assert runner.begun is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(runner.begun.pid, number)
    thread.join(60)
    assert not thread.is_alive()
    return found[0]

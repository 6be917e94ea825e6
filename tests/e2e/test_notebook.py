"""What a notebook shows and runs, in IPython itself, with a real server."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from patience import until

import sky
import sky.local
from sky.sdk.notebook import html

pytestmark = [pytest.mark.e2e]


@pytest.fixture(scope="module")
def shell() -> Iterator[Any]:
    # Not tmp_path: sockets below it need a short path.
    root = Path(tempfile.mkdtemp(prefix="sky-note-"))
    kept = {name: os.environ.get(name) for name in ("HOME", "IPYTHONDIR", "SKYPILOT_API_SERVER_ENDPOINT")}
    os.environ |= {"HOME": str(root), "IPYTHONDIR": str(root / "ipython")}
    made = InteractiveShell()
    # Its history is a database that nobody closes.
    made.history_manager.enabled = False
    try:
        with sky.local.embedded(root / "s") as where:
            os.environ["SKYPILOT_API_SERVER_ENDPOINT"] = where
            made.run_cell("%load_ext sky").raise_error()
            yield made
            made.run_cell("%unload_ext sky").raise_error()
    finally:
        made.history_manager.end_session()
        made.atexit_operations()
        atexit.unregister(made.atexit_operations)
        InteractiveShell.clear_instance()
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(root, ignore_errors=True)


def shown(shell: Any, value: object) -> str:
    formats, _ = shell.display_formatter.format(value)
    return formats.get("text/html", "")


def test_a_cell_runs_as_a_job_on_a_cluster_that_stays(shell, capsys):
    shell.run_cell("%%sky c --infra local\necho hello from $(hostname)\n").raise_error()
    assert "hello from" in capsys.readouterr().out
    shell.run_cell("%%sky c\necho again\n").raise_error()
    assert "again" in capsys.readouterr().out
    failed = shell.run_cell("%%sky c\nexit 4\n")
    assert isinstance(failed.error_in_exec, sky.exceptions.JobError)
    assert [job["job_id"] for job in sky.get(sky.queue("c"))] == [3, 2, 1]
    table = shown(shell, sky.get(sky.status()))
    assert "<td>c</td>" in table and "<td>UP</td>" in table
    assert "<td>FAILED</td>" in shown(shell, sky.get(sky.queue("c")))
    capsys.readouterr()
    shell.run_cell("%sky down -y c").raise_error()
    assert sky.get(sky.status()) == []


def test_a_cell_may_take_its_cluster_down(shell, capsys):
    shell.run_cell("%%sky once --infra local --down\ntrue\n").raise_error()
    until(lambda: sky.get(sky.status()) == [])


@pytest.mark.parametrize("line", ["", "c --no-such", "c --num-nodes x"])
def test_a_wrong_line_ends_no_notebook(shell, line):
    assert isinstance(shell.run_cell(f"%%sky {line}\ntrue\n").error_in_exec, ValueError)


def test_a_task_and_its_plan_are_tables(shell):
    task = sky.Task(
        name="t", run="echo '<script>'", envs={"A": "1"}, secrets={"KEY": "hushhush"},
        resources=sky.Resources(infra="local", cpus="1+"),
    )  # fmt: skip
    table = shown(shell, task)
    assert "&lt;script&gt;" in table and "<script>" not in table
    assert "KEY" in table and "hushhush" not in table
    assert "<td>local</td>" in shown(shell, sky.get(sky.optimize(task)))


def test_what_is_no_record_is_left_alone(shell):
    assert html([1, 2]) is html({"a": 1}) is html([]) is html("text") is None
    assert shown(shell, [1, 2]) == ""

"""The command as a process: help, unknown words, features of later, and how much is loaded for them."""

import json
import os
import subprocess
import sys

import pytest

from sky.cli import exit_codes
from sky.cli.table_of_commands import API_ROWS, GPUS_ROWS, HIDDEN_COMMANDS, LATER_COMMANDS, SECTIONS
from sky.core.errors import JobExitCode

#: Modules that no quick command may load: each costs more than the whole command may take.
HEAVY = ("asyncio", "yaml", "msgspec", "sqlalchemy", "ssl", "uvicorn", "httpx", "rich")


def sky(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sky.cli", *words], capture_output=True, text=True, env={**os.environ, **env}, timeout=60
    )


def loaded(*words: str) -> set[str]:
    code = (
        "import json, sys\nfrom sky.cli import main\n"
        f"main({list(words)!r})\nsys.stdout.flush()\nprint(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_lists_every_command_in_the_order_of_the_interface() -> None:
    done = sky("--help")
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line.split()]
    order = ["launch", "exec", "status", "cost-report", "queue", "logs", "cancel", "stop", "autostop", "start", "down"]
    assert [name for name in names if name in order] == order
    assert {"check", "gpus", "api", *(row[0] for row in LATER_COMMANDS)} <= set(names)


def test_no_words_show_the_help_as_a_usage_error() -> None:
    done = sky()
    assert (done.returncode, done.stdout) == (exit_codes.USAGE, sky("-h").stdout)


def test_help_loads_nothing_heavy() -> None:
    modules = loaded("--help")
    assert not modules & {*HEAVY, "click", "http.client"}
    assert len([name for name in modules if name.startswith("sky")]) <= 5


def test_help_of_a_command_loads_click_and_that_command() -> None:
    modules = loaded("api", "--help")
    assert "click" in modules
    assert not modules & set(HEAVY)


def test_version() -> None:
    assert sky("--version").stdout.startswith("sky, version 0.")
    assert sky("-c").stdout.startswith("sky, commit ")


def test_unknown_words_are_usage_errors_with_a_near_word() -> None:
    done = sky("luanch")
    assert done.returncode == exit_codes.USAGE
    assert "Did you mean 'launch'?" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", [row[0] for row in LATER_COMMANDS])
def test_features_of_later_say_so(name: str) -> None:
    done = sky(name, "any", "--thing", "-x")
    assert done.returncode == exit_codes.ERROR
    assert "not supported yet in this version" in done.stderr
    assert done.stdout == ""


def test_every_row_of_the_tables_names_a_command() -> None:
    import importlib

    import click

    rows = [row for _, rows in SECTIONS for row in rows] + [*HIDDEN_COMMANDS, *API_ROWS, *GPUS_ROWS]
    for name, target, text in rows:
        module, attribute = target.split(":")
        assert isinstance(getattr(importlib.import_module(module), attribute), click.Command), name
        assert text.endswith("."), name


def test_exit_codes_of_jobs_are_those_of_the_sdk() -> None:
    assert {code: int(code) for code in JobExitCode if code} == {
        JobExitCode.FAILED: exit_codes.JOB_FAILED,
        JobExitCode.NOT_FINISHED: exit_codes.JOB_NOT_FINISHED,
        JobExitCode.NOT_FOUND: exit_codes.JOB_NOT_FOUND,
        JobExitCode.CANCELLED: exit_codes.JOB_CANCELLED,
    }


def test_a_reader_that_leaves_is_no_failure() -> None:
    script = f"{sys.executable} -m sky.cli --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() in ("0", str(exit_codes.PIPE_CLOSED))
    assert done.stderr == ""


@pytest.mark.parametrize(("words", "hinted"), [(["exec", "c", "git", "log", "-1"], True), (["status", "-1"], False)])
def test_an_option_of_the_users_command_is_told_apart(words: list[str], hinted: bool) -> None:
    done = sky(*words)
    assert (done.returncode, "put that command in quotes" in done.stderr) == (exit_codes.USAGE, hinted)

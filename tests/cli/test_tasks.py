"""From entrypoint and options to a task: what wins over what, and what is taken away."""

from pathlib import Path
from typing import Any

import click
import pytest

from sky.cli.entrypoint import classify
from sky.cli.tasks import make_task, pairs, resources_override
from sky.core.errors import InvalidSkyPilotConfigError

TASK = """\
name: train
num_nodes: 2
resources:
  infra: aws/us-east-1
  cpus: 4+
  accelerators: H100:8
envs:
  MODEL: small
  TOKEN: ~
run: echo $MODEL
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.yaml").write_text(TASK)
    return tmp_path


def config(words: tuple[str, ...] = ("task.yaml",), **flags: Any) -> dict[str, Any]:
    return make_task(classify(words), {"env": ("TOKEN=t",), **flags}).to_yaml_config(redact_secrets=False)


def test_a_command_is_a_task() -> None:
    made = make_task(classify(("echo", "hi")), {"gpus": "H100:0.5", "infra": "local", "name": "n"})
    assert (made.name, made.run, made.num_nodes) == ("n", "echo hi", 1)
    assert made.to_yaml_config()["resources"] == {"infra": "local", "accelerators": {"H100": 0.5}}


def test_options_win_over_the_file() -> None:
    made = config(name="other", num_nodes=3, cpus="8", infra="local", env=("MODEL=big", "TOKEN=t"))
    assert (made["name"], made["num_nodes"], made["envs"]) == ("other", 3, {"MODEL": "big", "TOKEN": "t"})
    assert made["resources"] == {"infra": "local", "cpus": "8", "accelerators": {"H100": 8}}


def test_none_takes_away_what_the_file_says() -> None:
    made = config(gpus="none", infra="None", cpus="none")
    assert made.get("resources") in (None, {})


@pytest.mark.parametrize("part", ["cloud", "region", "zone"])
def test_infra_excludes_its_parts(part: str) -> None:
    with pytest.raises(click.UsageError, match="drop --cloud"):
        resources_override({"infra": "aws", part: "x"})


def test_values_of_options() -> None:
    flags = {"ports": ("8080", "9000-9010, 22"), "disk_size": "100", "priority": "-5", "use_spot": False}
    assert resources_override(flags) == {
        "ports": ["8080", "9000-9010", "22"],
        "disk_size": 100,
        "priority": -5,
        "use_spot": False,
    }
    assert resources_override({"ports": ("none",), "priority": "high"}) == {"ports": None, "priority": "high"}


def test_a_lone_name_copies_the_local_value() -> None:
    assert pairs(("A", "B=x=y", "C="), "--env", {"A": "1"}) == {"A": "1", "B": "x=y", "C": ""}


def test_a_lone_name_that_is_not_set_says_so() -> None:
    with pytest.raises(click.UsageError, match="HF_TOKEN is not set here"):
        pairs(("HF_TOKEN",), "--env", {})


def test_a_bad_name_is_refused_without_showing_its_value() -> None:
    with pytest.raises(click.UsageError) as caught:
        pairs(("1A=verysecret",), "--secret", {})
    assert "verysecret" not in caught.value.message


def test_options_beat_env_files(here: Path) -> None:
    (here / "vars.env").write_text("MODEL=from-file\nTOKEN='from file'\nexport EXTRA=1\n")
    made = config(env_file="vars.env", env=("MODEL=from-option",))
    assert made["envs"] == {"MODEL": "from-option", "TOKEN": "from file", "EXTRA": "1"}


def test_a_declared_secret_in_an_env_file_is_kept_secret(here: Path) -> None:
    (here / "s.yaml").write_text("secrets: {HF_TOKEN: null}\nrun: echo hi\n")
    (here / "vars.env").write_text("HF_TOKEN=hidden\nOPEN=1\n")
    task = make_task(classify(("s.yaml",)), {"env_file": "vars.env"})
    assert task.envs == {"OPEN": "1"}
    assert task.secrets["HF_TOKEN"].get_secret_value() == "hidden"
    assert "hidden" not in str(task.to_yaml_config()) + repr(task)
    again = make_task(classify(("s.yaml",)), {"env_file": "vars.env", "secret": ("HF_TOKEN=newer",)})
    assert again.secrets["HF_TOKEN"].get_secret_value() == "newer"


def test_a_missing_env_file_is_a_usage_error() -> None:
    with pytest.raises(click.UsageError, match=r"--env-file.*gone.env"):
        config(env_file="gone.env")


def test_a_variable_left_open_names_itself() -> None:
    with pytest.raises(InvalidSkyPilotConfigError, match="TOKEN"):
        make_task(classify(("task.yaml",)), {})


def test_complaints_about_a_file_name_file_and_line(here: Path) -> None:
    (here / "bad.yaml").write_text("run: echo\nresources:\n  accelerator: H100\n")
    with pytest.raises(InvalidSkyPilotConfigError, match=r"bad.yaml:3:3"):
        make_task(classify(("bad.yaml",)), {})


def test_pipelines_are_for_managed_jobs(here: Path) -> None:
    (here / "p.yaml").write_text("name: p\n---\nrun: a\n---\nrun: b\n")
    with pytest.raises(InvalidSkyPilotConfigError, match="2 tasks"):
        make_task(classify(("p.yaml",)), {})


def test_workdir_and_git_url_exclude_each_other() -> None:
    with pytest.raises(click.UsageError, match="pass one"):
        config(workdir=".", git_url="https://example.com/r.git")


def test_workdir_from_an_option(here: Path) -> None:
    (here / "code").mkdir()
    assert Path(config(workdir="code")["workdir"]).name == "code"
    assert config(git_url="https://example.com/r.git", git_ref="main")["workdir"] == {
        "url": "https://example.com/r.git",
        "ref": "main",
    }

"""What `ENTRYPOINT...` means."""

from pathlib import Path

import click
import pytest

from sky.cli.entrypoint import Entrypoint, classify


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_is_a_task_that_runs_nothing() -> None:
    assert classify(()) == Entrypoint()


@pytest.mark.parametrize("words", [("echo", "hi"), ("echo hi",), ("nvidia-smi",), ("cat missing.yaml",)])
def test_words_are_a_command(words: tuple[str, ...]) -> None:
    assert classify(words) == Entrypoint(command=" ".join(words))


@pytest.mark.parametrize("name", ["task.yaml", "task.YML", "task"])
def test_a_yaml_file_is_a_task(here: Path, name: str) -> None:
    (here / name).write_text("# comment\n---\nrun: echo hi\n")
    assert classify((name,)) == Entrypoint(yaml="# comment\n---\nrun: echo hi\n", source=name)


def test_a_byte_order_mark_is_no_part_of_the_text(here: Path) -> None:
    (here / "t.yaml").write_bytes(b"\xef\xbb\xbfrun: echo hi\n")
    assert classify(("t.yaml",)).yaml == "run: echo hi\n"


@pytest.mark.parametrize("name", ["job.sh", "train.py"])
def test_a_script_is_a_command(here: Path, name: str) -> None:
    (here / name).write_text("echo hi\n")
    assert classify((name,)).command == name


def test_an_executable_is_a_command(here: Path) -> None:
    (here / "run").write_text("#!/bin/sh\nkey: value\n")
    (here / "run").chmod(0o755)
    assert classify(("./run",)).command == "./run"


def test_a_command_that_is_also_a_directory_is_a_command(here: Path) -> None:
    (here / "make").mkdir()
    assert classify(("make",)).command == "make"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("notes", b"just words\n", "is no task YAML"),
        ("t.yaml", b"\xff\xfe\x00", "not text"),
        ("t.yaml", b"a: " + b"x" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_files_that_are_no_task_say_so(here: Path, name: str, content: bytes, complaint: str) -> None:
    (here / name).write_bytes(content)
    with pytest.raises(click.UsageError, match=complaint):
        classify((name,))


def test_a_missing_task_file_says_where_it_was_looked_for(here: Path) -> None:
    with pytest.raises(click.UsageError, match=r"'gone.yaml' does not exist") as caught:
        classify(("gone.yaml",))
    assert str(here) in caught.value.message


def test_a_directory_is_refused(here: Path) -> None:
    (here / "d").mkdir()
    with pytest.raises(click.UsageError, match="is a directory"):
        classify(("./d",))


def test_recipes_are_for_later() -> None:
    with pytest.raises(click.UsageError, match="not supported yet"):
        classify(("recipes:vllm",))

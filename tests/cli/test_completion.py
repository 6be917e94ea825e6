"""Shell completion: installed once, taken out without a trace, and run by a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "sky"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m sky.cli "$@"\n')
    command.chmod(0o755)
    return tmp_path


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}", "SHELL": "/bin/bash"}
    env["SKY_STATE_DIR"] = str(home / "state")
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        env.pop(name, None)
    return subprocess.run(list(words), capture_output=True, text=True, env=env, timeout=60)


@pytest.mark.parametrize(("shell", "file"), [("bash", ".bashrc"), ("zsh", ".zshrc"), ("auto", ".bashrc")])
def test_installing_twice_changes_nothing_and_uninstalling_restores(home: Path, shell: str, file: str) -> None:
    start_up = home / file
    start_up.write_text("alias a=b\nexport X=1")
    assert run(home, "sky", "--install-shell-completion", shell).returncode == 0
    once = start_up.read_text()
    assert once.startswith("alias a=b\nexport X=1\n# >>> sky completion >>>\n")
    run(home, "sky", "--install-shell-completion", shell)
    assert start_up.read_text() == once
    run(home, "sky", "--uninstall-shell-completion", shell)
    assert start_up.read_text() == "alias a=b\nexport X=1\n"


def test_fish_needs_no_start_up_file(home: Path) -> None:
    run(home, "sky", "--install-shell-completion", "fish")
    script = home / ".config/fish/completions/sky.fish"
    assert "sky" in script.read_text()
    run(home, "sky", "--uninstall-shell-completion", "fish")
    assert not script.exists()


def complete(home: Path, *words: str) -> list[str]:
    """What a real bash offers for the last word."""
    run(home, "sky", "--install-shell-completion", "bash")
    script = (
        f"source {home}/.bashrc; COMP_WORDS=({' '.join(words) or 'sky'}); COMP_CWORD={len(words) - 1}; "
        '_sky_completion sky; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return run(home, "bash", "--norc", "-c", script).stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_commands_and_options(home: Path) -> None:
    assert complete(home, "sky", "st") == ["status", "stop", "start", "storage"]
    assert complete(home, "sky", "api", "ca") == ["cancel"]
    assert "--retry-until-up" in complete(home, "sky", "launch", "--ret")


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_key_press_starts_no_server(home: Path) -> None:
    assert complete(home, "sky", "stop", "my") == []
    assert not (home / "state").exists()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_files_and_directories_are_left_to_the_shell(home: Path) -> None:
    def offered(*words: str) -> list[str]:
        told = {"_SKY_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        assigned = " ".join(f"{key}='{value}'" for key, value in told.items())
        return run(home, "bash", "--norc", "-c", f"{assigned} sky").stdout.split()

    assert offered("sky", "launch", "ta") == ["file,ta"]
    assert offered("sky", "exec", "one", "ta") == ["file,ta"]
    assert offered("sky", "exec", "on") == []
    assert offered("sky", "launch", "--workdir", "ta") == ["dir,ta"]

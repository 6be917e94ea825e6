"""Ignore rules, held against git itself."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from sky.sdk.ignore import Ignores

FILES = [
    "a.txt",
    "b.log",
    "build/x.o",
    "build/keep/y.o",
    "src/a.txt",
    "src/build/z.o",
    "src/deep/er/file.log",
    "docs/index.md",
    "docs/[x].md",
    "data.csv/inner",
    ".hidden/f",
    "sp ace.txt",
    "foo/bar/baz",
    "bar/foo",
    "#hash",
    "!bang",
]

RULES = [
    "*.txt",
    "!a.txt",
    "build/",
    "/build",
    "!build/keep/",
    "**/*.log",
    "src/**",
    "src/**/file.log",
    "src/*",
    "!src/deep",
    "docs/*.md",
    "docs/[[]x].md",
    "docs/[!i]*.md",
    "**/foo",
    "foo/**/baz",
    "foo/*",
    "/*.log",
    "*",
    "!*/",
    "!*.md",
    "data.csv",
    "data.csv/",
    "\\#hash",
    "#hash",
    "\\!bang",
    "sp\\ ace.txt",
    "a.tx[a-z]",
    "a.t?t",
    "b.log  ",
    "bar/foo/",
    "**",
    "[z-a]",
    "*.o",
    "er",
    "deep/er",
    "/src/deep/er/",
]


def ours(top: Path) -> set[str]:
    ignores = Ignores(top)
    kept: set[str] = set()

    def walk(inside: str) -> None:
        ignores.enter(inside)
        for entry in sorted((top / inside).iterdir()):
            path = entry.relative_to(top).as_posix()
            if path == ".git" or ignores.leaves_out(path, entry.is_dir()):
                continue
            if entry.is_dir():
                walk(path)
            else:
                kept.add(path)

    walk("")
    return kept


def gits(repo: Path, top: Path) -> set[str]:
    listed = subprocess.run(
        ["git", "-C", str(top), "ls-files", "-z", "--others", "--cached", "--exclude-standard", "."],
        capture_output=True,
        check=True,
        env={"HOME": str(repo), "PATH": "/usr/bin:/bin:/usr/local/bin", "GIT_CONFIG_NOSYSTEM": "1"},
    )
    return {name.decode() for name in listed.stdout.split(b"\0") if name}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("seed", range(40))
def test_same_as_git(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    repo = tmp_path / "repo"
    top = choose.choice([repo, repo / "sub" / "proj"])
    for name in FILES:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("x")
    subprocess.run(["git", "init", "-q", str(repo)], check=True)
    for place in {top, repo, top / "src", repo / ".git" / "info"}:
        rules = choose.sample(RULES, choose.randint(0, 5))
        name = "exclude" if place.name == "info" else ".gitignore"
        (place / name).write_text("\n".join(rules) + "\n")
    ignored = subprocess.run(["git", "-C", str(repo), "check-ignore", "-q", str(top)], check=False).returncode == 0
    if ignored and top != repo:
        # To git such a folder is not there; to us it is what the user named.
        for place in (repo / ".gitignore", repo / ".git" / "info" / "exclude"):
            place.write_text("")
    assert ours(top) == gits(repo, top)


def test_skyignore_stands_alone(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".gitignore").write_text("*\n")
    (tmp_path / ".skyignore").write_text("# a comment\n\n*.log\n/build\n")
    kept = ours(tmp_path)
    assert "a.txt" in kept
    assert not any(name.endswith(".log") or name.startswith("build/") for name in kept)
    assert "src/build/z.o" in kept


def test_rules_above_do_not_count_outside_of_a_repository(tmp_path: Path) -> None:
    top = tmp_path / "work"
    top.mkdir()
    (top / "a").write_text("")
    (tmp_path / ".gitignore").write_text("*\n")
    assert ours(top) == {"a"}

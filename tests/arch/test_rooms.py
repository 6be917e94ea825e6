"""The house rules that a machine can keep: rooms, sizes, names, the porch."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "sky"
MODULES = sorted(path for path in SOURCE.rglob("*.py"))
ROOMS = ["kit", "agent", "core", "wire", "engine", "store", "providers", "remote", "server", "sdk", "compat", "cli"]
PORCH = sorted(path for path in SOURCE.glob("*.py") if path.name not in ("local.py", "version.py"))
GRAB_BAGS = {"utils", "util", "common", "helpers", "helper", "base", "misc"}


def program(name):
    return str(Path(sys.executable).with_name(name))


def short(path):
    return str(path.relative_to(SOURCE))


@cache
def tree(path):
    return ast.parse(path.read_text())


def test_import_rules_hold():
    done = subprocess.run([program("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_ruff_is_content():
    done = subprocess.run([program("ruff"), "check", "--no-cache", "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_formatting():
    done = subprocess.run(
        [program("ruff"), "format", "--no-cache", "--check", "."], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]


# Its cache is cold, and other tests run beside it.
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_types_are_strict():
    done = subprocess.run(
        [program("mypy"), "--cache-dir=/dev/null"], cwd=ROOT, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


def test_no_module_above_the_wall():
    assert [short(path) for path in MODULES if len(path.read_text().splitlines()) > 600] == []


def test_no_grab_bag_names():
    assert [short(path) for path in MODULES if path.stem in GRAB_BAGS or path.parent.name in GRAB_BAGS] == []


def test_every_module_says_why_it_exists():
    assert [short(path) for path in MODULES if path.read_text().strip() and not ast.get_docstring(tree(path))] == []


def functions():
    for path in MODULES:
        if "migrations" in path.parts:
            continue  # a migration is a list of statements, written once and never changed
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node, node.end_lineno - node.lineno + 1


def test_functions_are_short():
    lengths = sorted(length for _, _, length in functions())
    assert [f"{short(path)}:{node.name}" for path, node, length in functions() if length > 100] == []
    assert lengths[int(len(lengths) * 0.9)] <= 35


def test_no_global_statements():
    found = [short(path) for path in MODULES if any(isinstance(node, ast.Global) for node in ast.walk(tree(path)))]
    assert found == []


def test_nothing_pickles():
    for path in MODULES:
        names = {alias.name for node in ast.walk(tree(path)) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom)}
        assert not names & {"pickle", "cloudpickle", "dill", "marshal", "shelve"} or short(path) == "remote/package.py"


@pytest.mark.parametrize("path", PORCH, ids=short)
def test_the_porch_holds_no_logic(path):
    if path.name == "__init__.py":
        allowed = {"__getattr__", "__dir__"}
        defined = {node.name for node in tree(path).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert {name for name in defined if not name.startswith("_")} == set()
        assert allowed <= defined
    else:
        assert [n for n in tree(path).body if isinstance(n, ast.FunctionDef | ast.ClassDef)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_readme(room):
    text = (SOURCE / room / "README.md").read_text()
    assert "May import" in text
    assert "Read first" in text


def test_files_named_in_the_readmes_of_rooms_exist():
    for room in ROOMS:
        text = (SOURCE / room / "README.md").read_text()
        for word in text.split("`")[1::2]:
            if word.endswith(".py"):
                assert (SOURCE / room / word).exists() or (ROOT / word).exists(), f"{room}/README.md names {word}"


def test_no_provider_is_named_outside_of_its_folder():
    """Only its folder, the agent's idle rule and what the interface itself enumerates may name a cloud in code."""
    for path in [*(SOURCE / "engine").rglob("*.py"), *(SOURCE / "core" / "lifecycle").rglob("*.py"),
                 *(SOURCE / "core" / "optimizer").rglob("*.py"), *(SOURCE / "store").rglob("*.py")]:  # fmt: skip
        strings = {n.value for n in ast.walk(tree(path)) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        assert not strings & {"local", "aws", "gcp", "azure", "kubernetes", "slurm", "ssh"}, short(path)

"""The import contracts, tried on a copy of the tree with something planted in it: each is broken by what it forbids."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Where, what, and the words of the contract that has to break.
PLANTS = {
    "a new top-level package": ("newroom/__init__.py", '"""New."""\n', "Rooms are stacked"),
    "a new package in the core": ("core/extra/__init__.py", '"""New."""\n', "Inside the core"),
    "a clock in the core": ("core/model/planted.py", "import time\n", "The core does no I/O"),
    "a foreign library in the core": ("core/policy/planted.py", "import msgspec\n", "The core does no I/O"),
    "the server in the client": ("sdk/planted.py", "from sky.server import api\n", "Client and agent never carry"),
    "our own code in the agent": ("agent/planted.py", "from sky.kit import clock\n", "standard library only"),
    "SQL in the engine": ("engine/planted.py", "import sqlite3\n", "Only the store speaks SQL"),
    "the wire in a cloud": ("providers/local/planted.py", "from sky.wire import codec\n", "not the wire"),
    "a sibling": ("store/planted.py", "from sky.engine import plane\n", "Rooms are stacked"),
    "the front door": ("wire/planted.py", "import sky\n", "front door"),
}


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("lint-imports"))
    env = os.environ | {"PYTHONPATH": str(tree / "src")}
    return subprocess.run([program, "--no-cache"], cwd=tree, capture_output=True, text=True, env=env)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the contracts are about."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_copy_itself_keeps_them(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("what", PLANTS)
def test_what_is_planted_is_found(tree: Path, what: str) -> None:
    path, text, contract = PLANTS[what]
    target = tree / "src" / "sky" / path
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)
    done = lint(tree)
    assert done.returncode != 0, "nothing broke"
    assert contract in done.stdout.split("Broken contracts")[-1], done.stdout[-3000:]

"""What the plugin costs whoever imports flytekit, and that a broken client breaks nothing but its use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_COST = """
import importlib.metadata as metadata, sys, time
real = metadata.entry_points
metadata.entry_points = lambda **asked: [] if asked.get("group") == "flytekit.plugins" else real(**asked)
import flytekit
assert "flytekitplugins.skypilot" not in sys.modules
begun = time.process_time()
import flytekitplugins.skypilot.connector
print(time.process_time() - begun, "sky" in sys.modules)
"""

_USE = """
import flytekit
from flytekitplugins.skypilot import SkyPilot
assert "flytekitplugins.skypilot" in sys.modules

@flytekit.task(task_config=SkyPilot(cluster_name="c"))
def t() -> int:
    return 1

try:
    t()
except Exception as error:
    print(error)
else:
    sys.exit("ran without a client")
"""


def python(code: str, **environment: str) -> str:
    env = {"TMPDIR": os.environ["TMPDIR"], **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("broken", ["missing", "raises", "another"])
def test_flytekit_is_imported_where_the_client_is_not_right(tmp_path: Path, broken: str) -> None:
    package = tmp_path / "sky"
    package.mkdir()
    first = "import sys\n"
    if broken == "missing":
        first += "sys.modules['sky'] = None\n"
    elif broken == "raises":
        package.joinpath("__init__.py").write_text("raise RuntimeError('half installed')")
    else:
        package.joinpath("__init__.py").write_text("STARS = 3")
    flow = tmp_path / "flow.py"
    flow.write_text(first + _USE)
    said = python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import flow",
        HOME=str(tmp_path), PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert "pip install altostratus" in said
    assert {"missing": "ModuleNotFoundError", "raises": "half installed", "another": "not the client"}[broken] in said


def test_importing_it_costs_little_above_flytekit() -> None:
    cost, loaded = min(python(_COST, HOME="/nowhere").split() for _ in range(3))
    assert loaded == "False"
    assert float(cost) < 0.050 * 2, f"{cost} s of processor time"

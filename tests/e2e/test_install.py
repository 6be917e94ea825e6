"""The distribution as a user gets it: a wheel built from this tree, installed where the tree cannot be seen, and used.

The dependencies are those of the environment that runs the tests: what is shown here is what our own wheel brings.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Fetching the build backend may take a while where it is not installed.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "minimal.yaml"
TOOLS = ("pip", "uv")
#: Beside the interpreter, where the dev extra puts it, or wherever the user has it.
UV = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))

_PROBE = """
import json, sys
import sky
from importlib.metadata import entry_points, version
from importlib.resources import files
before = set(sys.modules)
import sky.remote.package, sky.store.migrate, sky.store.schema
from alembic.script import ScriptDirectory
package = sky.remote.package.build()
print(json.dumps({
    "file": sky.__file__,
    "version": version("altostratus"),
    "own_version": sky.__version__,
    "loaded_by_import": sorted(name for name in before if name.startswith("sky")),
    "agent_bytes": len(package.data),
    "newest_migration": ScriptDirectory.from_config(sky.store.migrate.config()).get_current_head(),
    "revision": sky.store.schema.REVISION,
    "typed": files("sky").joinpath("py.typed").is_file(),
    "providers": sorted({each.name for each in entry_points(group="sky.providers")}),
    "command": [each.value for each in entry_points(group="console_scripts", name="sky")],
}))
"""


def command(*words: object, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300, **more)


def clean_environment(home: Path) -> dict[str, str]:
    """Nothing of the tree, of another server or of the user's own configuration."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SKY", "XDG", "PYTHON"))}
    return kept | {"HOME": str(home), "SKY_STATE_DIR": str(home / "s")}


def has_tool(tool: str) -> bool:
    return tool == "pip" or UV is not None


@pytest.fixture(scope="module", params=TOOLS)
def tool(request: pytest.FixtureRequest) -> str:
    if not has_tool(request.param):
        pytest.skip("uv is not on PATH")
    return str(request.param)


@pytest.fixture(scope="module")
def wheel(tool: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built by the tool; with the build backend that is installed, else with a fetched one."""
    out = tmp_path_factory.mktemp(f"wheel-{tool}")
    here = importlib.util.find_spec("hatchling") is not None
    # A seed that is there is taken; one that has to be compiled here does without the package of Amazon's record.
    settings = dict(os.environ) | ({} if importlib.util.find_spec("moto") else {"ALTOSTRATUS_SEED": "facts"})
    if tool == "pip":
        own = ["--no-build-isolation"] if here else []
        build = command(sys.executable, "-m", "pip", "wheel", ROOT, "--no-deps", *own, "-w", out, cwd=out, env=settings)
    else:
        own = ["--no-build-isolation", "--python", sys.executable] if here else []
        build = command(UV, "build", "--wheel", *own, "--out-dir", out, ROOT, cwd=out, env=settings)
    if build.returncode != 0 and not here and "hatchling" in build.stdout + build.stderr:
        pytest.skip("the build backend hatchling is neither installed nor to be fetched from here")
    assert build.returncode == 0, build.stdout + build.stderr
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(tool: str, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with our wheel, and with the tests' own dependencies behind it."""
    env = tmp_path_factory.mktemp(f"env-{tool}") / "env"
    if tool == "pip":
        venv.create(env, with_pip=False)
        interpreter = env / "bin" / "python"
        words = [sys.executable, "-m", "pip", "--python", interpreter, "install", "--no-index", "--no-deps", wheel]
    else:
        made = command(UV, "venv", "--python", sys.executable, env)
        assert made.returncode == 0, made.stderr
        interpreter = env / "bin" / "python"
        words = [UV, "pip", "install", "--python", interpreter, "--offline", "--no-deps", wheel]
    done = command(*words, cwd=env)
    assert done.returncode == 0, done.stdout + done.stderr
    # Searched after the environment's own packages; .pth files in there (an editable install of ours) are not read.
    here = env / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (here / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return interpreter


@pytest.fixture
def home() -> Iterator[Path]:
    # Not tmp_path: sockets below it need a short path.
    folder = Path(tempfile.mkdtemp(prefix="sky-inst-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_what_the_wheel_holds(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"sky", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    tracked = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "sky").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("sky/")} == tracked
    # A README explains a room to who reads the source; it is small enough to travel.
    kinds = {Path(name).suffix for name in names if name.startswith("sky/")}
    assert kinds <= {".py", ".md", ".typed", ".mako", ".z", ""}
    assert "sky/store/catalog/seed.sqlite.z" in names
    assert [name for name in names if name.endswith("/NOTICE")]
    assert not [name for name in names if {"tests", "docs", "examples", "benchmarks"} & set(Path(name).parts)]


def test_what_is_installed(python, home):
    done = command(python, "-P", "-c", _PROBE, env=clean_environment(home), cwd=home)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["file"]).is_relative_to(python.parents[1])
    assert found["version"] == found["own_version"]
    assert found["loaded_by_import"] == ["sky"]
    assert found["agent_bytes"] > 10_000
    assert found["newest_migration"] == found["revision"]
    assert found["typed"]
    assert {"local", "aws", "gcp", "azure"} <= set(found["providers"])
    assert found["command"] == ["sky.cli:main"]


def test_the_installed_command_works(python, home):
    sky, env = python.with_name("sky"), clean_environment(home)
    shown = command(sky, "--help", env=env, cwd=home)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("Usage: sky [OPTIONS] COMMAND")
    try:
        launched = command(sky, "launch", "-y", "-c", "c", EXAMPLE, env=env, cwd=home)
        assert launched.returncode == 0, launched.stdout + launched.stderr
        assert "Hello from node 0 of 1" in launched.stdout
        checked = command(sky, "check", "-o", "json", env=env, cwd=home)
        assert json.loads(checked.stdout)["default"]["local"]["enabled"] is True
    finally:
        gone = command(sky, "down", "-y", "c", env=env, cwd=home)
        stopped = command(sky, "api", "stop", env=env, cwd=home)
    assert (gone.returncode, stopped.returncode) == (0, 0), gone.stderr + stopped.stderr

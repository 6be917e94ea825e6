"""`integrations/skypilot-compat`: the name that other packages require, installed beside ours."""

import importlib.util
import json
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
OURS = ROOT / "integrations" / "skypilot-compat"
PROJECT = tomllib.loads((OURS / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: What packages ask for, as their own metadata has it.
ASKED = {"nemo-like": "skypilot[kubernetes] (>=0.12.3)", "oumi-like": "skypilot<0.13,>=0.12"}


def command(*words: object, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=250, **more)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Wheels of Altostratus and of the name, built from this tree."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("the build backend hatchling is not installed")
    out = tmp_path_factory.mktemp("wheels")
    words = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", out, ROOT, OURS]
    done = command(sys.executable, *words, cwd=out)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(out.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with both, the tests' own dependencies behind them, and two clients."""
    env = tmp_path_factory.mktemp("env") / "env"
    venv.create(env, with_pip=False)
    interpreter = env / "bin" / "python"
    words = ["-m", "pip", "--python", interpreter, "install", "--no-index", "--no-deps", *wheels]
    done = command(sys.executable, *words, cwd=env)
    assert done.returncode == 0, done.stdout + done.stderr
    here = env / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (here / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for name, asked in ASKED.items():
        info = here / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: {asked}\n")
    return interpreter


def test_it_holds_no_code(wheels: list[Path]) -> None:
    (ours,) = [each for each in wheels if each.name.startswith("skypilot-")]
    names = zipfile.ZipFile(ours).namelist()
    assert {name.split("/")[0] for name in names} == {f"skypilot-{PROJECT['version']}.dist-info"}
    assert PROJECT["dependencies"] == ["altostratus"]
    assert "Private :: Do Not Upload" in PROJECT["classifiers"]


def test_both_are_there_and_ask_for_nothing_that_is_missing(python: Path, tmp_path: Path) -> None:
    probe = (
        "import json, sky; from importlib.metadata import version;"
        "print(json.dumps([version('skypilot'), version('altostratus'), sky.__version__, sky.__file__]))"
    )
    done = command(python, "-P", "-c", probe, cwd=tmp_path, env={"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    named, ours, own, file = json.loads(done.stdout)
    assert named == PROJECT["version"]
    assert ours == own
    assert Path(file).is_relative_to(python.parents[1])
    checked = command(sys.executable, "-m", "pip", "--python", python, "check", cwd=tmp_path)
    concerned = ("skypilot", "altostratus", *ASKED)
    assert [line for line in checked.stdout.splitlines() if line.lower().startswith(concerned)] == []


def test_the_requirement_is_found_fulfilled(python: Path, tmp_path: Path) -> None:
    def asked(requirement: str) -> subprocess.CompletedProcess[str]:
        words = ["-m", "pip", "--python", python, "install", "--no-index", "--no-deps", requirement]
        return command(sys.executable, *words, cwd=tmp_path)

    assert "already satisfied" in asked("skypilot>=0.12,<0.13").stdout
    assert asked("skypilot>=0.13").returncode != 0


def test_extras_bring_what_we_have_for_them() -> None:
    main = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra, needs in PROJECT["optional-dependencies"].items():
        for need in needs:
            name, _, wanted = need.rstrip("]").partition("[")
            assert name == "altostratus"
            assert set(wanted.split(",")) <= set(main), extra

"""The core install stays small: at most 12 distributions and 25 MB, with loose pins."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MB = 1024 * 1024


def closure() -> set[str]:
    """Distributions that `pip install altostratus` brings, itself included."""
    found, todo = {"altostratus"}, [_name(each) for each in PROJECT["dependencies"]]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        for requirement in importlib.metadata.requires(name) or ():
            text, _, marker = requirement.partition(";")
            if "extra" not in marker and _applies(marker):
                todo.append(_name(text))
    return found


def _name(requirement: str) -> str:
    return re.split(r"[ ;<>=!~\[(]", requirement.strip())[0].lower().replace("_", "-")


def _applies(marker: str) -> bool:
    from packaging.markers import Marker

    return not marker.strip() or Marker(marker.strip()).evaluate()


def size(name: str) -> int:
    if name == "altostratus":
        files = (path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return sum(path.stat().st_size for path in files)
    listed = importlib.metadata.files(name) or ()
    return sum(
        Path(str(each.locate())).stat().st_size
        for each in listed
        if each.suffix != ".pyc" and Path(str(each.locate())).exists()
    )


def test_few_distributions():
    assert len(closure()) <= 12, sorted(closure())


def test_small_on_disk():
    total = sum(size(name) for name in closure())
    # Two thirds of it is SQLAlchemy.
    assert total <= 28 * MB, {name: round(size(name) / MB, 2) for name in sorted(closure())}


def test_pins_are_loose():
    assert [each for each in PROJECT["dependencies"] if re.search(r"==|<|~=", each)] == []

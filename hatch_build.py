"""Compiles the seed of the catalog when a wheel, an editable install or a source archive is built.

The seed (`src/sky/store/catalog/seed.sqlite.z`) is not under version control. It is compiled when it is missing or
older than what it is made of; a source archive carries it, so installing from one needs nothing more. Compiling takes
the data files of the package moto, which is asked for only then. By hand: `python hatch_build.py`.

    ALTOSTRATUS_SEED=facts   compile without moto: Amazon's types and zones beyond the facts are missing
    ALTOSTRATUS_SEED=skip    compile nothing: without a seed the program has no prices until it has fetched some
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # by hand, without the build backend
    BuildHookInterface = object

ROOT = Path(__file__).parent
SEED = ROOT / "src" / "sky" / "store" / "catalog" / "seed.sqlite.z"
SHORT = ("facts", "skip")
#: What decides the content of the seed, beside the facts.
COMPILER = (
    "store/catalog/seed.py", "store/catalog/facts.py", "store/catalog/descriptions.py", "store/catalog/build.py",
    "store/catalog/schema.py", "core/model/accelerator_names.py",
)  # fmt: skip


def made_of() -> list[Path]:
    """What the seed is compiled from, as far as it lies in this tree."""
    return [*(ROOT / "facts").glob("*.toml"), *(ROOT / "src" / "sky" / path for path in COMPILER)]


def stale() -> bool:
    """Whether there is something to compile. Without the facts (an installed tree) there never is."""
    sources = [path for path in made_of() if path.exists()]
    if not (ROOT / "facts").is_dir():
        return False
    return not SEED.exists() or SEED.stat().st_mtime < max(path.stat().st_mtime for path in sources)


def moto() -> str:
    """The release that the seed is made with, read without importing the compiler."""
    text = (SEED.parent / "seed.py").read_text(encoding="utf-8")
    found = re.search(r'^RECORD_RELEASE = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{SEED.parent / 'seed.py'} names no RECORD_RELEASE")
    return f"moto=={found[1]}"


def compile_here(how: str) -> None:
    """Compile the seed into this tree. Raises SystemExit with a plain sentence where that cannot be done."""
    if how not in ("", *SHORT):
        raise SystemExit(f"ALTOSTRATUS_SEED is {how!r}; allowed are {' and '.join(SHORT)}, or nothing")
    if how == "skip":
        return
    sys.path.insert(0, str(ROOT / "src"))
    try:
        from sky.store.catalog import seed  # noqa: PLC0415 - the path to it has only just been set
    finally:
        sys.path.pop(0)
    words = ["--facts", str(ROOT / "facts"), "--out", str(SEED), *(["--facts-only"] if how == "facts" else [])]
    if seed.main(words):
        raise SystemExit("the seed of the catalog was not compiled; the reason is above")
    if how == "facts":
        os.utime(SEED, (0, 0))  # good for this build only: the next one without the variable compiles the whole


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc, valid-type]
    """The hook that hatchling calls; it finds the class by being the only one."""

    def dependencies(self) -> list[str]:
        return [moto()] if stale() and os.environ.get("ALTOSTRATUS_SEED", "") not in SHORT else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if stale():
            compile_here(os.environ.get("ALTOSTRATUS_SEED", ""))


if __name__ == "__main__":
    compile_here(os.environ.get("ALTOSTRATUS_SEED", ""))

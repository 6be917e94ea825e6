"""An earlier version of the product, taken out of the repository, and its command and server as processes.

Which one: the newest tag `v*` below this commit that is not this commit's own, or what `SKY_COMPAT_REV` names.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_SEED = Path("src/sky/store/catalog/seed.sqlite.z")
_START = "import sys; from sky.cli import main; sys.exit(main())"


def git(*words: str) -> bytes | None:
    """What git says; None where it fails, or there is no repository."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True)
    return done.stdout if done.returncode == 0 else None


def previous() -> str:
    """The revision to be tried against; skips where there is none."""
    named = os.environ.get("SKY_COMPAT_REV")
    if named:
        return named
    tags = (git("tag", "--merged", "HEAD", "--list", "v*", "--sort=-v:refname") or b"").decode().split()
    here = (git("tag", "--points-at", "HEAD") or b"").decode().split()
    earlier = [each for each in tags if each not in here]
    if not earlier:
        pytest.skip(
            "no version is tagged before this one: the first tag v* would be tried (or SKY_COMPAT_REV=REVISION)"
        )
    return earlier[0]


def taken_out(revision: str, folder: Path) -> Path:
    """The tree of a revision. Its catalog is this tree's where it can be: compiling one takes a minute."""
    packed = git("archive", "--format=tar", revision, "src", "facts", "hatch_build.py")
    if packed is None:
        pytest.fail(f"git has no revision {revision!r}")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    shutil.copy(ROOT / _SEED, folder / _SEED)
    return folder


class Version:
    """One tree's command and server, in a home of their own."""

    def __init__(self, tree: Path, home: Path) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SKY", "XDG"))}
        self.env = {**kept, "HOME": str(home), "SKY_STATE_DIR": str(home / "s"), "PYTHONPATH": str(tree / "src")}
        self.state, self.home = home / "s", home

    def sky(self, *words: str, at: str | None = None, code: int = 0) -> str:
        """What the command prints; `at` is the address of a server, by default one's own."""
        env = {**self.env, **({"SKYPILOT_API_SERVER_ENDPOINT": at} if at else {})}
        done = subprocess.run(
            [sys.executable, "-c", _START, *words], env=env, cwd=self.home, capture_output=True, text=True, timeout=110
        )
        assert done.returncode == code, f"sky {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if code else "")

    def run(self, *words: str) -> str:
        """What its Python prints."""
        done = subprocess.run(
            [sys.executable, *words], env=self.env, cwd=self.home, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def schema(self) -> str:
        """The revision of the records that it knows."""
        return self.run("-c", "from sky.store.schema import REVISION; print(REVISION)")

    def bring_records_to(self, revision: str) -> None:
        """What one does before a step back, while no server runs."""
        self.run("-m", "sky.store", revision)

    def told(self, *words: str, at: str | None = None) -> Any:
        return json.loads(self.sky(*words, "-o", "json", at=at))

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Its server while it runs: the address. Clusters stay when it ends."""
        reader, writer = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", "sky.server", "--state", str(self.state), "--ready-fd", str(writer)],
            env=self.env, cwd=self.home, pass_fds=[writer], stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(writer)
        try:
            with os.fdopen(reader) as line:
                assert line.readline().strip() == "ready"
            from sky.kit.paths import socket_path

            yield f"unix://{socket_path(self.state)}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@contextmanager
def home() -> Iterator[Path]:
    """A folder for a home; not deep, for the path of a socket is short."""
    made = Path(tempfile.mkdtemp(prefix="sky-v-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)

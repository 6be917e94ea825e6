"""A household of its own for all tests: fresh home, a local Metaflow, and a Sky server on this machine."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import household
from household import end_when_told, kept, settle

HOME = settle("mfx-", "METAFLOW_", "AWS_", METAFLOW_USER="tester")
os.environ["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = str(HOME)
end_when_told()

FLOWS = Path(__file__).parent / "flows.py"
FAR = Path(__file__).parent / "far.py"
#: What flows are told, and nodes as well.
TOLD = ("MARKS", "TIMES", "MANAGED", "ENOUGH", "BREAKS")


class House(household.House):
    """The household, and runs of flows."""

    def start(self, kind: str, *words: object, **env: str) -> subprocess.Popen[str]:
        """A run of one of the flows."""
        told = {f"METAFLOW_TEST_{name}" if name in TOLD else name: value for name, value in env.items()}
        words = (FAR if kind == "Far" else FLOWS, "--no-pylint", *(words or ("run",)))
        return self.program(sys.executable, *words, cwd=self.home, METAFLOW_TEST_FLOW=kind, **told)

    def run(self, kind: str, *words: object, **env: str) -> tuple[int, str]:
        """Exit code and output of a run."""
        program = self.start(kind, *words, **env)
        said = self.end(program)
        return program.returncode, said

    def latest(self, kind: str) -> Any:
        """The newest run of a flow, as Metaflow's client sees it."""
        import metaflow

        metaflow.namespace(None)
        return metaflow.Flow(kind).latest_run


@pytest.fixture(scope="session")
def house_open() -> Iterator[House]:
    with kept(House(HOME)) as house:
        yield house


@pytest.fixture
def house(house_open: House) -> Iterator[House]:
    """The household; no test leaves a cluster."""
    yield house_open
    assert house_open.clusters() == []

"""A household of its own for all tests: fresh home, and a Sky server on this machine."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import household
from household import end_when_told, kept, settle

HOME = settle("kfx-", "KFP_", KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT="true")
end_when_told()

PIPELINES = Path(__file__).parent / "pipelines.py"


class House(household.House):
    """The household, and runs of pipelines."""

    def start(self, kind: str, **told: object) -> subprocess.Popen[str]:
        """A run of one of the pipelines by kfp's local runner."""
        return self.program(sys.executable, PIPELINES, kind, self.home, json.dumps(told), cwd=self.home)

    def run(self, kind: str, **told: object) -> tuple[int, str]:
        """Exit code and output of a run."""
        program = self.start(kind, **told)
        said = self.end(program)
        return program.returncode, said


@pytest.fixture(scope="session")
def house_open() -> Iterator[House]:
    with kept(House(HOME)) as house:
        yield house


@pytest.fixture
def house(house_open: House) -> Iterator[House]:
    """The household; no test leaves a cluster."""
    yield house_open
    assert house_open.clusters() == []

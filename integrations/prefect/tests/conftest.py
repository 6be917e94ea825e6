"""A household of its own for all tests: fresh home, a Prefect server and a Sky server on this machine, both real."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import household
from household import end_when_told, kept, settle

HOME = settle(
    "pfx-",
    "PREFECT_",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_LOGGING_TO_API_BATCH_INTERVAL="0.3",
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW="ignore",
    GIT_CONFIG_GLOBAL=os.devnull,
    GIT_CONFIG_SYSTEM=os.devnull,
)
end_when_told()

os.environ["PREFECT_HOME"] = str(HOME / ".prefect")
(HOME / ".sky").mkdir()
(HOME / ".sky" / "config.yaml").write_text("local:\n  accelerators: {H100: 8, A100: 8}\n")


class House(household.House):
    """The household; and runs, logs and artifacts of the Prefect server."""

    #: The Prefect server's address, once it has one.
    api_url = ""

    def client(self) -> Any:
        from prefect.client.orchestration import get_client

        return get_client(sync_client=True)

    def flow_runs(self, flow_name: str) -> list[Any]:
        from prefect.client.schemas.filters import FlowFilter, FlowFilterName

        with self.client() as client:
            return client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_name])))

    def state(self, flow_run_id: Any) -> Any:
        with self.client() as client:
            return client.read_flow_run(flow_run_id).state

    def log(self, flow_run_id: Any) -> str:
        """All lines that the Prefect server has of a flow run and its tasks."""
        from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

        with self.client() as client:
            found = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])), limit=200)
        return "\n".join(each.message for each in found)

    def artifacts(self, flow_run_id: Any, key: str) -> list[str]:
        """What a flow run has left under a key."""
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

        of_run = ArtifactFilterFlowRunId(any_=[flow_run_id])
        with self.client() as client:
            found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=of_run))
        return [str(each.data) for each in found if each.key == key]

    def program(self, *words: object, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        """A Python program that talks to both servers."""
        return super().program(sys.executable, *words, cwd=cwd, PREFECT_API_URL=self.api_url, **env)


@pytest.fixture(scope="session")
def house_open() -> Iterator[House]:
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    # The Prefect server is the inner one: it has ended when processes are counted.
    with kept(House(HOME)) as house, prefect_test_harness(server_startup_timeout=300):
        house.api_url = PREFECT_API_URL.value()
        yield house


@pytest.fixture
def house(house_open: House) -> Iterator[House]:
    """The household; no test leaves a cluster."""
    yield house_open
    assert house_open.clusters() == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of task files: `ok.yaml`, `fails.yaml`, `slow.yaml` and `typo.yaml`."""
    (tmp_path / "ok.yaml").write_text("name: ok\nresources: {infra: local}\nenvs: {WHO: world}\nrun: echo hello $WHO\n")
    (tmp_path / "fails.yaml").write_text(
        "name: fails\nresources: {infra: local}\nenvs: {MARKS: ''}\n"
        'run: |\n  [ -z "$MARKS" ] || echo x >> $MARKS\n  echo about to fail\n  exit 3\n'
    )
    (tmp_path / "slow.yaml").write_text(
        "name: slow\nresources: {infra: local}\nrun: |\n  echo it runs now\n  sleep 300\n"
    )
    (tmp_path / "typo.yaml").write_text("name: typo\nresources: {infra: local}\nrunn: echo hello\n")
    return tmp_path

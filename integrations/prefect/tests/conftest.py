"""A household of its own for all tests: fresh home, a Prefect server and a Sky server on this machine, both real."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Read by Prefect and the SDK when they are first imported. Short, since sockets lie in it.
HOME = Path(tempfile.mkdtemp(prefix="pfx-"))
(HOME / ".sky").mkdir()
(HOME / ".sky" / "config.yaml").write_text("local:\n  accelerators: {H100: 8, A100: 8}\n")
for name in [each for each in os.environ if each.startswith(("PREFECT_", "SKYPILOT_"))]:
    del os.environ[name]
os.environ |= {
    "HOME": str(HOME),
    "PREFECT_HOME": str(HOME / ".prefect"),
    "DO_NOT_TRACK": "1",
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.3",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}

# A run that was put into the background ignores Ctrl-C, and every program that it starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def until(what: Callable[[], Any], seconds: float = 180.0) -> Any:
    """What a question gives as soon as that is true; fails if it never is."""
    give_up = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < give_up, f"nothing came of it in {seconds:.0f} s"
        time.sleep(0.1)


class House:
    """What tests look at: the clusters of the Sky server, and runs, logs and artifacts of the Prefect server."""

    def __init__(self, api_url: str) -> None:
        self.api_url = api_url
        self.home = HOME

    def clusters(self) -> list[str]:
        """Names of all clusters that there are, in whatever state; those of managed jobs, which are hidden, too."""
        import sky

        # A managed job is DONE when nothing is left of its machines.
        managed = [each for each in sky.get(sky.jobs.queue()) if each.schedule_state != "DONE"]
        named = [str(each.current_cluster_name or f"of job {each.job_id}") for each in managed]
        return [each.name for each in sky.get(sky.status(all_users=True))] + named

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

    def artifacts(self, key: str) -> list[str]:
        with self.client() as client:
            return [str(each.data) for each in client.read_artifacts() if each.key == key]

    def program(self, *words: object, **env: str) -> subprocess.Popen[str]:
        """A program of this environment that talks to both servers, in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            env={**os.environ, "PREFECT_API_URL": self.api_url, "PYTHONUNBUFFERED": "1", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.fixture(scope="session")
def house_open() -> Iterator[House]:
    import sky
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        house = House(PREFECT_API_URL.value())
        yield house
        left = house.clusters()
        if left:
            # A test has failed: nothing of it may go on after the run.
            sky.get(sky.jobs.cancel(all=True))
            for each in sky.get(sky.status(all_users=True)):
                sky.get(sky.down(each.name))
            until(lambda: not house.clusters())
        sky.api_stop()
    shutil.rmtree(HOME, ignore_errors=True)
    assert left == []


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

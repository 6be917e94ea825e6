"""A household of its own for all tests: a fresh home, the processes of an Airflow and a Sky server, all of them real."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from household import House, end_when_told, kept, settle, until

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


API_PORT, SKY_PORT = free_port(), free_port()
HOME = settle(
    "afx-",
    "AIRFLOW_",
    AIRFLOW_VAR_JOB_KEY="not-for-logs",
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__EXECUTOR="LocalExecutor",
    AIRFLOW__CORE__PARALLELISM="4",
    AIRFLOW__CORE__FERNET_KEY="cGxlYXNlLWRvLW5vdC11c2UtdGhpcy1hbnl3aGVyZS0=",
    AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION="False",
    AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
    AIRFLOW__CORE__EXECUTION_API_SERVER_URL=f"http://127.0.0.1:{API_PORT}/execution/",
    AIRFLOW__API__HOST="127.0.0.1",
    AIRFLOW__API__PORT=str(API_PORT),
    AIRFLOW__API__WORKERS="1",
    AIRFLOW__API__SECRET_KEY=secrets.token_hex(16),
    AIRFLOW__API_AUTH__JWT_SECRET=secrets.token_hex(32),
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
    AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL="2",
    AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC="1",
    AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL="1",
    # How soon a task whose worker is gone is given to another.
    AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC="1",
    AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT="15",
    AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL="1",
    AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL="1",
    AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC="1",
)
end_when_told()

os.environ |= {"AIRFLOW_HOME": str(HOME / "airflow"), "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags")}


class SkySide(House):
    """What tests look at on the Sky server."""

    def ever(self, part: str) -> list[str]:
        """Names of all clusters that there ever were with this in their names."""
        import sky

        return sorted({each.name for each in sky.get(sky.cost_report()) if part in each.name})


class Flow:
    """The processes of one Airflow, and its API."""

    def __init__(self) -> None:
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token = ""

    def start(self, word: str, *more: str) -> None:
        with (HOME / f"{word}.log").open("ab") as log:
            self.processes[word] = subprocess.Popen(
                [str(BIN / "airflow"), word, *more], stdout=log, stderr=log, start_new_session=True
            )

    def stop(self, word: str, sign: int = signal.SIGTERM) -> None:
        """End one of the processes that were started here, and those that it has started."""
        process = self.processes.pop(word)
        if sign == signal.SIGTERM:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        import httpx

        base = f"http://127.0.0.1:{API_PORT}"
        with httpx.Client(base_url=base, trust_env=False, timeout=60) as client:
            if not self._token:
                self._token = client.get("/auth/token").raise_for_status().json()["access_token"]
            answer = client.request(
                method,
                f"/api/v2{path}",
                json=body,
                params=query,
                headers={"Authorization": f"Bearer {self._token}", "Accept": "application/json"},
            )
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def healthy(self) -> bool:
        import httpx

        if any(each.poll() is not None for each in self.processes.values()):
            return False
        try:
            with httpx.Client(trust_env=False, timeout=10) as client:
                told = client.get(f"http://127.0.0.1:{API_PORT}/api/v2/monitor/health").json()
        except (httpx.HTTPError, ValueError):
            return False
        return all(told[part]["status"] == "healthy" for part in ("scheduler", "triggerer", "dag_processor"))

    def dags(self) -> set[str]:
        return {each["dag_id"] for each in self.call("GET", "/dags")["dags"]}

    def run(self, dag_id: str, **conf: Any) -> "Flight":
        made = self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        return Flight(self, dag_id, made["dag_run_id"])


class Flight:
    """One run of a DAG."""

    def __init__(self, flow: Flow, dag_id: str, run_id: str) -> None:
        self.flow, self.dag_id, self.run_id = flow, dag_id, run_id
        self.path = f"/dags/{dag_id}/dagRuns/{run_id}"

    def task(self, task_id: str = "job") -> Any:
        return self.flow.call("GET", f"{self.path}/taskInstances/{task_id}")

    def state(self, task_id: str = "job") -> str | None:
        return self.task(task_id)["state"]

    def reaches(self, state: str, task_id: str = "job", seconds: float = 120.0) -> Any:
        """The task instance once it is in a state."""
        until(lambda: self.state(task_id) == state, seconds, lambda: f"{self.state(task_id)}\n{self.log(task_id)}")
        return self.task(task_id)

    def ends(self, seconds: float = 180.0) -> str:
        """How the run ended."""
        over = ("success", "failed")
        return str(until(lambda: (s := self.flow.call("GET", self.path)["state"]) in over and s, seconds, self.log))

    def log(self, task_id: str = "job", number: int | None = None) -> str:
        """The log of a try as Airflow's own interface shows it."""
        number = number or int(self.task(task_id)["try_number"])
        if not number:
            return ""
        told = self.flow.call("GET", f"{self.path}/taskInstances/{task_id}/logs/{number}", full_content="true")
        lines = told["content"] if isinstance(told["content"], list) else [told["content"]]
        return "\n".join(
            str(each.get("event", each)) + _errors(each) if isinstance(each, dict) else str(each) for each in lines
        )

    def says(self, what: str, task_id: str = "job", seconds: float = 120.0) -> None:
        until(lambda: what in self.log(task_id), seconds, lambda: self.log(task_id))

    def xcom(self, key: str, task_id: str = "job") -> Any:
        return self.flow.call("GET", f"{self.path}/taskInstances/{task_id}/xcomEntries/{key}", deserialize="true")[
            "value"
        ]

    def mark(self, state: str, task_id: str = "job") -> None:
        self.flow.call("PATCH", f"{self.path}/taskInstances/{task_id}", {"new_state": state})

    def clear(self, task_id: str = "job") -> None:
        body = {"dry_run": False, "dag_run_id": self.run_id, "task_ids": [task_id], "only_failed": False}
        self.flow.call("POST", f"/dags/{self.dag_id}/clearTaskInstances", body)


def _errors(line: dict[str, Any]) -> str:
    return "".join(f"\n{each.get('exc_type')}: {each.get('exc_value')}" for each in line.get("error_detail") or [])


@pytest.fixture(scope="session")
def sky_open() -> Iterator[SkySide]:
    import sky

    sky.api_start(host="127.0.0.1", port=SKY_PORT)
    with kept(SkySide(HOME)) as side:
        yield side


@pytest.fixture
def sky_side(sky_open: SkySide) -> Iterator[SkySide]:
    """The Sky server; no test leaves a cluster."""
    yield sky_open
    until(lambda: not sky_open.clusters(), 60, sky_open.clusters)


@pytest.fixture(scope="session")
def database() -> None:
    """Airflow's tables, and the folder of DAGs."""
    (HOME / "dags").mkdir()
    for folder in (HERE / "dags", HERE.parent / "examples" / "dags"):
        for path in folder.iterdir():
            if path.is_file():
                shutil.copy(path, HOME / "dags")
    subprocess.run([BIN / "airflow", "db", "migrate"], check=True, capture_output=True, timeout=200)


@pytest.fixture(scope="session")
def flow_open(database: None, sky_open: SkySide) -> Iterator[Flow]:
    token = (HOME / ".local" / "state" / "sky" / "token").read_text().strip()
    os.environ["AIRFLOW_CONN_SKY_FAR"] = (
        f'{{"conn_type": "sky", "host": "http://127.0.0.1:{SKY_PORT}", "password": "{token}"}}'
    )
    flow = Flow()
    try:
        flow.start("api-server")
        flow.start("dag-processor")
        flow.start("scheduler", "--skip-serve-logs")
        flow.start("triggerer", "--skip-serve-logs")
        until(flow.healthy, 200, lambda: "\n".join(p.read_text()[-3000:] for p in HOME.glob("*.log")))
        wanted = {"sky_train", "job_now", "job_deferred"}
        until(lambda: wanted <= flow.dags(), 120, lambda: (HOME / "dag-processor.log").read_text()[-5000:])
        yield flow
    finally:
        for word in list(flow.processes):
            flow.stop(word)


@pytest.fixture
def flow(flow_open: Flow, sky_side: SkySide) -> Flow:
    """An Airflow of scheduler, triggerer, DAG processor and API server; no test leaves a cluster."""
    return flow_open

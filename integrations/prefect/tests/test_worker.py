"""A pool of type `sky`, its worker and deployments, by Prefect's own commands."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sky
from prefect import flow
from prefect.deployments import run_deployment
from prefect.exceptions import InfrastructureNotFound
from prefect.states import Cancelling

from household import processes_of, until

FLOWS = Path(__file__).parent
POOL = "sky-pool"


def prefect(house: Any, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *words],
        env={**os.environ, "PREFECT_API_URL": house.api_url}, capture_output=True, text=True, timeout=350,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def pool(house_open: Any) -> Iterator[Any]:
    """A pool with one worker."""
    prefect(house_open, "work-pool", "create", POOL, "--type", "sky")
    worker = start_worker(house_open)
    yield house_open
    stop(house_open, worker)


def start_worker(house: Any, pool: str = POOL) -> Any:
    return house.program("-m", "prefect", "worker", "start", "--pool", pool, PREFECT_WORKER_QUERY_SECONDS="1")


def stop(house: Any, worker: Any) -> None:
    worker.send_signal(signal.SIGINT)
    house.end(worker)


def deploy(name: str, pool: str = POOL, cron: str | None = None, **job_variables: Any) -> str:
    source = flow.from_source(source=str(FLOWS), entrypoint="flows_of_pool.py:pooled")
    source.deploy(
        name=name,
        work_pool_name=pool,
        cron=cron,
        job_variables={"infra": "local", "env": {"GREETING": f"hello {name}"}, **job_variables},
        print_next_steps=False,
    )
    return f"pooled/{name}"


def test_a_deployment_runs_on_a_node_and_leaves_nothing(pool: Any, house: Any, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    name = deploy("runs", cpus="1+", cron="0 0 * * *")
    said = prefect(
        house, "deployment", "run", name, "--param", f"marks={marks}", "--param", "n=7", "--watch",
        "--watch-timeout", "300",
    )  # fmt: skip
    assert "Completed" in said, said
    with house.client() as client:
        (schedule,) = client.read_deployment_by_name(name).schedules
        assert (schedule.schedule.cron, schedule.active) == ("0 0 * * *", True)
    (run,) = [each for each in house.flow_runs("pooled") if each.state.is_completed()]
    number, task_id, greeting = marks.read_text().split(maxsplit=2)
    assert number == "7" and task_id.startswith("sky-") and greeting == "hello runs\n"
    until(lambda: "n is 7" in house.log(run.id))
    with house.client() as client:
        assert client.read_flow_run(run.id).infrastructure_pid.startswith("job:")
    until(lambda: not house.clusters())


def test_a_flow_that_fails_is_failed_not_crashed(pool: Any, house: Any, tmp_path: Path) -> None:
    name = deploy("fails")
    run = run_deployment(name, parameters={"marks": str(tmp_path / "m"), "fail": True}, timeout=300, poll_interval=0.5)
    until(lambda: not house.clusters())
    assert house.state(run.id).is_failed(), house.state(run.id)


def test_a_node_that_cannot_be_prepared_crashes_the_run(pool: Any, house: Any, tmp_path: Path) -> None:
    name = deploy("bad-setup", setup="echo no such wheel; exit 4")
    run = run_deployment(name, parameters={"marks": str(tmp_path / "m")}, timeout=300, poll_interval=0.5)
    until(lambda: not house.clusters())
    assert house.state(run.id).is_crashed(), house.state(run.id)
    until(lambda: "no such wheel" in house.log(run.id))


def test_a_run_is_cancelled_while_its_node_comes_up(pool: Any, house: Any, tmp_path: Path) -> None:
    name = deploy("pending", setup="sleep 200")
    run = run_deployment(name, parameters={"marks": str(tmp_path / "m")}, timeout=0)

    def submitted() -> bool:
        with house.client() as client:
            return bool(client.read_flow_run(run.id).infrastructure_pid)

    until(submitted)
    with house.client() as client:
        client.set_flow_run_state(run.id, Cancelling())
    until(lambda: house.state(run.id).is_cancelled())
    until(lambda: not house.clusters())
    assert not (tmp_path / "m").exists()


def test_a_run_is_cancelled_while_its_flow_runs(pool: Any, house: Any, tmp_path: Path) -> None:
    marks = tmp_path / "m"
    name = deploy("running")
    run = run_deployment(name, parameters={"marks": str(marks), "seconds": 200}, timeout=0)
    until(marks.exists)
    with house.client() as client:
        client.set_flow_run_state(run.id, Cancelling())
    until(lambda: house.state(run.id).is_cancelled())
    until(lambda: not house.clusters())


def test_a_worker_that_is_killed_leaves_its_runs_going_on_once(house: Any, tmp_path: Path) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate

    from prefect_sky.worker import SkyWorker

    with house.client() as client:
        template = SkyWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name="other", type="sky", base_job_template=template))
    marks = tmp_path / "m"
    name = deploy("orphan", pool="other")
    run = run_deployment(name, parameters={"marks": str(marks), "seconds": 12}, timeout=0)
    first = start_worker(house, "other")
    until(marks.exists)
    first.kill()
    first.communicate()
    second = start_worker(house, "other")
    until(lambda: house.state(run.id).is_completed())
    assert len(marks.read_text().splitlines()) == 1
    until(lambda: not house.clusters())
    stop(house, second)


def test_a_run_goes_to_a_cluster_that_is_there_and_stays(pool: Any, house: Any, tmp_path: Path) -> None:
    sky.get(sky.launch(sky.Task().set_resources(sky.Resources(infra="local")), cluster_name="shared"))
    try:
        name = deploy("shared", cluster_name="shared")
        run = run_deployment(name, parameters={"marks": str(tmp_path / "m")}, timeout=300, poll_interval=0.5)
        assert run.state.is_completed(), run.state
        with house.client() as client:
            assert client.read_flow_run(run.id).infrastructure_pid == "cluster:shared:1"
        assert house.clusters() == ["shared"]
    finally:
        sky.get(sky.down("shared"))


def power_cut(house: Any) -> int:
    """End everything that runs on this household's nodes at once, as when machines are taken away. How many those were."""
    struck = processes_of(house.home / ".local" / "state" / "sky" / "local")
    for pid in struck:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(struck)


def test_a_run_whose_node_is_taken_away_is_begun_anew_and_completes(pool: Any, house: Any, tmp_path: Path) -> None:
    marks = tmp_path / "m"
    name = deploy("taken")
    run = run_deployment(name, parameters={"marks": str(marks), "seconds": 10}, timeout=0)
    until(marks.exists)
    assert power_cut(house) > 2
    until(lambda: house.state(run.id).is_final())
    until(lambda: not house.clusters())
    assert house.state(run.id).is_completed(), house.state(run.id)
    assert len(marks.read_text().splitlines()) == 2


def test_a_server_that_nodes_elsewhere_cannot_reach_is_refused(pool: Any, house: Any, tmp_path: Path) -> None:
    name = deploy("far", infra="aws/us-east-1")
    run = run_deployment(name, parameters={"marks": str(tmp_path / "m")}, timeout=300, poll_interval=0.5)
    assert run.state.is_crashed()
    assert "machines elsewhere cannot reach" in run.state.message


def test_what_stays_on_the_workers_machine_and_what_is_secret() -> None:
    from prefect_sky.worker import Place, SkyJobConfiguration

    configuration = SkyJobConfiguration(
        command="prefect flow-run execute",
        env={
            "PREFECT_API_URL": "http://10.0.0.1/api", "PREFECT_API_KEY": "pnu_1", "PREFECT_HOME": "/h",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql://u:p@h/d", "N": "1",
        },
        secrets={"MINE": "s"}, resources={"cpus": "2+", "infra": "aws"}, infra="gcp", accelerators="H100:8",
    )  # fmt: skip
    envs, secrets = configuration.environment()
    assert envs == {"PREFECT_API_URL": "http://10.0.0.1/api", "N": "1"}
    assert secrets == {"PREFECT_API_KEY": "pnu_1", "MINE": "s"}
    task = configuration.task("prefect-x")
    (wanted,) = task.resources
    assert (wanted.cpus, wanted.accelerators, str(wanted.infra)) == ("2+", {"H100": 8}, "gcp")
    assert "pnu_1" not in str(task.to_yaml_config())
    assert str(Place.parse("cluster:dev:3")) == "cluster:dev:3" and Place.parse("job:7").job_id == 7
    with pytest.raises(InfrastructureNotFound):
        Place.parse("job:x; rm")

"""Ctrl-C, a termination signal, a cancelled flow run, a killed process: the cluster goes in each case."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sky

from household import until
from prefect_sky import runs

PROGRAM = Path(__file__).parent / "interrupted_flow.py"


def running_job(house: Any, prefix: str) -> str:
    """The cluster on which the slow job runs, once it does."""

    def found() -> str | None:
        for name in house.clusters():
            if name.startswith(f"{prefix}-"):
                jobs = sky.get(sky.queue(name)) if sky.get(sky.status([name]))[0].status.value == "UP" else []
                if any(job.status.value == "RUNNING" for job in jobs):
                    return str(name)
        return None

    return str(until(found))


@pytest.mark.parametrize("how", ["direct", "submit"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_flow_takes_its_cluster_down(house: Any, folder: Path, how: str, sent: signal.Signals) -> None:
    program = house.program(PROGRAM, folder, how)
    running_job(house, how)
    program.send_signal(sent)
    said = house.end(program)
    assert program.returncode != 0, said
    assert house.clusters() == [], said
    (run,) = [each for each in house.flow_runs(f"interrupted-{how}") if each.end_time is None or each.id][:1]
    assert run.state.is_crashed() or run.state.is_failed(), run.state


def test_ctrl_c_during_provisioning_leaves_nothing(house: Any, folder: Path) -> None:
    program = house.program(PROGRAM, folder, "direct")
    until(lambda: any(name.startswith("direct-") for name in house.clusters()) or sky.api_status())
    program.send_signal(signal.SIGINT)
    said = house.end(program)
    assert program.returncode != 0, said
    until(lambda: house.clusters() == [])


@pytest.mark.parametrize("gap", [0.0, 0.002, 0.1, 1.0])
def test_a_second_ctrl_c_leaves_nothing_either(house: Any, folder: Path, gap: float) -> None:
    program = house.program(PROGRAM, folder, "direct")
    running_job(house, "direct")
    program.send_signal(signal.SIGINT)
    time.sleep(gap)
    program.send_signal(signal.SIGINT)
    said = house.end(program)
    assert program.returncode != 0, said
    until(lambda: house.clusters() == [])


@pytest.mark.parametrize("moment", ["start", "join"])
def test_an_interruption_of_the_clean_up_does_not_end_it(house: Any, monkeypatch: Any, moment: str) -> None:
    """As it is begun, and as it is waited for."""
    begun, interrupted = threading.Event(), []
    real = getattr(threading.Thread, moment)

    def broken_off(thread: threading.Thread, *words: Any) -> None:
        if thread.name == "sky clean-up" and not interrupted:
            interrupted.append(moment)
            raise KeyboardInterrupt
        real(thread, *words)

    def check() -> None:
        if begun.is_set():
            raise SystemExit("the first")

    monkeypatch.setattr(threading.Thread, moment, broken_off)
    task = sky.Task(run="echo it runs now; sleep 300").set_resources(sky.Resources(infra="local"))
    with pytest.raises(SystemExit, match="the first") as ended:
        runs.run_to_completion(
            task, "broken-off", say=lambda lines: begun.set() if "it runs now" in lines else None, check=check
        )
    assert interrupted == [moment]
    assert ended.value.outcome.cluster == "broken-off"
    until(lambda: house.clusters() == [], 30)


def test_an_interrupted_clean_up_of_a_failed_run_is_an_interruption(house: Any, monkeypatch: Any) -> None:
    """And no failure, which would be tried again."""
    real = runs._Run.release

    def broken_off(run: Any, say: Any, patience: float, *more: Any) -> None:
        real(run, say, patience, *more)
        if patience:
            raise KeyboardInterrupt

    monkeypatch.setattr(runs._Run, "release", broken_off)
    task = sky.Task(run="true").set_resources(sky.Resources(infra="aws", instance_type="no.such"))
    with pytest.raises(KeyboardInterrupt):
        runs.run_to_completion(task, "never-up", say=lambda lines: None, check=lambda: None)
    until(lambda: house.clusters() == [], 30)


def test_a_flow_run_that_is_cancelled_at_the_server_ends_its_job_and_cluster(house: Any, folder: Path) -> None:
    from prefect.deployments import run_deployment
    from prefect.states import Cancelling

    program = house.program(PROGRAM, folder, "serve")
    try:

        def deployed() -> bool:
            with house.client() as client:
                return any(each.name == "served" for each in client.read_deployments())

        until(deployed)
        run = run_deployment("interrupted-serve/served", timeout=0)
        running_job(house, "serve")
        with house.client() as client:
            client.set_flow_run_state(run.id, Cancelling())
        until(lambda: house.state(run.id).is_cancelled())
        until(lambda: house.clusters() == [])
    finally:
        program.send_signal(signal.SIGINT)
        house.end(program)


@pytest.mark.parametrize("how", ["direct", "submit"])
def test_a_flow_that_nobody_supervises_notices_that_it_was_cancelled(house: Any, folder: Path, how: str) -> None:
    from prefect.states import Cancelling

    program = house.program(PROGRAM, folder, how)
    running_job(house, how)
    run = max(house.flow_runs(f"interrupted-{how}"), key=lambda each: each.created)
    with house.client() as client:
        client.set_flow_run_state(run.id, Cancelling())
    said = house.end(program)
    assert program.returncode != 0, said
    assert house.clusters() == [], said
    assert house.state(run.id).is_crashed()


def test_the_cluster_of_a_killed_flow_goes_with_its_job(house: Any, folder: Path) -> None:
    """Nobody is left to take it down: the server does, when the job has ended."""
    (folder / "slow.yaml").write_text(
        f"name: slow\nresources: {{infra: local}}\nrun: until [ -e {folder}/end ]; do sleep 0.1; done\n"
    )
    program = house.program(PROGRAM, folder, "direct")
    running_job(house, "direct")
    program.kill()
    house.end(program)
    assert house.clusters() != []
    (folder / "end").touch()
    until(lambda: house.clusters() == [])


def test_a_kept_cluster_stays_and_its_job_is_cancelled(house: Any, folder: Path) -> None:
    program = house.program(PROGRAM, folder, "keep")
    cluster = running_job(house, "keep")
    program.send_signal(signal.SIGINT)
    said = house.end(program)
    assert house.clusters() == [cluster], said
    assert [job.status.value for job in sky.get(sky.queue(cluster))] == ["CANCELLED"]
    sky.get(sky.down(cluster))

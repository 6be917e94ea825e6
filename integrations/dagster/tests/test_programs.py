"""Dagster's own programs: runs by the command line and through the webserver, interrupted and cancelled."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterRunStatus

from household import until

DEFINITIONS = Path(__file__).parent / "definitions.py"


def test_a_run_by_the_command_line_with_a_retry(house: Any) -> None:
    program = house.program("dagster", "job", "execute", "-f", DEFINITIONS, "-j", "flaky_job")
    said = house.end(program)
    assert program.returncode == 0, said
    assert (house.home / "flaky").read_text() == "try\ntry\n"


def test_ctrl_c_at_the_command_line_takes_the_cluster_down(house: Any) -> None:
    program = house.program("dagster", "job", "execute", "-f", DEFINITIONS, "-j", "slow_job")
    until(lambda: house.running("slow-"))
    os.killpg(program.pid, signal.SIGINT)
    said = house.end(program)
    assert program.returncode != 0, said
    assert house.clusters() == [], said


@pytest.fixture(scope="module")
def webserver(house_open: Any) -> Any:
    """A webserver with its code server, the daemon that launches runs, and a client."""
    from dagster_graphql import DagsterGraphQLClient

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = house_open.program("dagster-webserver", "-f", DEFINITIONS, "-h", "127.0.0.1", "-p", port, MANAGED="1")
    daemon = house_open.program("dagster-daemon", "run", "-f", DEFINITIONS, MANAGED="1")
    client = DagsterGraphQLClient("127.0.0.1", port_number=port)

    def answers() -> bool:
        assert program.poll() is None, program.communicate()[0]
        with socket.socket() as knock:
            return knock.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers)
        yield client
    finally:
        for each in (daemon, program):
            os.killpg(each.pid, signal.SIGINT)
            house_open.end(each)


def finished(webserver: Any, run_id: str) -> DagsterRunStatus:
    def over() -> DagsterRunStatus | None:
        status: DagsterRunStatus = webserver.get_run_status(run_id)
        return status if status.value in {"SUCCESS", "FAILURE", "CANCELED"} else None

    found: DagsterRunStatus = until(over)
    return found


def test_a_run_through_the_webserver(house: Any, webserver: Any) -> None:
    task = {"resources": {"infra": "local"}, "run": "echo $GREETING"}
    config = {"ops": {"sky_job": {"config": {"task": task, "env": {"GREETING": "hello"}}}}}
    run_id = webserver.submit_job_execution("ready_made", run_config=config)
    assert finished(webserver, run_id) == DagsterRunStatus.SUCCESS


@pytest.mark.parametrize("job", ["slow_job", "slow_asset_job"], ids=["cluster", "managed"])
def test_a_cancelled_run_leaves_nothing(house: Any, webserver: Any, job: str) -> None:
    import sky

    run_id = webserver.submit_job_execution(job)
    if job == "slow_job":
        until(lambda: house.running("slow-"))
    else:
        until(lambda: any(each.status.value == "RUNNING" for each in sky.get(sky.jobs.queue(skip_finished=True))))
    webserver.terminate_run(run_id)
    assert finished(webserver, run_id) == DagsterRunStatus.CANCELED
    until(lambda: house.clusters() == [], 30)


def test_a_run_cancelled_while_machines_come_up_leaves_nothing(house: Any, webserver: Any) -> None:
    import sky

    run_id = webserver.submit_job_execution("slow_job")
    # On record at the latest when the cluster is.
    until(lambda: any(each.name.startswith("slow-") for each in sky.get(sky.status())))
    webserver.terminate_run(run_id)
    assert finished(webserver, run_id) == DagsterRunStatus.CANCELED
    until(lambda: house.clusters() == [], 30)

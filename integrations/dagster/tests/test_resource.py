"""The resource and the ready-made op: plain runs of a task, with what they cost."""

from pathlib import Path
from typing import Any

import pytest
import sky as client
from dagster import EnvVar, Failure, OpExecutionContext, RetryPolicy, job, op

from dagster_sky import SkyResource, SkyResult, sky_job_op

LOCAL = {"infra": "local"}


def run(
    given: Any, *, retries: int = 0, resource: SkyResource | None = None, raises: bool = True, **options: Any
) -> Any:
    """Run an op that runs the task; the run's result, and what the resource gave."""
    given_back: list[SkyResult] = []

    @op(retry_policy=RetryPolicy(max_retries=retries) if retries else None)
    def step(context: OpExecutionContext, sky: SkyResource) -> None:
        given_back.append(sky.run(context, given, **options))

    @job
    def steps() -> None:
        step()

    done = steps.execute_in_process(resources={"sky": resource or SkyResource()}, raise_on_error=raises)
    return done, (given_back or [None])[0]


@pytest.mark.parametrize("form", ["mapping", "file", "task"])
def test_a_task_runs_to_its_end(house: Any, form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("name: hello\nresources: {infra: local}\nenvs: {WHO: null}\nrun: echo hello $WHO\n")
    if form == "file":
        given: Any = str(path)
    elif form == "mapping":
        given = {"name": "hello", "resources": LOCAL, "envs": {"WHO": None}, "run": "echo hello $WHO"}
    else:
        given = client.Task(name="hello", run="echo hello $WHO").set_resources(client.Resources(infra="local"))
    done, result = run(given, env={"WHO": "there"})
    assert done.success
    assert (result.status, result.exit_code, result.infra, result.cost) == ("SUCCEEDED", 0, "local", 0.0)
    assert result.cluster_name.startswith("hello-")
    assert "hello there" in capfd.readouterr().out
    if form == "task":
        assert given.envs == {}


def test_a_job_that_fails_fails_the_op_unless_it_is_to_be_looked_at(house: Any) -> None:
    task = {"resources": LOCAL, "run": "echo the reason; exit 3"}
    with pytest.raises(Failure, match="the reason") as failed:
        run(task)
    assert failed.value.metadata["sky/status"].value == "FAILED"
    _, result = run(task, check=False)
    assert (result.status, result.exit_code) == ("FAILED", 100)


def test_a_failed_setup_leaves_nothing(house: Any) -> None:
    with pytest.raises(Failure, match="FAILED"):
        run({"resources": LOCAL, "setup": "exit 4", "run": "true"})


def test_what_no_repetition_mends_is_not_repeated(house: Any) -> None:
    from dagster import DagsterEventType

    done, _ = run({"resources": LOCAL, "runn": "true"}, retries=2, raises=False)
    assert not done.success
    kinds = [each.event_type for each in done.all_events]
    assert DagsterEventType.STEP_FAILURE in kinds
    assert DagsterEventType.STEP_UP_FOR_RETRY not in kinds
    assert "runn" in str(done.failure_data_for_node("step").user_failure_data.description)


def test_a_cluster_that_is_named_stays(house: Any) -> None:
    try:
        _, first = run({"resources": LOCAL, "run": "true"}, cluster_name="kept")
        _, second = run({"run": "true"}, cluster_name="kept", exec=True)
        assert (first.cluster_name, second.cluster_name, second.job_id) == ("kept", "kept", 2)
        assert house.clusters() == ["kept"]
    finally:
        client.get(client.down("kept"))


def test_endpoint_and_token_by_variables(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sky.sdk.transport import current_endpoint

    client.get(client.status())
    monkeypatch.setenv("SKY_AT", str(current_endpoint().address))
    monkeypatch.setenv("SKY_TOKEN", "word-of-the-token")
    resource = SkyResource(endpoint=EnvVar("SKY_AT"), token=EnvVar("SKY_TOKEN"))
    done, result = run({"resources": LOCAL, "run": "true"}, resource=resource)
    assert done.success and result.status == "SUCCEEDED"
    assert "word-of-the-token" not in repr(SkyResource(endpoint="http://x", token="word-of-the-token"))
    with pytest.raises(ValueError, match="without an endpoint"):
        run({"run": "true"}, resource=SkyResource(token="t"))


def test_the_ready_made_op(house: Any) -> None:
    @job(resource_defs={"sky": SkyResource()})
    def ready() -> None:
        sky_job_op()

    task = {"resources": LOCAL, "envs": {"X": "1"}, "run": "[ $X = 2 ]"}
    done = ready.execute_in_process(run_config={"ops": {"sky_job": {"config": {"task": task, "env": {"X": "2"}}}}})
    assert done.output_for_node("sky_job")["status"] == "SUCCEEDED"
    with pytest.raises(ValueError, match="either"):
        ready.execute_in_process(run_config={"ops": {"sky_job": {"config": {}}}})


def test_definitions_load_no_client() -> None:
    import subprocess
    import sys

    code = (
        "import dagster_sky, sys; dagster_sky.SkyPipesClient(); dagster_sky.SkyResource(); print('sky' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

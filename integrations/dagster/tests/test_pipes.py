"""Assets that run elsewhere and report themselves: what they say arrives, and what they leave behind is nothing."""

import sys
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetCheckResult,
    AssetCheckSpec,
    AssetExecutionContext,
    DagsterInstance,
    EnvVar,
    Failure,
    MaterializeResult,
    RetryPolicy,
    StaticPartitionsDefinition,
    asset,
    materialize,
)

import dagster_sky.messages
from dagster_sky import SkyPipesClient

PROGRAM = f"{sys.executable} {Path(__file__).parent / 'reporting.py'}"
LOCAL = {"infra": "local"}


def logged(instance: DagsterInstance, run_id: str) -> str:
    return "\n".join(f"{each.level} {each.user_message}" for each in instance.all_logs(run_id))


@pytest.mark.parametrize("managed", [False, True])
def test_an_asset_reports_itself(house: Any, managed: bool, capfd: pytest.CaptureFixture[str]) -> None:
    said: list[Any] = []

    @asset(check_specs=[AssetCheckSpec("sane", asset="model")])
    def model(context: AssetExecutionContext, pipes: SkyPipesClient):  # with a check there are two outputs
        done = pipes.run(
            context=context, task={"resources": LOCAL, "run": PROGRAM}, extras={"epochs": 3}, managed=managed
        )
        said.extend(done.get_custom_messages())
        return done.get_materialize_result()

    instance = DagsterInstance.ephemeral()
    result = materialize([model], resources={"pipes": SkyPipesClient()}, instance=instance)
    assert result.success
    (made,) = result.asset_materializations_for_node("model")
    assert made.metadata["rows"].value == 42
    assert made.metadata["sky/status"].value == "SUCCEEDED"
    assert made.metadata["sky/job_id"].value == 1
    assert made.metadata["sky/infra"].value == "local"
    assert made.metadata["sky/cost_usd"].value == 0.0
    assert str(made.metadata["sky/cluster"].value).startswith("model-")
    assert made.tags is not None and made.tags["dagster/data_version"] == "v7"
    (checked,) = result.get_asset_check_evaluations()
    assert checked.passed and checked.check_name == "sane"
    assert said == [{"model": "m.bin"}]
    told = logged(instance, result.run_id)
    assert "20 trains for 3 epochs" in told
    assert "did not receive" not in told
    output = capfd.readouterr().out
    assert "an ordinary line" in output and "no end of line" in output
    assert "__dagster_pipes" not in output


def test_a_partition_is_known_there(house: Any) -> None:
    @asset(partitions_def=StaticPartitionsDefinition(["a", "b"]))
    def parted(context: AssetExecutionContext, pipes: SkyPipesClient) -> MaterializeResult[Any]:
        done = pipes.run(context=context, task={"resources": LOCAL, "run": PROGRAM}, extras={"epochs": 1})
        # The check that it reports is not one of this asset.
        (made,) = [each for each in done.get_results() if isinstance(each, MaterializeResult)]
        return made

    instance = DagsterInstance.ephemeral()
    result = materialize([parted], partition_key="b", resources={"pipes": SkyPipesClient()}, instance=instance)
    assert "partition b" in logged(instance, result.run_id)


def test_a_job_that_fails_fails_the_asset(house: Any) -> None:
    @asset
    def broken(context: AssetExecutionContext, pipes: SkyPipesClient) -> MaterializeResult[Any]:
        task = {"resources": LOCAL, "run": f"{PROGRAM} fail"}
        return pipes.run(context=context, task=task, extras={"epochs": 1}).get_materialize_result()

    instance = DagsterInstance.ephemeral()
    result = materialize([broken], resources={"pipes": SkyPipesClient()}, instance=instance, raise_on_error=False)
    assert not result.success
    failure = result.failure_data_for_node("broken")
    assert failure is not None and failure.user_failure_data is not None
    assert "ended FAILED" in str(failure.user_failure_data.description)
    assert "the disk is full" in str(failure.user_failure_data.description)
    assert failure.user_failure_data.metadata["sky/status"].value == "FAILED"
    assert "trains for 1 epochs" in logged(instance, result.run_id)


def test_a_retry_policy_tries_again(house: Any, tmp_path: Path) -> None:
    mark = tmp_path / "tries"

    @asset(retry_policy=RetryPolicy(max_retries=2))
    def flaky(context: AssetExecutionContext, pipes: SkyPipesClient) -> MaterializeResult[Any]:
        task = {"resources": LOCAL, "run": f"echo x >> {mark}; [ $(wc -l < {mark}) -ge 2 ] || exit 3; {PROGRAM}"}
        (made, *_) = pipes.run(context=context, task=task, extras={"epochs": 1}).get_results()
        assert isinstance(made, MaterializeResult)
        return made

    result = materialize([flaky], resources={"pipes": SkyPipesClient()})
    assert result.success
    assert mark.read_text() == "x\nx\n"


def test_of_several_nodes_the_head_reports(house: Any) -> None:
    @asset
    def gang(context: AssetExecutionContext, pipes: SkyPipesClient) -> MaterializeResult[Any]:
        task = {"resources": LOCAL, "num_nodes": 2, "run": PROGRAM}
        found = pipes.run(context=context, task=task, extras={"epochs": 1}).get_results()
        assert sum(isinstance(each, MaterializeResult) for each in found) == 1
        assert sum(isinstance(each, AssetCheckResult) for each in found) == 1
        (made,) = [each for each in found if isinstance(each, MaterializeResult)]
        return made

    assert materialize([gang], resources={"pipes": SkyPipesClient()}).success


def test_a_message_that_means_nothing_is_told_and_ends_nothing(house: Any) -> None:
    @asset
    def odd(context: AssetExecutionContext, pipes: SkyPipesClient) -> MaterializeResult[Any]:
        lines = [
            '{"__dagster_pipes_version": "0.1", "method": "explode", "params": null}',
            '{"__dagster_pipes_version"',
        ]
        task = {"resources": LOCAL, "run": "\n".join(f"echo '{each}'" for each in lines)}
        return pipes.run(context=context, task=task).get_materialize_result()

    instance = DagsterInstance.ephemeral()
    result = materialize([odd], resources={"pipes": SkyPipesClient()}, instance=instance)
    assert result.success
    told = [each.dagster_event for each in instance.all_logs(result.run_id) if each.dagster_event]
    assert any("framework exception" in str(each.message) for each in told)


def test_secrets_and_extras_are_on_no_record(
    house: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_TESTS", "very-secret-word")

    @asset
    def hidden(context: AssetExecutionContext, pipes: SkyPipesClient) -> MaterializeResult[Any]:
        task = {"resources": LOCAL, "run": '[ "$KEY" = very-secret-wor"d" ] && [ $PLAIN = p ] && [ "$OTHER" = "$KEY" ]'}
        return pipes.run(
            context=context, task=task, extras={"word": "extra-secret-word"}, secrets={"KEY": EnvVar("KEY_OF_TESTS")}
        ).get_materialize_result()

    client = SkyPipesClient(env={"PLAIN": "p"}, secrets={"OTHER": EnvVar("KEY_OF_TESTS")})
    instance = DagsterInstance.ephemeral()
    result = materialize([hidden], resources={"pipes": client}, instance=instance)
    assert result.success
    assert "very-secret-word" not in logged(instance, result.run_id) + capfd.readouterr().out


def test_a_variable_that_is_not_set_is_named(house: Any) -> None:
    @asset
    def unset(context: AssetExecutionContext, pipes: SkyPipesClient) -> MaterializeResult[Any]:
        return pipes.run(
            context=context, task={"run": "true"}, secrets={"K": EnvVar("NOT_SET_HERE")}
        ).get_materialize_result()

    with pytest.raises(ValueError, match="NOT_SET_HERE is not set"):
        materialize([unset], resources={"pipes": SkyPipesClient()})


def test_a_context_too_long_for_a_variable_is_told(house: Any) -> None:
    import random

    words = random.Random(1).randbytes(200_000).hex()

    @asset
    def long(context: AssetExecutionContext, pipes: SkyPipesClient) -> MaterializeResult[Any]:
        return pipes.run(context=context, task={"run": "true"}, extras={"words": words}).get_materialize_result()

    with pytest.raises(ValueError, match="pass fewer extras"):
        materialize([long], resources={"pipes": SkyPipesClient()})


def test_another_way_for_context_and_messages(house: Any) -> None:
    from dagster import PipesTempFileContextInjector, PipesTempFileMessageReader

    @asset
    def by_files(context: AssetExecutionContext, pipes: SkyPipesClient) -> MaterializeResult[Any]:
        (made, *_) = pipes.run(
            context=context, task={"resources": LOCAL, "run": PROGRAM}, extras={"epochs": 1}
        ).get_results()
        assert isinstance(made, MaterializeResult)
        return made

    client = SkyPipesClient(
        context_injector=PipesTempFileContextInjector(), message_reader=PipesTempFileMessageReader()
    )
    result = materialize([by_files], resources={"pipes": client})
    (made,) = result.asset_materializations_for_node("by_files")
    assert made.metadata["rows"].value == 42


def test_a_line_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr(dagster_sky.messages, "MOST_CHARS", 100)
    output = io.StringIO()
    lines = dagster_sky.messages.LogLines(output=output)
    for _ in range(30):
        lines.write("x" * 10)
    lines.close()
    assert output.getvalue().replace("\n", "") == "x" * 300
    assert all(len(each) <= 120 for each in output.getvalue().split("\n"))


def test_a_client_that_meets_no_server_says_so(house: Any) -> None:
    @asset
    def nowhere(context: AssetExecutionContext, pipes: SkyPipesClient) -> MaterializeResult[Any]:
        return pipes.run(context=context, task={"run": "true"}).get_materialize_result()

    with pytest.raises(Exception, match=r"127\.0\.0\.1:9") as told:
        materialize([nowhere], resources={"pipes": SkyPipesClient("http://127.0.0.1:9", token="a-token")})
    assert "a-token" not in str(told.value)
    assert not isinstance(told.value, Failure)

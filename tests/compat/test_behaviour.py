"""What programs of other versions of this interface rely on, against the real server on `infra: local`.

The forms of calls are in `surface.toml`; here is what comes of them. More is in `tests/e2e/test_sdk.py`.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sky
import sky.local

NAME = "Foreign_1.x"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    # Not tmp_path: sockets below it need a short path.
    root = Path(tempfile.mkdtemp(prefix="sky-compat-"))
    kept = {name: os.environ.get(name) for name in ("HOME", "SKYPILOT_API_SERVER_ENDPOINT")}
    os.environ["HOME"] = str(root)
    try:
        with sky.local.embedded(root / "s") as where:
            os.environ["SKYPILOT_API_SERVER_ENDPOINT"] = where
            yield where
            for cluster in sky.get(sky.status()):
                sky.get(sky.down(cluster.name))
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def launched(endpoint: str) -> str:
    """The id of the request that made the cluster and ran its job 1."""
    from sky import backends

    task = sky.Task(name="hello", run="echo hello $WHO", envs={"WHO": "you"}, num_nodes=1)
    task.set_resources(sky.Resources(cloud=sky.clouds.Local(), cpus=1))
    request = sky.launch(
        task, cluster_name=NAME, backend=backends.CloudVmRayBackend(), fast=True, retry_until_up=False,
        idle_minutes_to_autostop=30, down=True, _need_confirmation=False,
    )  # fmt: skip
    job, handle = sky.stream_and_get(request, follow=True, output_stream=io.StringIO())
    assert (job, handle.cluster_name) == (1, NAME)
    return str(request)


# --- records -----------------------------------------------------------------------------------------------------


def test_a_record_is_read_in_every_way_that_was_seen(launched: str) -> None:
    (record,) = sky.get(sky.status(cluster_names=["Foreign*", "not-there"], refresh=sky.StatusRefreshMode.NONE))
    assert record["name"] == record.name == record.get("name") == NAME
    assert "handle" in record
    assert record.get("nothing", "else") == "else"
    assert isinstance(record, sky.schemas.api.responses.StatusResponse)
    plain = record.model_dump()
    assert type(plain) is dict
    assert type(plain["handle"]) is dict
    assert plain["status"] is sky.ClusterStatus.UP
    assert json.loads(json.dumps(record.model_dump(mode="json")))["status"] == "UP"
    assert not {"launched_at", "autostop", "to_down", "last_use", "metadata", "user_hash", "user_name"} - set(record)
    for name in ("resources_str", "region", "cloud"):
        assert name in record
    assert sky.get(sky.status(["nothing-like-it*"])) == []


def test_a_handle_says_where_the_cluster_is(launched: str) -> None:
    _, handle = sky.get(launched)
    assert isinstance(handle, sky.backends.CloudVmRayResourceHandle)
    assert handle.get_cluster_name() == NAME
    assert handle.external_ips() == handle.internal_ips() == [handle.head_ip]
    assert handle.stable_internal_external_ips[0][1] == handle.head_ip
    assert (handle.launched_nodes, handle.get_hourly_price()) == (1, 0.0)
    assert (handle.ssh_user, handle.docker_user) == (None, None)
    where = handle.launched_resources
    assert isinstance(where.cloud, sky.clouds.Local)
    assert (str(where.cloud), where.region, where.use_spot, where.accelerators) == ("Local", "local", False, None)
    assert where.infra == "local"


def test_a_handle_of_machines_elsewhere() -> None:
    handle = sky.backends.ResourceHandle(
        cluster_name="c", cloud="aws", region="us-east-1", zone="us-east-1a", instance_type="m5.xlarge", user="ubuntu",
        ssh_port=2222, stable_internal_external_ips=[["10.0.0.1", "1.2.3.4"]], price_hourly=0.4, use_spot=True,
        accelerators={"T4": 1.0},
    )  # fmt: skip
    assert (handle.ssh_user, handle.external_ips(), handle.external_ssh_ports()) == ("ubuntu", ["1.2.3.4"], [2222])
    assert (handle.internal_ips(), handle.get_hourly_price()) == (["10.0.0.1"], 0.4)
    assert isinstance(handle.launched_resources.cloud, sky.clouds.AWS)
    assert (handle.launched_resources.use_spot, handle.launched_resources.accelerators) == (True, {"T4": 1.0})


def test_jobs_are_told_as_programs_read_them(launched: str) -> None:
    job = sky.get(sky.queue(NAME))[-1]
    assert not {"username", "user_hash", "resources", "status", "log_path"} - set(job)
    for name in ("job_id", "job_name", "submitted_at", "start_at", "end_at"):
        assert job[name] is not None
    assert str(job["status"]) == "JobStatus.SUCCEEDED"
    assert "SUCCEEDED" in str(job.status)
    assert f"{job.status}" == job.status.value == "SUCCEEDED"
    assert job.status.is_terminal()
    assert sky.JobStatus.is_terminal(job.status)
    statuses = sky.get(sky.job_status(NAME, [1]))
    assert statuses[1] is statuses["1"] is sky.JobStatus.SUCCEEDED
    assert statuses.get(99) is None


def test_a_request_is_found_again(launched: str) -> None:
    assert isinstance(launched, str)
    (found,) = sky.api_status(request_ids=[launched[:10]])
    assert (found.request_id, found["name"], found.status.value) == (launched, "sky.launch", "SUCCEEDED")
    assert json.loads(found.request_body)["cluster_name"] == NAME
    info = sky.api_info()
    assert info["status"].value == info.status.value == "healthy"
    assert info.user["name"]


def test_a_log_as_an_iterator(launched: str) -> None:
    lines = sky.tail_logs(cluster_name=NAME, job_id=1, follow=True, preload_content=False)
    assert [line for line in lines if line is not None][-1].endswith("hello you\n")


# --- tasks and resources -----------------------------------------------------------------------------------------


def test_resources_of_a_task_are_read_and_written_as_they_are() -> None:
    task = sky.Task.from_yaml_config(config={"resources": {"any_of": [{"infra": "aws"}, {"infra": "gcp"}]}})
    task.set_resources(type(task.resources)([each.copy(use_spot=True) for each in task.resources]))
    assert next(iter(task.resources)).use_spot
    assert len(task.resources) == 2
    task.resources = {sky.Resources(infra="aws", accelerators="A100:8")}
    (only,) = task.resources
    assert only.accelerators == {"A100": 8}
    ordered = sky.Task().set_resources([sky.Resources(cpus=2), sky.Resources(cpus=4)])
    assert type(ordered.resources) is list


def test_resources_by_position_and_by_old_names() -> None:
    by_position = sky.Resources(sky.clouds.AWS(), "p3.2xlarge")
    assert (by_position.cloud, by_position.instance_type) == (sky.AWS(), "p3.2xlarge")
    assert by_position.accelerators is None
    assert sky.Resources(ports=8080).ports == ["8080"]
    assert sky.Resources(sky.AWS(), image_id={"us-east-1": "ami-1"}).image_id == {"us-east-1": "ami-1"}
    with pytest.warns(DeprecationWarning, match="job_recovery"):
        old = sky.Resources(cloud=sky.GCP(), use_spot=True, spot_recovery="FAILOVER")
    assert "failover" in str(old.job_recovery).lower()
    assert sky.Resources(_cluster_config_overrides={"docker": {"run_options": ["-v"]}}).cluster_config_overrides


def test_no_alternatives_are_none() -> None:
    for empty in ({"any_of": []}, {"ordered": []}):
        (only,) = sky.Resources.from_yaml_config({"cpus": 2, **empty})
        assert only.cpus == "2"


def test_variables_given_later_reach_what_was_set_before() -> None:
    task = sky.Task.from_yaml_config(
        {"file_mounts": {"/data": "s3://$BUCKET/x"}, "envs": {"BUCKET": "one"}, "run": "x"}
    )
    assert task.file_mounts == {"/data": "s3://one/x"}
    assert task.update_envs({"BUCKET": "two"}) is task
    assert task.file_mounts == {"/data": "s3://two/x"}


def test_a_task_takes_paths_and_both_names_of_its_mounts(tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text("name: from-file\nrun: echo x\n", encoding="utf-8")
    assert sky.Task.from_yaml(file).name == sky.Task.from_yaml(str(file)).name == "from-file"
    with pytest.warns(DeprecationWarning, match="file_mounts"):
        old = sky.Task(file_mounts_mapping={"/a": "/b"})
    assert old.file_mounts == sky.Task(file_mounts={"/a": "/b"}).file_mounts
    assert sky.Task().from_yaml_config(config={"run": "x $A"}, env_overrides=[("A", "1")]).envs == {"A": "1"}


@pytest.mark.parametrize("word", ["stream_logs", "detach_run", "detach_setup"])
def test_words_of_old_name_what_took_their_place(word: str) -> None:
    with pytest.raises(TypeError, match=rf"no '{word}' any more: the call returns at once; sky\.\w+"):
        sky.launch(sky.Task(run="x"), **{word: True})


# --- module paths that do something ------------------------------------------------------------------------------


def test_functions_of_the_core_return_results(launched: str) -> None:
    from sky import core

    assert core.status(NAME)[0]["status"] == sky.ClusterStatus.UP
    assert core.queue(NAME, all_users=True)[-1]["job_id"] == 1
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert core.tail_logs(NAME, 1) == 0
    assert "hello you" in out.getvalue()
    assert set(core.download_logs(NAME, job_ids=["1"])) == {1}
    assert core.cancel(cluster_name=NAME, job_ids=[1]) is None
    assert core.endpoints(NAME) == {}


def test_checks_as_function_and_as_module(launched: str) -> None:
    from sky.clouds.cloud import CloudCapability

    from sky import check

    assert sky.get(check(["local"]))["default"]["local"] == ["compute"]
    assert sky.Local() in check.get_cached_enabled_clouds_or_refresh()
    assert check.check_capability(CloudCapability.COMPUTE, quiet=True, clouds=["local"]) == {"default": ["Local"]}
    assert check.check_capability(CloudCapability.STORAGE, clouds=["local"]) == {"default": []}


def test_what_a_cloud_can_do() -> None:
    features = sky.clouds.CloudImplementationFeatures
    sky.AWS().check_features_are_supported(sky.Resources(), requested_features={features.STOP, features.AUTOSTOP})
    sky.Local().check_features_are_supported(sky.Resources(), {features.STOP, features.MULTI_NODE})
    for cloud, feature in ((sky.RunPod(), features.STOP), (sky.Local(), features.SPOT_INSTANCE)):
        with pytest.raises(sky.exceptions.NotSupportedError, match=feature.value):
            cloud.check_features_are_supported(sky.Resources(), {feature})


def test_the_configuration_is_replaced_within_a_block(launched: str) -> None:
    config = sky.skypilot_config
    assert config.get_nested(("jobs", "x"), "none") == "none"
    with config.replace_skypilot_config({"jobs": {"x": 1}}):
        assert config.get_nested(("jobs", "x"), None) == 1
        with config.override_skypilot_config({"jobs": {"y": 2}}):
            assert config.to_dict().to_dict() == {"jobs": {"x": 1, "y": 2}}
        assert sky.get(sky.status(NAME))
    assert not config.loaded()


def test_names_hashes_and_addresses(launched: str, endpoint: str) -> None:
    from sky.utils import common_utils

    from sky.server import common

    common_utils.check_cluster_name_is_valid(NAME)
    common_utils.check_cluster_name_is_valid("sweep-lr0.001-bs32")
    with pytest.raises(sky.exceptions.InvalidClusterNameError):
        common_utils.check_cluster_name_is_valid("-bad")
    assert common_utils.get_user_hash() == sky.get(sky.status(NAME))[0].user_hash
    assert common.get_server_url() == endpoint
    common.check_server_healthy_or_start()


def test_pipelines_as_yaml_and_back() -> None:
    from sky.utils import dag_utils

    with sky.Dag() as dag:
        first = sky.Task(name="a", run="echo a", envs={"X": "1"})
        first >> sky.Task(name="b", run="echo b", num_nodes=2)
    dag.name = "both"
    text = dag_utils.dump_dag_to_yaml_str(dag)
    again = dag_utils.load_chain_dag_from_yaml_str(text)
    assert (again.name, [task.name for task in again.tasks]) == ("both", ["a", "b"])
    assert again.to_spec().tasks == dag.to_spec().tasks
    one = dag_utils.convert_entrypoint_to_dag(first)
    assert [task.name for task in dag_utils.load_dag_from_yaml_str(dag_utils.dump_dag_to_yaml_str(one)).tasks] == ["a"]
    assert dag_utils.convert_entrypoint_to_dag(dag) is dag
    with pytest.raises(TypeError, match="found a str"):
        dag_utils.convert_entrypoint_to_dag("x")


def test_yaml_is_written_and_read(tmp_path: Path) -> None:
    from sky.utils import common_utils, yaml_utils

    config = {"run": "echo a\necho b\n", "num_nodes": 2}
    assert yaml_utils.read_yaml_str(yaml_utils.dump_yaml_str(config)) == config
    assert list(yaml_utils.read_yaml_str(common_utils.dump_yaml_str(config))) == ["run", "num_nodes"]
    common_utils.dump_yaml(tmp_path / "x.yaml", [config, {}])
    assert common_utils.read_yaml_all(tmp_path / "x.yaml") == [config, {}]
    common_utils.dump_yaml(str(tmp_path / "y.yaml"), config)
    assert common_utils.read_yaml(str(tmp_path / "y.yaml")) == config


def test_silence_and_threads(capsys: pytest.CaptureFixture[str]) -> None:
    from sky.utils import subprocess_utils

    from sky import sky_logging

    with sky_logging.silent() as heard:
        print("not this")
        heard("this")
    assert capsys.readouterr().out == "this\n"
    assert subprocess_utils.run_in_parallel(lambda each: each * 2, [1, 2, 3]) == [2, 4, 6]
    assert subprocess_utils.run_in_parallel(abs, []) == []


def test_objects_that_are_only_named_or_handed_on() -> None:
    backend: Any = sky.backends.CloudVmRayBackend()
    with pytest.raises(sky.exceptions.NotSupportedError, match=r"sky\.launch"):
        backend.run_on_head("x")
    with pytest.raises(sky.exceptions.NotSupportedError, match=r"sky\.Storage"):
        sky.data.storage.S3Store("name", "source")
    volume = sky.volumes.volume.Volume.from_yaml_config({"name": "v", "type": "k8s-pvc"})
    assert volume.to_yaml_config() == {"name": "v", "type": "k8s-pvc"}
    with pytest.raises(sky.exceptions.NotSupportedError):
        sky.optimizer.Optimizer.optimize(sky.Dag())


def test_exceptions_are_raised_as_programs_raise_them() -> None:
    by_position = sky.exceptions.ClusterNotUpError("text", sky.ClusterStatus.STOPPED, None)
    by_keyword = sky.exceptions.ClusterNotUpError("text", cluster_status=sky.ClusterStatus.STOPPED, handle=None)
    assert by_position.cluster_status is by_keyword.cluster_status is sky.ClusterStatus.STOPPED
    assert int(sky.exceptions.JobExitCode.FAILED) == sky.skylet.job_lib.JobExitCode.FAILED == 100


# --- managed jobs ------------------------------------------------------------------------------------------------


def test_a_managed_job_has_a_number_and_a_handle(launched: str) -> None:
    from sky.jobs.client import sdk as jobs

    job, handle = sky.stream_and_get(jobs.launch(sky.Task(name="m", run="echo managed"), _need_confirmation=False))
    assert int(job) == job
    assert handle
    assert handle.get_cluster_name() == "sky-jobs-controller"
    out = io.StringIO()
    assert jobs.tail_logs(job_id=job, follow=True, output_stream=out) == 0
    assert "managed" in out.getvalue()
    (record,) = sky.get(jobs.queue(refresh=True, all_users=True, job_ids=[job]))
    assert record["status"] is sky.jobs.ManagedJobStatus.SUCCEEDED
    assert len(sky.get(jobs.queue())) == 1
    sky.get(jobs.cancel(job_ids=[job]))


def test_a_request_that_nobody_waits_for_is_carried_out(launched: str) -> None:
    program = f"import sky; sky.down('other'); sky.cancel({NAME!r}, all=True)"
    sky.get(sky.launch(sky.Task(run="sleep 600"), cluster_name="other", fast=True))
    subprocess.run([sys.executable, "-c", program], check=True)
    (dropped,) = [each for each in sky.api_status(all_status=True, cluster_name="other") if each.name == "sky.down"]
    sky.get(dropped.request_id)
    assert sky.get(sky.status("other")) == []

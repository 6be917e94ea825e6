"""The signatures that programs call by position and by name: those of the interface, with its defaults."""

import inspect
from typing import Any

import pytest

import sky
import sky.client.sdk as plain
import sky.client.sdk_async as coroutines

#: Interface 3.3: parameters in order; what has a default carries it. `*` begins the keyword-only ones.
SIGNATURES = {
    "launch": (
        "task, cluster_name=None, retry_until_up=False, idle_minutes_to_autostop=None, wait_for=None, dryrun=False, "
        "down=False, backend=None, optimize_target='COST', no_setup=False, clone_disk_from=None, fast=False, "
        "resize=False"
    ),
    "exec": "task, cluster_name=None, dryrun=False, down=False, backend=None",
    "status": "cluster_names=None, refresh='NONE', all_users=False",
    "start": (
        "cluster_name, idle_minutes_to_autostop=None, wait_for=None, retry_until_up=False, down=False, force=False"
    ),
    "stop": "cluster_name, purge=False, graceful=False, graceful_timeout=None",
    "down": "cluster_name, purge=False, graceful=False, graceful_timeout=None",
    "autostop": "cluster_name, idle_minutes, wait_for=None, down=False, hook=None, hook_timeout=None",
    "queue": "cluster_name, skip_finished=False, all_users=False",
    "job_status": "cluster_name, job_ids=None",
    "cancel": "cluster_name, all=False, all_users=False, job_ids=None",
    "tail_logs": "cluster_name, job_id=None, follow=True, tail=0, output_stream=None, *, preload_content=True",
    "download_logs": "cluster_name, job_ids",
    "endpoints": "cluster, port=None",
    "cost_report": "days=None",
    "check": "infra_list=None, verbose=False, workspace=None",
    "get": "request_id",
    "stream_and_get": (
        "request_id=None, log_path=None, tail=None, follow=True, output_stream=None, relay_rich_status=False"
    ),
    "api_status": "request_ids=None, all_status=False, limit=None, fields=None, cluster_name=None",
    "api_cancel": "request_ids=None, all_users=False, silent=False",
    "api_info": "",
    "api_start": (
        "*, deploy=False, host=None, foreground=False, metrics=False, metrics_port=None, enable_basic_auth=False, "
        "port=None"
    ),
    "api_stop": "",
    "api_server_logs": "follow=True, tail=None",
}


def parameters(function: Any) -> list[tuple[str, object, bool]]:
    """Name, default and whether it must be named, of each public parameter."""
    return [
        (each.name, each.default, each.kind is each.KEYWORD_ONLY)
        for each in inspect.signature(function).parameters.values()
        if not each.name.startswith("_") and each.kind is not each.VAR_KEYWORD
    ]


def described(text: str) -> list[tuple[str, object, bool]]:
    """The same of a line of the table above."""
    reader: dict[str, Any] = {}
    exec(f"def described({text}): ...", reader)
    return parameters(reader["described"])


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name: str) -> None:
    wanted = described(SIGNATURES[name])
    found = parameters(getattr(sky, name))
    assert found[: len(wanted)] == wanted
    beyond = [name for name, default, named in found[len(wanted) :] if default is inspect.Parameter.empty or not named]
    assert beyond == [], "what is more than the interface must be named and may be left out"
    # `sky.check` is a module, too, which is called like its function.
    assert (sky.check.check if name == "check" else getattr(sky, name)) is getattr(plain, name)


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_coroutine_of_the_same_name_takes_the_same(name: str) -> None:
    found = getattr(coroutines, name)
    assert inspect.iscoroutinefunction(found)
    left_out = {"stream_and_get": {"relay_rich_status"}, "tail_logs": {"preload_content"}}.get(name, set())
    wanted = [each for each in described(SIGNATURES[name]) if each[0] not in left_out]
    names = {each[0] for each in wanted}
    assert [each for each in parameters(found) if each[0] in names] == wanted


@pytest.mark.parametrize(
    ("enum", "members"),
    [
        (sky.ClusterStatus, "INIT UP STOPPED AUTOSTOPPING PENDING"),
        (
            sky.JobStatus,
            "INIT PENDING SETTING_UP RUNNING FAILED_DRIVER SUCCEEDED FAILED FAILED_SETUP CANCELLED",
        ),
        (sky.StatusRefreshMode, "NONE AUTO FORCE"),
        (sky.OptimizeTarget, "COST TIME EXPECTED"),
        (sky.DagExecution, "SERIAL PARALLEL"),
        (sky.StorageMode, "MOUNT COPY MOUNT_CACHED"),
        (sky.StoreType, "S3 GCS AZURE R2 IBM OCI NEBIUS COREWEAVE VASTDATA HF VOLUME"),
    ],
)
def test_members_of_enums(enum: Any, members: str) -> None:
    assert {each.name for each in enum} == set(members.split())


def test_exit_codes_of_jobs() -> None:
    codes = {each.name: int(each) for each in sky.exceptions.JobExitCode}
    assert codes == {"SUCCEEDED": 0, "FAILED": 100, "NOT_FINISHED": 101, "NOT_FOUND": 102, "CANCELLED": 103}


#: Class to the class that programs catch it by.
BASES = {
    "ClusterDoesNotExist": "ValueError",
    "InvalidSkyPilotConfigError": "ValueError",
    "StorageSpecError": "ValueError",
    "StorageSourceError": "StorageSpecError",
    "StorageNameError": "StorageSpecError",
    "StorageModeError": "StorageSpecError",
    "StorageInitError": "StorageError",
    "StorageBucketCreateError": "StorageInitError",
    "StorageBucketGetError": "StorageInitError",
    "StorageExternalDeletionError": "StorageBucketGetError",
    "NonExistentStorageAccountError": "StorageExternalDeletionError",
    "CommandError": "CommandFailureException",
}


@pytest.mark.parametrize("name", BASES)
def test_exceptions_are_caught_by_what_programs_name(name: str) -> None:
    base = getattr(sky.exceptions, BASES[name], None) or getattr(__import__("builtins"), BASES[name])
    assert issubclass(getattr(sky.exceptions, name), base)

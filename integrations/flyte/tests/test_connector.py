"""`pyflyte serve connector`, asked by gRPC as the engine asks it, with an object store; jobs run at a real server."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import sky
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskExecution
from flytekit import map_task

import engine
import kinds
import wired
from flyte_running import clusters
from household import until


@pytest.fixture(scope="module")
def store(home: Path) -> Iterator[engine.Store]:
    port = engine.free_port()
    # A connector has its server; that one is started with the first call is of no interest here.
    sky.get(sky.status())
    with engine.moto(port):
        yield engine.Store(port)


@pytest.fixture(scope="module")
def served(store: engine.Store) -> Iterator[engine.Served]:
    port, metrics = engine.free_port(), engine.free_port()
    with engine.connector(port, metrics, store.settings) as made:
        made.metrics = metrics  # type: ignore[attr-defined]
        yield made


@pytest.fixture
def flyte(served: engine.Served, store: engine.Store) -> Iterator[engine.Engine]:
    made = engine.Engine(served.port, store)
    yield made
    made.close()


def test_a_task_goes_through_the_connector(flyte: engine.Engine, served: engine.Served) -> None:
    request = flyte.request(wired.plus, "through", 0, a=4)
    begun = time.monotonic()
    meta = flyte.create(request)
    assert time.monotonic() - begun < 10
    assert len(meta) < 1024
    assert b"secret" not in meta
    done = flyte.ended(meta)
    assert done.phase == TaskExecution.SUCCEEDED, done.message
    assert flyte.outputs(request, wired.plus) == {"o0": 7}
    # Asked again, also after it has ended, it says the same.
    assert flyte.get(meta).phase == TaskExecution.SUCCEEDED
    told = engine.counted(served.metrics)  # type: ignore[attr-defined]
    assert 'requests_success_total{operation="create",task_type="skypilot"}' in told


def test_the_connector_is_listed(flyte: engine.Engine) -> None:
    listed = flyte.metadata.ListAgents(agent_pb2.ListAgentsRequest(), timeout=10).agents
    (ours,) = [each for each in listed if "skypilot" in [kind.name for kind in each.supported_task_categories]]
    assert ours.name == "SkyPilot Connector"
    assert not ours.is_sync


def test_the_engine_s_word_reaches_the_task(flyte: engine.Engine) -> None:
    request = flyte.request(wired.who, "who", 2)
    done = flyte.ended(flyte.create(request))
    assert done.phase == TaskExecution.SUCCEEDED, done.message
    assert flyte.outputs(request, wired.who) == {"o0": "p/d/who/2/e"}


def test_the_same_execution_is_begun_once(flyte: engine.Engine, served: engine.Served, store: engine.Store) -> None:
    request = flyte.request(wired.plus, "once", 0, a=1)
    first = flyte.create(request)
    again = flyte.create(request)
    served.stop(signal.SIGKILL)
    served.start()
    other = engine.Engine(served.port, store)
    try:
        later = other.create(request)
        assert other.ended(first).phase == TaskExecution.SUCCEEDED
        assert {other.ended(each).phase for each in (again, later)} == {TaskExecution.SUCCEEDED}
        assert other.outputs(request, wired.plus) == {"o0": 4}
        name = first.decode().split('"job_name": "')[1].split('"')[0]
        assert len([each for each in sky.get(sky.queue("wire")) if each.job_name == name]) == 1
        # Another attempt is another job.
        second = other.request(wired.plus, "once", 1, a=1)
        assert other.ended(other.create(second)).phase == TaskExecution.SUCCEEDED
    finally:
        other.close()


def test_connector_and_server_may_end_in_between(
    flyte: engine.Engine, served: engine.Served, store: engine.Store
) -> None:
    request = flyte.request(wired.nap, "between", 0, seconds=8)
    meta = flyte.create(request)
    served.stop(signal.SIGKILL)
    sky.api_stop()
    served.start()
    other = engine.Engine(served.port, store)
    try:
        done = other.ended(meta)
        assert done.phase == TaskExecution.SUCCEEDED, done.message
        assert other.outputs(request, wired.nap) == {"o0": 8}
    finally:
        other.close()


def test_create_does_not_wait_for_the_machine(flyte: engine.Engine) -> None:
    request = flyte.request(wired.slowly_set_up, "slowly", 0)
    begun = time.monotonic()
    meta = flyte.create(request)
    assert time.monotonic() - begun < 10
    until(lambda: "is SETTING_UP" in flyte.get(meta).message)
    assert flyte.get(meta).phase == TaskExecution.INITIALIZING
    flyte.delete(meta)
    assert flyte.ended(meta).phase == TaskExecution.ABORTED
    flyte.delete(meta)


def test_a_failure_is_told_in_its_own_words(flyte: engine.Engine) -> None:
    request = flyte.request(wired.boom, "boom", 0, a=3)
    done = flyte.ended(flyte.create(request))
    assert done.phase == TaskExecution.FAILED
    assert done.message == "RuntimeError: boom 3"
    assert "RuntimeError: boom 3" in flyte.error(request)
    again = flyte.request(wired.try_again, "again", 0)
    done = flyte.ended(flyte.create(again))
    assert done.phase == TaskExecution.RETRYABLE_FAILED
    assert "not this time" in done.message


def test_what_no_place_has_is_tried_again_by_the_engine(flyte: engine.Engine) -> None:
    done = flyte.ended(flyte.create(flyte.request(kinds.too_large, "large", 0)))
    assert done.phase == TaskExecution.RETRYABLE_FAILED
    assert "ResourcesUnavailableError" in done.message


def test_delete_cancels_the_job_and_leaves_the_cluster(flyte: engine.Engine) -> None:
    meta = flyte.create(flyte.request(wired.nap, "cancelled", 0, seconds=600))
    other = flyte.create(flyte.request(wired.nap, "stays", 0, seconds=6))
    until(lambda: flyte.get(meta).phase == TaskExecution.RUNNING)
    flyte.delete(meta)
    assert flyte.ended(meta).phase == TaskExecution.ABORTED
    assert flyte.ended(other).phase == TaskExecution.SUCCEEDED
    assert "wire" in clusters()


def test_delete_at_once_leaves_nothing_behind(flyte: engine.Engine) -> None:
    for task, execution in ((wired.nap, "at-once"), (wired.nap_alone, "at-once-alone")):
        meta = flyte.create(flyte.request(task, execution, 0, seconds=600))
        flyte.delete(meta)
        assert flyte.ended(meta).phase == TaskExecution.ABORTED
    assert not [each for each in sky.get(sky.queue("wire", skip_finished=True)) if each.job_name.startswith("nap-")]
    until(lambda: not sky.get(sky.jobs.queue(skip_finished=True)))


def test_a_managed_job_goes_through_the_connector(flyte: engine.Engine) -> None:
    request = flyte.request(wired.nap_alone, "alone", 0, seconds=1)
    done = flyte.ended(flyte.create(request))
    assert done.phase == TaskExecution.SUCCEEDED, done.message
    assert flyte.outputs(request, wired.nap_alone) == {"o0": 1}


def test_one_of_a_map(flyte: engine.Engine) -> None:
    mapped = map_task(wired.plus)
    request = flyte.request(mapped, "map", 0, a=[10, 20, 30])
    told = request.task_execution_metadata.environment_variables
    told["BATCH_JOB_ARRAY_INDEX_VAR_NAME"], told["FLYTE_K8S_ARRAY_INDEX"] = "FLYTE_K8S_ARRAY_INDEX", "1"
    done = flyte.ended(flyte.create(request))
    assert done.phase == TaskExecution.SUCCEEDED, done.message
    assert flyte.outputs(request, wired.plus) == {"o0": 23}


def test_a_script_through_the_connector(flyte: engine.Engine, tmp_path: Path) -> None:
    request = flyte.request(kinds.script, "script", 0, WORD="wired", COUNT=2, PLACE=str(tmp_path / "said"))
    done = flyte.ended(flyte.create(request))
    assert done.phase == TaskExecution.SUCCEEDED, done.message
    assert (tmp_path / "said").read_text() == "wired 2\n"


def test_paths_of_the_submitter_are_refused(flyte: engine.Engine) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        flyte.create(flyte.request(wired.mounts_a_path, "path", 0))
    assert "'/etc/passwd' (~/stolen) is a path of the machine that registered the task" in raised.value.details()


def test_secrets_are_in_no_template_and_no_process_list(flyte: engine.Engine) -> None:
    request = flyte.request(kinds.surroundings, "secrets", 0)
    assert b"s3cret-of-the-test" not in request.SerializeToString()
    assert b"HIDDEN" in request.SerializeToString()
    with pytest.raises(grpc.RpcError) as raised:
        flyte.create(request)
    assert "the connector's environment does not have HIDDEN" in raised.value.details()
    meta = flyte.create(flyte.request(wired.nap, "listed", 0, seconds=600))
    until(lambda: flyte.get(meta).phase == TaskExecution.RUNNING)
    listed = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
    assert "secret-of-the-store" not in listed
    flyte.delete(meta)


def test_local_execution_with_an_object_store(store: engine.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in store.settings.items():
        monkeypatch.setenv(name, value)
    from flyte_running import Pyflyte

    done = Pyflyte(Path()).run(
        "seed.py", "wf", "--a", "6", before=("--raw-output-data-prefix", f"s3://{engine.BUCKET}/raw")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[-1] == "9"
    sky.get(sky.down("foo"))

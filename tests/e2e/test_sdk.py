"""The SDK as programs use it: what people wrote for this interface runs unchanged on this machine.

One embedded server and one cluster serve all tests of this file.
"""

import asyncio
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import sky
import sky.local
from sky.client import sdk_async

pytestmark = [pytest.mark.e2e]

NAME = "sdk"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    # Not tmp_path: sockets below it need a short path.
    root = Path(tempfile.mkdtemp(prefix="sky-sdk-"))
    kept = {name: os.environ.get(name) for name in ("HOME", "SKYPILOT_API_SERVER_ENDPOINT")}
    os.environ["HOME"] = str(root)
    try:
        with sky.local.embedded(root / "s") as where:
            # Threads and other processes find it by the environment.
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
    """The id of the request that launched the cluster and ran its job 1."""
    task = sky.Task(name="hello", setup="echo setting up", run="echo hello $WHO", envs={"WHO": "sky"})
    task.set_resources(sky.Resources(infra="local", cpus="1+"))
    request = sky.launch(task, cluster_name=NAME, idle_minutes_to_autostop=30, down=True)
    job_id, handle = sky.stream_and_get(request)
    assert (job_id, handle.get_cluster_name()) == (1, NAME)
    assert sky.tail_logs(NAME, 1, follow=True, output_stream=io.StringIO()) == 0
    return str(request)


def run(script: str) -> int | None:
    return sky.get(sky.exec(sky.Task(run=script), cluster_name=NAME))[0]


def test_a_request_is_read_from_another_process(launched: str) -> None:
    code = f"import sky; print(sky.get({launched!r})[0], sky.get({launched[:13]!r})[1].head_ip)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "1"
    assert done.stdout.split()[1].startswith("127.")


def test_exit_codes_of_logs(launched: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sky.tail_logs(NAME, 1, follow=True) == 0
    assert "hello sky" in capsys.readouterr().out
    out = io.StringIO()
    assert sky.tail_logs(cluster_name=NAME, job_id=run("echo bad; exit 3"), follow=True, output_stream=out) == 100
    assert ") bad\n" in out.getvalue()
    running = run("sleep 600")
    assert sky.tail_logs(NAME, running, follow=False) == 101
    assert sky.tail_logs(NAME, 999, follow=True) == 102
    sky.get(sky.cancel(NAME, job_ids=[running]))
    assert sky.tail_logs(NAME, running, follow=True) == 103
    assert sky.get(sky.job_status(NAME, [1, running, 999])) == {
        1: sky.JobStatus.SUCCEEDED,
        running: sky.JobStatus.CANCELLED,
        999: None,
    }


def test_a_log_is_also_an_iterator_of_lines(launched: str) -> None:
    lines = list(sky.tail_logs(NAME, 1, follow=True, preload_content=False))
    assert [line.split(") ", 1)[1] for line in lines] == ["setting up\n", "hello sky\n"]


def test_records_by_attribute_and_by_key(launched: str) -> None:
    (cluster,) = sky.get(sky.status(cluster_names=["sd*"], refresh=sky.StatusRefreshMode.AUTO))
    assert cluster.status == cluster["status"] == sky.ClusterStatus.UP
    assert (cluster.name, cluster["autostop"], cluster.to_down) == (NAME, 30, True)
    assert cluster.resources_str.startswith("1x(cpus=")
    newest = sky.get(sky.queue(NAME))[-1]
    assert (newest.job_id, newest["job_name"], newest.status) == (1, "hello", sky.JobStatus.SUCCEEDED)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: sky.exec(sky.Task(run="x"), "nope"), sky.exceptions.ClusterDoesNotExist),
        (lambda: sky.queue("nope"), sky.exceptions.ClusterDoesNotExist),
        (lambda: sky.launch(sky.Task(run="x"), "Bad_!"), sky.exceptions.InvalidClusterNameError),
        (
            lambda: sky.launch(sky.Task(run="x", resources=sky.Resources(accelerators="A100:9")), "none"),
            sky.exceptions.ResourcesUnavailableError,
        ),
        (lambda: sky.launch(sky.Task(run="x", num_nodes=9), NAME), sky.exceptions.ResourcesMismatchError),
        (lambda: sky.launch(sky.Task(run="x"), "new", clone_disk_from="nope"), sky.exceptions.ClusterDoesNotExist),
    ],
)
def test_errors_arrive_as_their_own_class(launched: str, call, error) -> None:
    with pytest.raises(error):
        sky.get(call())


def test_a_dag_of_one_is_launched_and_a_pipeline_is_not(launched: str) -> None:
    with sky.Dag() as dag:
        sky.Task(name="only", run="true")
    assert sky.get(sky.launch(dag, cluster_name=NAME))[0] > 1
    with sky.Dag() as pipeline:
        sky.Task(name="a", run="true") >> sky.Task(name="b", run="true")
    with pytest.raises(ValueError, match=r"sky\.jobs\.launch"):
        sky.launch(pipeline, cluster_name=NAME)


def test_threads_each_get_their_own_job(launched: str) -> None:
    told: dict[int, int | None] = {}

    def work(number: int) -> None:
        told[number] = run(f"echo number-{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(told.values())) == 6
    for number, job in told.items():
        assert "".join(sky.tail_logs(NAME, job, True, preload_content=False)).endswith(f"number-{number}\n")


def test_logs_of_every_node_are_kept(launched: str, endpoint: str) -> None:
    folder = Path(sky.download_logs(NAME, ["1"])["1"])
    assert (folder / "run.log").read_text().endswith("hello sky\n")
    assert (folder / "tasks" / "0-head.log").read_text() == "hello sky\n"


async def test_the_same_names_as_coroutines(endpoint: str) -> None:
    out = io.StringIO()
    job, handle = await sdk_async.launch(
        sky.Task(run="echo async"), cluster_name="later", stream_logs=sdk_async.StreamConfig(output_stream=out)
    )
    assert (job, handle.cluster_name) == (1, "later")
    assert "later: up" in out.getvalue()
    assert await sdk_async.tail_logs("later", 1) == 0
    both = await asyncio.gather(sdk_async.job_status("later", [1]), sdk_async.tail_logs("later", 1))
    assert both == [{1: sky.JobStatus.SUCCEEDED}, 0]
    assert await sdk_async.down("later") is None
    with pytest.raises(sky.exceptions.ClusterDoesNotExist):
        await sdk_async.queue("later")


def test_a_dropped_request_is_carried_out_all_the_same(endpoint: str) -> None:
    code = "import sky; print(sky.launch(sky.Task(run='echo kept'), cluster_name='alone'))"
    id = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert sky.get(id)[0] == 1
    assert sky.tail_logs("alone", 1, follow=True) == 0

"""Flyte 2: tasks in local execution, with data on this machine and in an object store; and `c0`, asked by gRPC.

Where `flyte` is installed; it does not have to be beside flytekit.
"""

import asyncio
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

flyte = pytest.importorskip("flyte")
boto3 = pytest.importorskip("boto3")

import grpc  # noqa: E402
import sky  # noqa: E402
from flyte.models import CodeBundle, SerializationContext  # noqa: E402
from flyteidl2.connector import connector_pb2, service_pb2_grpc  # noqa: E402
from flyteidl2.core.execution_pb2 import TaskExecution  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
import second  # noqa: E402

BIN = Path(sys.executable).parent


def served(words: list[str], port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(words)
    end = time.monotonic() + 60
    while True:
        assert process.poll() is None
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return process
        assert time.monotonic() < end
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def store(home: Path) -> Iterator[str]:
    port = free_port()
    process = served([str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], port)
    url = f"http://127.0.0.1:{port}"
    os.environ |= {
        "FLYTE_AWS_ENDPOINT": url,
        "FLYTE_AWS_ACCESS_KEY_ID": "key",
        "FLYTE_AWS_SECRET_ACCESS_KEY": "secret-of-the-store",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client("s3", endpoint_url=url, aws_access_key_id="key", aws_secret_access_key="s")
    client.create_bucket(Bucket="two")
    flyte.init(root_dir=pathlib.Path(second.__file__).parent)
    try:
        yield "s3://two/data"
    finally:
        process.terminate()
        process.wait()
        for each in sky.get(sky.status(["second"])):
            sky.get(sky.down(each.name))


def test_with_data_on_this_machine_the_function_runs_here(store: str) -> None:
    assert flyte.with_runcontext(mode="local").run(second.place).outputs()[0] == "here"


def test_with_an_object_store_it_runs_as_a_job(store: str) -> None:
    local = flyte.with_runcontext(mode="local", raw_data_path=store)
    assert local.run(second.plus, a=4).outputs()[0] == 7
    with pytest.raises(Exception, match="boom 3"):
        local.run(second.boom, a=3).outputs()
    assert {each.status.value for each in sky.get(sky.queue("second"))} <= {"SUCCEEDED", "FAILED"}


def test_c0_lists_it_and_takes_its_tasks(store: str) -> None:
    from flyte._internal.runtime import convert, io
    from flyte._internal.runtime.task_serde import get_proto_task
    from flyte.connectors._connector import _build_and_upload_code_bundle
    from flyte.connectors.utils import _render_task_template

    prefix = f"{store}/by-c0"

    async def prepared() -> connector_pb2.CreateTaskRequest:
        bundle: CodeBundle = await _build_and_upload_code_bundle(pathlib.Path(second.__file__).parent, prefix)
        from flyte._deploy import build_images

        context = SerializationContext(
            project="p", domain="d", org="o", version="v", code_bundle=bundle,
            image_cache=await build_images.aio(second.env), root_dir=pathlib.Path(second.__file__).parent,
        )  # fmt: skip
        template = _render_task_template(get_proto_task(second.plus, context), prefix)
        inputs = await convert.convert_from_native_to_inputs(second.plus.native_interface, a=5)
        await io.upload_inputs(inputs, io.inputs_path(prefix))
        return connector_pb2.CreateTaskRequest(
            template=template, inputs=inputs.proto_inputs, output_prefix=prefix,
            task_execution_metadata=connector_pb2.TaskExecutionMetadata(),
        )  # fmt: skip

    request = asyncio.run(prepared())
    port, metrics = free_port(), free_port()
    process = served([str(BIN / "c0"), "--port", str(port), "--prometheus_port", str(metrics)], port)
    category = connector_pb2.TaskCategory(name="skypilot", version=0)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            listed = service_pb2_grpc.ConnectorMetadataServiceStub(channel).ListConnectors(
                connector_pb2.ListConnectorsRequest(), timeout=30
            )
            assert "SkyPilot Connector" in [each.name for each in listed.connectors]
            stub = service_pb2_grpc.AsyncConnectorServiceStub(channel)
            meta = stub.CreateTask(request, timeout=30).resource_meta
            assert b"secret" not in meta
            found = None
            end = time.monotonic() + 120
            while found is None or found.phase not in (TaskExecution.SUCCEEDED, TaskExecution.FAILED):
                assert time.monotonic() < end, found
                asked = connector_pb2.GetTaskRequest(task_category=category, resource_meta=meta)
                found = stub.GetTask(asked, timeout=30).resource
            assert found.phase == TaskExecution.SUCCEEDED, found.message
            stub.DeleteTask(connector_pb2.DeleteTaskRequest(task_category=category, resource_meta=meta), timeout=30)
    finally:
        process.terminate()
        process.wait()
    outputs = asyncio.run(io.load_outputs(io.outputs_path(prefix)))
    assert asyncio.run(convert.convert_outputs_to_native(second.plus.native_interface, outputs)) == 8

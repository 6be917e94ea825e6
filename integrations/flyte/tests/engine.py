"""Flyte's engine as far as a connector sees it: registers tasks, fills in templates, calls by gRPC, reads outputs.

Beside it an object store (moto) and `pyflyte serve connector`, each a process of its own. Used by the tests.
"""

import io
import os
import signal
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections import OrderedDict
from typing import Any, Self

import boto3
import grpc
from flyteidl.admin import agent_pb2
from flyteidl.core import errors_pb2, identifier_pb2, literals_pb2
from flyteidl.core.execution_pb2 import TaskExecution
from flyteidl.service.agent_pb2_grpc import AgentMetadataServiceStub, AsyncAgentServiceStub
from flytekit import FlyteContextManager
from flytekit.configuration import FastSerializationSettings, Image, ImageConfig, SerializationSettings
from flytekit.core.type_engine import TypeEngine
from flytekit.models.literals import LiteralMap
from flytekit.tools.translator import get_serializable

from flyte_running import BIN, FLOWS

BUCKET = "flyte"
OVER = (TaskExecution.SUCCEEDED, TaskExecution.FAILED, TaskExecution.RETRYABLE_FAILED, TaskExecution.ABORTED)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Served:
    """A program that listens on a port until the block ends."""

    def __init__(self, words: list[str], port: int, environment: dict[str, str]) -> None:
        self._words, self.port, self._environment = words, port, environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin, and wait until it listens."""
        self._process = subprocess.Popen(self._words, env={**os.environ, **self._environment}, cwd="/")
        end = time.monotonic() + 60
        while True:
            assert self._process.poll() is None, f"{self._words} ended with {self._process.returncode}"
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < end, f"{self._words} does not listen"
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        assert self._process is not None
        self._process.send_signal(how)
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Store:
    """An object store with the flows' code in it, as `pyflyte register` would have put it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.settings = {
            "FLYTE_AWS_ENDPOINT": self.url,
            "FLYTE_AWS_ACCESS_KEY_ID": "key",
            "FLYTE_AWS_SECRET_ACCESS_KEY": "secret-of-the-store",
        }
        self.client = boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id="key", aws_secret_access_key="s", region_name="us-east-1"
        )
        self.client.create_bucket(Bucket=BUCKET)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for file in FLOWS.glob("*.py"):
                archive.add(file, file.name)
        self.client.put_object(Bucket=BUCKET, Key="code.tar.gz", Body=packed.getvalue())

    def read(self, key: str) -> bytes:
        """An object's content."""
        found: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return found


class Engine:
    """Calls a connector about executions."""

    def __init__(self, port: int, store: Store) -> None:
        self.store = store
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = AsyncAgentServiceStub(self._channel)
        self.metadata = AgentMetadataServiceStub(self._channel)

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()

    def request(self, task: Any, execution: str, attempt: int = 0, /, **inputs: Any) -> agent_pb2.CreateTaskRequest:
        """What the engine asks for one attempt of a task; its inputs lie in the store already."""
        settings = SerializationSettings(
            image_config=ImageConfig(default_image=Image("default", "cr.flyte.org/flyteorg/flytekit", "py3.11-1.15.0")),
            project="p",
            domain="d",
            version="v",
            fast_serialization_settings=FastSerializationSettings(
                enabled=True, destination_dir=".", distribution_location=f"s3://{BUCKET}/code.tar.gz"
            ),
        )
        template = get_serializable(OrderedDict(), settings, task).template.to_flyte_idl()
        prefix = f"s3://{BUCKET}/{execution}/{attempt}"
        literals = TypeEngine.dict_to_literal_map(
            FlyteContextManager.current_context(), inputs, task.python_interface.inputs
        ).to_flyte_idl()
        key = prefix.removeprefix(f"s3://{BUCKET}/")
        self.store.client.put_object(Bucket=BUCKET, Key=f"{key}/inputs.pb", Body=literals.SerializeToString())
        self._fill(template, prefix)
        node = identifier_pb2.NodeExecutionIdentifier(
            node_id="n0",
            execution_id=identifier_pb2.WorkflowExecutionIdentifier(project="p", domain="d", name=execution),
        )
        told = agent_pb2.TaskExecutionMetadata(
            task_execution_id=identifier_pb2.TaskExecutionIdentifier(
                task_id=template.id, node_execution_id=node, retry_attempt=attempt
            ),
            environment_variables={"FROM_ENGINE": "e"},
        )
        return agent_pb2.CreateTaskRequest(
            inputs=literals, template=template, output_prefix=prefix, task_execution_metadata=told
        )

    @staticmethod
    def _fill(template: Any, prefix: str) -> None:
        told = {
            "{{.input}}": f"{prefix}/inputs.pb",
            "{{.outputPrefix}}": prefix,
            "{{.rawOutputDataPrefix}}": f"{prefix}/raw",
            "{{.checkpointOutputPrefix}}": f"{prefix}/checkpoint",
            "{{.prevCheckpointPrefix}}": '""',
            "{{ .remote_package_path }}": f"s3://{BUCKET}/code.tar.gz",
            "{{ .dest_dir }}": ".",
        }
        if not template.HasField("container"):
            return
        for at in range(len(template.container.args)):
            for mark, value in told.items():
                template.container.args[at] = template.container.args[at].replace(mark, value)

    def create(self, request: agent_pb2.CreateTaskRequest) -> bytes:
        """Begin; what the engine keeps of the task."""
        return bytes(self.stub.CreateTask(request, timeout=30).resource_meta)

    def get(self, meta: bytes) -> Any:
        """How far it is."""
        asked = agent_pb2.GetTaskRequest(
            task_category=agent_pb2.TaskCategory(name="skypilot", version=0), resource_meta=meta
        )
        return self.stub.GetTask(asked, timeout=30).resource

    def delete(self, meta: bytes) -> None:
        """Call it off."""
        asked = agent_pb2.DeleteTaskRequest(
            task_category=agent_pb2.TaskCategory(name="skypilot", version=0), resource_meta=meta
        )
        self.stub.DeleteTask(asked, timeout=60)

    def ended(self, meta: bytes, seconds: float = 120) -> Any:
        """Ask until it has ended."""
        end = time.monotonic() + seconds
        while True:
            found = self.get(meta)
            if found.phase in OVER:
                return found
            assert time.monotonic() < end, f"not over after {seconds:g} s: {found}"
            time.sleep(0.2)

    def outputs(self, request: agent_pb2.CreateTaskRequest, task: Any) -> dict[str, Any]:
        """What a task has left in the store, as native values."""
        key = request.output_prefix.removeprefix(f"s3://{BUCKET}/")
        found = literals_pb2.LiteralMap()
        found.ParseFromString(self.store.read(f"{key}/outputs.pb"))
        kept: dict[str, Any] = TypeEngine.literal_map_to_kwargs(
            FlyteContextManager.current_context(), LiteralMap.from_flyte_idl(found), task.python_interface.outputs
        )
        return kept

    def error(self, request: agent_pb2.CreateTaskRequest) -> str:
        """The error that a task has left in the store."""
        key = request.output_prefix.removeprefix(f"s3://{BUCKET}/")
        found = errors_pb2.ErrorDocument()
        found.ParseFromString(self.store.read(f"{key}/error.pb"))
        return str(found.error.message)


def moto(port: int) -> Served:
    """The object store."""
    return Served([str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], port, {})


def connector(port: int, metrics: int, settings: dict[str, str]) -> Served:
    """`pyflyte serve connector`."""
    words = [str(BIN / "pyflyte"), "serve", "connector", "--port", str(port), "--prometheus_port", str(metrics)]
    return Served([*words, "--timeout", "600"], port, settings)


def counted(port: int) -> str:
    """The connector's own counters."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as told:
        return str(told.read().decode())

"""The connector of Flyte 2: the same core as that of flytekit, behind coroutines.

Called by the mixin in local execution with an object store, and by `c0` on behalf of the engine. What asks the sky
server does so in a thread, since Flyte 2 calls from its event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import flyte
from flyte import storage
from flyte.connectors import AsyncConnector, ConnectorRegistry, Resource, ResourceMeta
from flyteidl2.core import execution_pb2
from google.protobuf import json_format

from flytekitplugins.skypilot import jobs, node, phases
from flytekitplugins.skypilot.config import SkyPilot, refuse_local_paths, whole
from flyteplugins.skypilot.task import TASK_TYPE

#: How Flyte's own images are called, which stand in templates for which nobody chose one.
_DEFAULT_IMAGE = "ghcr.io/flyteorg/flyte:"
_STORE = re.compile(r"FLYTE_(AWS|GCP|AZURE)_[A-Z0-9_]+")
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL")


@dataclass
class SkyPilotJobMetadata(ResourceMeta):
    """What the engine keeps of a task and gives back with every call."""

    job_id: int | None = None
    cluster_name: str | None = None
    request_id: str = ""
    job_name: str = ""
    managed: bool = False
    near: bool = False
    outputs_path: str = ""

    @classmethod
    def decode(cls, data: bytes) -> SkyPilotJobMetadata:
        """Read what this or another version wrote: words that are not known are left out."""
        told = whole(json.loads(data))
        return cls(**{each.name: told[each.name] for each in fields(cls) if each.name in told})

    @property
    def handle(self) -> jobs.Handle:
        """By what the job is found."""
        return jobs.Handle(self.request_id, self.job_name, self.cluster_name, self.managed, self.job_id)


class SkyPilotConnector(AsyncConnector[SkyPilotJobMetadata]):
    """Tasks of type `skypilot`."""

    name = "SkyPilot Connector"
    task_type_name = TASK_TYPE
    metadata_type = SkyPilotJobMetadata

    async def create(
        self,
        task_template: Any,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        task_execution_metadata: Any = None,
        **kwargs: Any,
    ) -> SkyPilotJobMetadata:
        """Put the task's launch on record; again for the same execution gives the same job where it is there."""
        return await asyncio.to_thread(self._create, task_template, output_prefix, task_execution_metadata)

    def _create(self, template: Any, prefix: str, execution: Any) -> SkyPilotJobMetadata:
        config = SkyPilot.from_custom(json_format.MessageToDict(template.custom))
        if execution is not None:
            refuse_local_paths(config, {})
        if config.cluster_name is None and not config.is_managed:
            raise ValueError("SkyPilot: with Flyte 2 a task without cluster_name is a managed job")
        name = job_name(template, prefix, execution)
        cluster = None if config.is_managed else config.cluster_name
        handle = jobs.find(name, cluster) if execution is not None else None
        if handle is None:
            with tempfile.TemporaryDirectory(prefix="flyte-sky-") as folder:
                handle = jobs.submit(
                    _task(config, template, prefix, name, Path(folder)),
                    name,
                    cluster,
                    idle_minutes_to_autostop=config.idle_minutes_to_autostop,
                    down=config.down,
                    retry_until_up=config.retry_until_up,
                )
        return SkyPilotJobMetadata(
            handle.job_id,
            cluster,
            handle.request_id,
            name,
            config.is_managed,
            near=execution is None,
            outputs_path=_after(template.container.args, "--outputs-path"),
        )

    async def get(self, resource_meta: SkyPilotJobMetadata, **kwargs: Any) -> Resource:
        """How far the task is. A task that failed fails with its own message, or the last lines of its log."""
        found = await asyncio.to_thread(self._get, resource_meta)
        if found.phase not in (phases.SUCCEEDED, phases.FAILED, phases.RETRYABLE) or not resource_meta.outputs_path:
            return found
        # Flyte's program ends well also where the task did not; what it left in the store tells.
        error = await _error_at(f"{resource_meta.outputs_path}/error.pb")
        return found if error is None else Resource(phase=phases.FAILED, message=error)

    @staticmethod
    def _get(meta: SkyPilotJobMetadata) -> Resource:
        state = jobs.look(meta.handle)
        phase, message = state.phase, state.message
        if phase in (phases.FAILED, phases.RETRYABLE) and state.job_id is not None and not state.lost:
            lines = [line for line in jobs.log_tail(meta.handle, state.job_id) if line.strip()]
            message = "\n".join([f"{message} ({jobs.told(meta.handle, state.job_id)})", *lines[-12:]])
        if meta.near and phase == phases.RETRYABLE:
            # Local execution would ask for ever: it does not take this phase for an end.
            phase = phases.FAILED
        return Resource(phase=phase, message=message)

    async def delete(self, resource_meta: SkyPilotJobMetadata, **kwargs: Any) -> None:
        """Cancel the task; a cluster that others may share stays."""
        await asyncio.to_thread(jobs.end, resource_meta.handle)


async def _error_at(path: str) -> str | None:
    if not await storage.exists(path):
        return None
    told = execution_pb2.ErrorDocument()
    told.ParseFromString(b"".join([piece async for piece in storage.get_stream(path=path)]))
    return f"{told.error.code}: {told.error.message}"


def _after(words: Sequence[str], word: str) -> str:
    """What follows a word of a command; nothing if it is not there."""
    found = list(words)
    return found[found.index(word) + 1] if word in found[:-1] else ""


def job_name(template: Any, prefix: str, execution: Any) -> str:
    """A name that this attempt of this task alone has."""
    told = execution.SerializeToString(deterministic=True) if execution is not None else os.urandom(16)
    mark = hashlib.sha256(told + f"\0{prefix}\0{template.id.name}".encode()).hexdigest()[:12]
    word = re.sub(r"[^a-z0-9]+", "-", template.id.name.rpartition(".")[2].lower()).strip("-")[:24].strip("-")
    return f"{word if word[:1].isalpha() else 'task'}-{mark}"


def _task(config: SkyPilot, template: Any, prefix: str, name: str, staged: Path) -> Any:
    container = template.container
    image = container.image if container.image and not container.image.startswith(_DEFAULT_IMAGE) else None
    image = config.image or image
    timeout = template.metadata.timeout.ToTimedelta().total_seconds()
    run = node.Run(
        key=name,
        args=[*container.command, *container.args],
        prefix=prefix,
        local=False,
        in_workdir=config.workdir is not None,
        timeout_s=timeout or None,
        own_image=image is not None,
        package="flyte",
        program="a0",
    )
    node.lay_out_plugin(staged / "src")
    envs, secrets = _settings(config)
    envs |= {each.key: each.value for each in container.env} | config.envs
    resources: dict[str, Any] = {"image_id": f"docker:{image}"} if image is not None else {}
    if config.use_spot or (config.use_spot is None and template.metadata.interruptible):
        resources["use_spot"] = True
    made = {
        "name": name,
        "setup": node.setup_script(run, flyte.__version__, config.setup),
        "run": node.run_script(run, flyte.__version__),
        "envs": envs,
        "secrets": secrets or None,
        "file_mounts": {**config.file_mounts, f"~/.flyte-sky/{name}": str(staged)},
        "workdir": config.workdir,
        "num_nodes": config.num_nodes,
        "resources": {**resources, **(config.resources or {})} or None,
    }
    return jobs.sky().Task.from_yaml_config({key: value for key, value in made.items() if value is not None})


def _settings(config: SkyPilot) -> tuple[dict[str, str], dict[str, str]]:
    """The store's settings of this process, and secrets by name. Raises ValueError for one that is not there."""
    store = {name: value for name, value in os.environ.items() if _STORE.fullmatch(name)}
    secrets = {name: value for name, value in store.items() if _SECRET.search(name)}
    if isinstance(config.secrets, Mapping):
        return {name: store[name] for name in store.keys() - secrets.keys()}, {**secrets, **config.secrets}
    missing = [name for name in config.secrets if name not in os.environ]
    if missing:
        raise ValueError(f"SkyPilot(secrets=…): the connector's environment does not have {', '.join(missing)}")
    return (
        {name: store[name] for name in store.keys() - secrets.keys()},
        secrets | {name: os.environ[name] for name in config.secrets},
    )


ConnectorRegistry.register(SkyPilotConnector(), override=True)

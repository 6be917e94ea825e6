"""The connector: launches a task as a job, tells how far it is, cancels it.

flytekit calls it in local execution, and `pyflyte serve connector` on behalf of Flyte's engine. All methods are plain
functions that answer at once: what goes on does so at the sky server, so a connector may be restarted at any time.
`delete` in particular must not be a coroutine: flytekit calls it from a signal handler inside a running loop.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import threading
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import flytekit
from flytekit.extend.backend.base_connector import (
    AsyncConnectorBase,
    ConnectorRegistry,
    Resource,
    ResourceMeta,
)
from flytekit.models.literals import LiteralMap
from flytekit.models.task import TaskTemplate

from flytekitplugins.skypilot import files, jobs, node, phases, staging, wants
from flytekitplugins.skypilot.config import SkyPilot, refuse_local_paths, whole
from flytekitplugins.skypilot.task import TASK_TYPE

#: Characters of a message that the engine is given.
_MOST_SAID = 4000


@dataclass
class SkyPilotMetadata(ResourceMeta):
    """What the engine keeps of a task and gives back with every call: below a kilobyte, no secret."""

    job_id: int | None = None
    cluster_name: str | None = None
    cloud: str | None = None
    region: str | None = None
    request_id: str = ""
    job_name: str = ""
    managed: bool = False
    own_cluster: bool = False
    output_prefix: str = ""
    void: bool = False

    @classmethod
    def decode(cls, data: bytes) -> SkyPilotMetadata:
        """Read what this or another version wrote: words that are not known are left out."""
        told = whole(json.loads(data))
        return cls(**{each.name: told[each.name] for each in fields(cls) if each.name in told})

    @property
    def handle(self) -> jobs.Handle:
        """By what the job is found."""
        return jobs.Handle(self.request_id, self.job_name, self.cluster_name, self.managed, self.job_id)


class SkyPilotConnector(AsyncConnectorBase):
    """Tasks of type `skypilot`."""

    name = "SkyPilot Connector"

    def __init__(self, version: int = 0) -> None:
        super().__init__(task_type_name=TASK_TYPE, task_type_version=version, metadata_type=SkyPilotMetadata)
        self._turns: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def create(
        self,
        task_template: TaskTemplate,
        output_prefix: str,
        inputs: LiteralMap | None = None,
        task_execution_metadata: Any = None,
        **kwargs: Any,
    ) -> SkyPilotMetadata:
        """Put the task's launch on record. Called again for the same execution, it gives the same job.

        Raises what is wrong with the task, in its own words; nothing is rented then.
        """
        custom = dict(task_template.custom or {})
        config = SkyPilot.from_custom(custom)
        # Only in local execution are there no metadata at all, and only there are paths those of the submitter.
        near = task_execution_metadata is None
        if not near:
            refuse_local_paths(config, custom)
        name = job_name(task_template, output_prefix, task_execution_metadata)
        own = not config.is_managed and config.cluster_name is None
        meta = SkyPilotMetadata(
            cluster_name=name if own else config.cluster_name,
            job_name=name,
            managed=config.is_managed,
            own_cluster=own,
            output_prefix=output_prefix,
            void=not task_template.interface.outputs,
        )
        with self._turn(name):
            handle = None if near else self._begun(meta)
            if handle is None:
                handle = self._launch(
                    config, custom, task_template, output_prefix, inputs, task_execution_metadata, meta
                )
                if not near:
                    files.note(output_prefix, name, handle.request_id)
        meta.request_id, meta.job_id = handle.request_id, handle.job_id
        return meta

    def get(self, resource_meta: SkyPilotMetadata, **kwargs: Any) -> Resource:
        """How far the task is. A task that failed fails with its own message."""
        handle = resource_meta.handle
        state = jobs.look(handle)
        if not state.over:
            return Resource(phase=state.phase, message=state.message)
        prefix = resource_meta.output_prefix
        written = files.Written(prefix) if prefix else None
        if written is not None and state.job_id is not None and not state.lost:
            written.bring_back(handle, state.job_id)
        phase, message = _judged(state, written, resource_meta, handle)
        if resource_meta.own_cluster and not state.lost:
            jobs.remove(handle)
        return Resource(phase=phase, message=message[-_MOST_SAID:])

    def delete(self, resource_meta: SkyPilotMetadata, **kwargs: Any) -> None:
        """Cancel the task; a cluster that others may share stays. Quiet where it has ended already."""
        jobs.end(resource_meta.handle, own_cluster=resource_meta.own_cluster)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _turn(self, name: str) -> threading.Lock:
        """One at a time per task: an engine that has waited too long for an answer asks again."""
        with self._guard:
            if len(self._turns) > 1000:
                self._turns = {key: each for key, each in self._turns.items() if each.locked()}
            return self._turns.setdefault(name, threading.Lock())

    @staticmethod
    def _begun(meta: SkyPilotMetadata) -> jobs.Handle | None:
        """The launch that an earlier call for this execution has put on record."""
        request_id = files.noted(meta.output_prefix, meta.job_name)
        if request_id is not None:
            return jobs.Handle(request_id, meta.job_name, meta.cluster_name, meta.managed)
        return jobs.find(meta.job_name, meta.cluster_name)

    @staticmethod
    def _launch(
        config: SkyPilot,
        custom: dict[str, Any],
        template: TaskTemplate,
        prefix: str,
        inputs: LiteralMap | None,
        execution: Any,
        meta: SkyPilotMetadata,
    ) -> jobs.Handle:
        with tempfile.TemporaryDirectory(prefix="flyte-sky-") as folder:
            staged = Path(folder)
            task = task_of(config, custom, template, prefix, inputs, execution, meta.job_name, staged)
            return jobs.submit(
                task,
                meta.job_name,
                meta.cluster_name,
                idle_minutes_to_autostop=config.idle_minutes_to_autostop,
                down=config.down or meta.own_cluster,
                retry_until_up=config.retry_until_up,
            )


def job_name(template: TaskTemplate, prefix: str, execution: Any) -> str:
    """A name that this attempt of this task alone has, the same whenever it is asked for."""
    told: Any = getattr(execution, "task_execution_id", None)
    node_id: Any = getattr(told, "node_execution_id", None)
    whole_id = getattr(node_id, "execution_id", None)
    # The prefix tells sub-nodes of a map task apart, which share a node's name.
    parts = [prefix]
    if whole_id is not None and whole_id.name:
        parts += [whole_id.project, whole_id.domain, whole_id.name, node_id.node_id, str(told.retry_attempt)]
    full = template.id.name if template.id is not None else "task"
    parts.append(full)
    mark = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    word = re.sub(r"[^a-z0-9]+", "-", full.rpartition(".")[2].lower()).strip("-")[:24].strip("-")
    return f"{word if word[:1].isalpha() else 'task'}-{mark}"


def task_of(
    config: SkyPilot,
    custom: dict[str, Any],
    template: TaskTemplate,
    prefix: str,
    inputs: LiteralMap | None,
    execution: Any,
    name: str,
    staged: Path,
) -> Any:
    """The `sky.Task`; what travels with it is laid out in `staged`."""
    client = jobs.sky()
    envs = wants.variables(config, template, execution)
    told: dict[str, Any] = dict(whole(custom.get("task") or {}))
    setup, run = config.setup, told.get("run")
    mounts = {**dict(told.get("file_mounts") or {}), **config.file_mounts}
    if template.container is not None:
        what = _run_of(config, template, prefix, name)
        setup, run = (
            node.setup_script(what, flytekit.__version__, config.setup),
            node.run_script(what, flytekit.__version__),
        )
        node.lay_out_plugin(staged / "src")
        if "source" in custom:
            staging.lay_out_source(custom["source"], staged / "src")
        if what.local and not _on_this_machine(config):
            staging.lay_out_inputs(prefix, inputs, staged / "in")
        if what.local:
            Path(prefix).mkdir(parents=True, exist_ok=True)
            (Path(prefix) / node.here_file(name)).touch()
        mounts[f"~/.flyte-sky/{name}"] = str(staged)
    else:
        envs |= _as_variables(inputs)
        setup = node.once("\n".join(each for each in (told.get("setup"), config.setup) if each)) or None
    made = {
        **told,
        "name": name,
        "setup": setup,
        "run": run,
        "envs": {**dict(told.get("envs") or {}), **envs},
        "secrets": wants.secrets(config, template) or None,
        "file_mounts": mounts or None,
        "resources": {**dict(told.get("resources") or {}), **wants.resources(config, template)} or None,
    }
    if config.num_nodes != 1:
        made["num_nodes"] = config.num_nodes
    if config.workdir is not None:
        made["workdir"] = config.workdir
    return client.Task.from_yaml_config({key: value for key, value in made.items() if value is not None})


def _run_of(config: SkyPilot, template: TaskTemplate, prefix: str, name: str) -> node.Run:
    timeout = template.metadata.timeout
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout or 0)
    return node.Run(
        key=name,
        args=[*(template.container.command or ()), *(template.container.args or ())],
        prefix=prefix,
        local=staging.is_local(prefix),
        in_workdir=config.workdir is not None,
        timeout_s=seconds or None,
        own_image=wants.image_of(config, template) is not None,
    )


def _on_this_machine(config: SkyPilot) -> bool:
    return (config.resources or {}).get("infra") == "local"


def _as_variables(inputs: LiteralMap | None) -> dict[str, str]:
    found = {}
    for name, literal in (inputs.literals if inputs is not None else {}).items():
        primitive = literal.scalar.primitive if literal.scalar is not None else None
        if primitive is None:
            raise ValueError(f"SkyPilotTask: input '{name}' is no number, text or switch, so it cannot be a variable")
        found[name] = str(primitive.value)
    return found


def _judged(
    state: jobs.State, written: files.Written | None, meta: SkyPilotMetadata, handle: jobs.Handle
) -> tuple[int, str]:
    """The phase and message of a task that is over, by what the job says and what the task wrote."""
    if state.phase == phases.SUCCEEDED:
        return state.phase, state.message
    if state.phase == phases.ABORTED:
        return state.phase, state.message
    error = written.error() if written is not None else None
    if error is not None:
        return (phases.RETRYABLE if error.recoverable else phases.FAILED), error.message
    if state.lost and written is not None and written.outputs():
        return phases.SUCCEEDED, "the task had ended before its cluster went"
    if state.lost or state.job_id is None:
        return state.phase, state.message
    lines = [line for line in jobs.log_tail(handle, state.job_id) if line.strip() and node.MARK not in line]
    tail = "\n".join(lines[-12:])
    return state.phase, f"{state.message} ({jobs.told(handle, state.job_id)})" + (f"\n{tail}" if tail else "")


#: The name by which older Flyte calls a connector.
SkyPilotAgent = SkyPilotConnector

# A task mapped over a list has the same type, in version 1.
for _version in (0, 1):
    ConnectorRegistry.register(SkyPilotConnector(_version), override=True)

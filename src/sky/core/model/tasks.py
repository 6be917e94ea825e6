"""A task as the engine sees it: frozen, complete, valid; and the reading of one from a mapping.

``wire.task_yaml`` makes one from a file, ``sdk.Task`` from a program; ``to_config`` is its form on the wire and at
rest. ``${VAR}`` is filled in before (``substitute``), never when a stored task is read back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sky.core.model import candidates
from sky.core.model.fields import TASK
from sky.core.model.names import check_docker_login, check_env_name, check_task_name
from sky.core.model.notifications import read_sinks
from sky.core.model.requirements import ANY_OF, ORDERED
from sky.core.model.resources import Resources
from sky.core.model.safeguards import (
    CheckpointSpec,
    OnOom,
    OnPreemption,
    ProgressSpec,
    read_checkpoint,
    read_on_oom,
    read_on_preemption,
    read_progress,
)
from sky.core.model.schema import Problems, check_section
from sky.core.model.services import ServiceSpec
from sky.core.model.storage import StorageSpec, read_file_mounts
from sky.core.model.sweeps import Sweep, read_sweep
from sky.core.model.volumes import VolumeSpec, read_volumes

#: Where the workdir arrives on every node.
REMOTE_WORKDIR = "~/sky_workdir"

MAX_HOOKS = 32
MAX_HOOK_BYTES = 16 * 1024
DEFAULT_HOOK_TIMEOUT_SECONDS = 3600

#: The parts of a task in which ``${VAR}`` stands for the value of an env.
SUBSTITUTED = ("workdir", "file_mounts", "volumes", "service")

_SECRET_REFERENCE = "secrets:"  # noqa: S105 - a prefix, not a secret
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)


@dataclass(frozen=True, slots=True)
class GitSource:
    """A workdir that nodes clone: ``ref`` is a branch, tag or commit, ``None`` for the default branch."""

    url: str
    ref: str | None = None

    @property
    def shown(self) -> str:
        """The address as it may be told: without a login."""
        scheme, sign, rest = self.url.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}{sign}{host.rpartition('@')[2]}{slash}{path}" if sign else self.url


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """Everything about one task. Sizes in GB; ``secrets`` hold values in clear and stay out of ``repr``."""

    name: str | None = None
    run: str | None = None
    setup: str | None = None
    num_nodes: int = 1
    envs: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_refs: tuple[str, ...] = ()
    managed_secrets: tuple[tuple[str, str | None], ...] = ()
    resources: tuple[Resources, ...] = (Resources(),)
    resources_order: str = ANY_OF
    workdir: str | GitSource | None = None
    file_mounts: Mapping[str, str] = field(default_factory=dict)
    storage_mounts: Mapping[str, StorageSpec] = field(default_factory=dict)
    volumes: Mapping[str, VolumeSpec] = field(default_factory=dict)
    service: ServiceSpec | None = None
    checkpoint: CheckpointSpec | None = None
    progress: ProgressSpec | None = None
    on_oom: OnOom | None = None
    on_preemption: OnPreemption | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, float] = field(default_factory=dict)
    outputs: Mapping[str, float] = field(default_factory=dict)
    event_callback: str | None = None
    api_server_access: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notify: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    depends_on: tuple[str, ...] | None = None
    sweep: Sweep | None = None

    @property
    def pool(self) -> bool:
        """Whether the task declares a pool of workers."""
        return self.service is not None and self.service.pool

    @property
    def use_spot(self) -> bool:
        """Whether any candidate rents capacity that may be taken away."""
        return any(one.use_spot for one in self.resources)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TaskSpec:
        """Read a mapping; the exact inverse of ``to_config``. Raises ``InvalidSkyPilotConfigError``."""
        problems = Problems()
        spec = read_task(config, problems)
        problems.raise_if_any()
        return spec

    def to_config(self) -> dict[str, Any]:
        """Return the canonical, JSON-safe mapping, secrets in clear; what has its default is absent."""
        mounts = {**self.file_mounts, **{path: spec.to_config() for path, spec in self.storage_mounts.items()}}
        config: dict[str, Any] = {
            "name": self.name,
            "workdir": _workdir_config(self.workdir),
            "num_nodes": self.num_nodes if self.num_nodes != 1 else None,
            "resources": resources_config(self.resources, self.resources_order),
            "envs": dict(self.envs),
            "secrets": dict(self.secrets) or [f"{_SECRET_REFERENCE}{name}" for name in self.secret_refs],
            "managed_secrets": [
                name if path is None else {name: {"mount_path": path}} for name, path in self.managed_secrets
            ],
            "file_mounts": mounts,
            "volumes": {path: volume.to_config() for path, volume in self.volumes.items()},
            "pool" if self.pool else "service": self.service.to_config() if self.service else None,
            "checkpoint": self.checkpoint.to_config() if self.checkpoint else None,
            "progress": self.progress.to_config() if self.progress else None,
            "on_oom": self.on_oom.to_config() if self.on_oom else None,
            "on_preemption": self.on_preemption.to_config() if self.on_preemption else None,
            "config": dict(self.config),
            "inputs": dict(self.inputs),
            "outputs": dict(self.outputs),
            "setup": self.setup,
            "run": self.run,
            "event_callback": self.event_callback,
            "api_server_access": None if self.api_server_access else False,
            "notify": [dict(each) for each in self.notify],
            "sweep": self.sweep.to_config() if self.sweep else None,
            "_metadata": dict(self.metadata),
        }
        if self.depends_on == ():
            # An empty list says something: that the task follows none, not even the one before it.
            return {**_told(config), "depends_on": []}
        return _told({**config, "depends_on": list(self.depends_on or ())})


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """What has its default is absent."""
    return {key: value for key, value in config.items() if value is not None and value not in ({}, [])}


def _workdir_config(workdir: str | GitSource | None) -> str | dict[str, str] | None:
    if isinstance(workdir, GitSource):
        return {"url": workdir.url} | ({"ref": workdir.ref} if workdir.ref is not None else {})
    return workdir


def resources_config(resources: Sequence[Resources], order: str) -> dict[str, Any]:
    """Return the ``resources`` mapping of some candidates; ``candidates.read`` gives them back."""
    configs = [one.to_yaml_config() for one in resources]
    if order == ORDERED:
        return {ORDERED: configs}
    return configs[0] if len(configs) == 1 else {ANY_OF: configs}


def substitute(value: Any, envs: Mapping[str, str]) -> Any:
    """Fill ``${VAR}`` and ``$VAR`` from envs in every text of a value; other variables are left for the shell."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: envs.get(found[1] or found[2], found[0]), value)
    if isinstance(value, Mapping):
        return {substitute(key, envs): substitute(item, envs) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [substitute(item, envs) for item in value]
    return value


def read_task(config: Mapping[str, Any], problems: Problems) -> TaskSpec:
    """Read a mapping whose variables are filled in; what is wrong is collected, and then the result is of no use."""
    check_section(config, TASK, (), problems)
    given = {key: value for key, value in config.items() if value is not None and not problems.spoils(key)}
    name = given.get("name")
    if name is not None:
        with problems.catch("name"):
            check_task_name(name)
    num_nodes = given.get("num_nodes", 1)
    resources, order = _read_resources(config, problems)
    sweep = read_sweep(given, problems)
    envs, secrets, references = _read_variables(_filled(given, sweep), problems)
    mounts, storage = read_file_mounts(given.get("file_mounts") or {}, problems)
    volumes = read_volumes(given.get("volumes") or {}, num_nodes, problems)
    workdir = _read_workdir(given, problems)
    _check_mount_points(workdir, [*mounts, *storage], list(volumes), problems)
    return TaskSpec(
        name=name,
        run=_read_script(given.get("run")),
        setup=_read_script(given.get("setup")),
        num_nodes=num_nodes,
        envs=envs,
        secrets=secrets,
        secret_refs=references,
        managed_secrets=_read_managed_secrets(given.get("managed_secrets") or [], problems),
        resources=resources,
        resources_order=order,
        workdir=workdir,
        file_mounts=mounts,
        storage_mounts=storage,
        volumes=volumes,
        service=_read_service(given, problems),
        checkpoint=read_checkpoint(given, problems),
        progress=read_progress(given, problems),
        on_oom=read_on_oom(given, problems),
        on_preemption=read_on_preemption(given, problems),
        config=_read_config(given, problems),
        inputs=dict(given.get("inputs") or {}),
        outputs=dict(given.get("outputs") or {}),
        event_callback=given.get("event_callback"),
        api_server_access=given.get("api_server_access", True),
        metadata=dict(given.get("_metadata") or {}),
        notify=_read_notify(given.get("notify"), problems),
        depends_on=None if given.get("depends_on") is None else tuple(given["depends_on"]),
        sweep=sweep,
    )


def _filled(given: Mapping[str, Any], sweep: Sweep | None) -> Mapping[str, Any]:
    """The section of variables, in which each that a sweep gives has a value: the first, as an example of all."""
    if sweep is None or not isinstance(given.get("envs") or {}, Mapping):
        return given
    return {**given, "envs": {**(given.get("envs") or {}), **{name: values[0] for name, values in sweep.matrix}}}


def _read_notify(said: Any, problems: Problems) -> tuple[Mapping[str, Any], ...]:
    """Who is told of what becomes of it, as it was written; what cannot be is a problem."""
    if not said:
        return ()
    with problems.catch("notify"):
        read_sinks(said)
    return (said,) if isinstance(said, Mapping) else tuple(said)


def _read_resources(config: Mapping[str, Any], problems: Problems) -> tuple[tuple[Resources, ...], str]:
    resources = config.get("resources")
    if not isinstance(resources, Mapping):
        return (Resources(),), ANY_OF
    configs, order = candidates.read(resources, problems, ("resources",))
    if problems.spoils("resources"):
        return (Resources(),), ANY_OF
    return tuple(Resources.of_canonical(one) for one in configs), order


def _read_script(value: str | Sequence[str] | None) -> str | None:
    return value if value is None or isinstance(value, str) else "\n".join(value)


def _read_variables(
    given: Mapping[str, Any], problems: Problems
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    envs = read_envs(given.get("envs") or {}, "envs", problems)
    raw = given.get("secrets") or {}
    references: tuple[str, ...] = ()
    secrets: dict[str, str] = {}
    if isinstance(raw, Mapping):
        secrets = read_envs(raw, "secrets", problems)
    else:
        for index, item in enumerate(raw):
            if not str(item).startswith(_SECRET_REFERENCE):
                problems.add(("secrets", index), "found an item that is no reference; allowed: secrets:NAME")
        references = tuple(str(item).removeprefix(_SECRET_REFERENCE) for item in raw)
    with problems.catch("envs" if given.get("envs") else "secrets"):
        check_docker_login(envs, secrets)
    return envs, secrets, references


def read_envs(variables: Mapping[str, Any], section: str, problems: Problems) -> dict[str, str]:
    """Return variables as texts; a null one is a problem that names its key and the flag that fills it."""
    flag = "--secret" if section == "secrets" else "--env"
    found: dict[str, str] = {}
    for key, value in variables.items():
        with problems.catch(section, key):
            check_env_name(key)
            if value is None:
                raise ValueError(
                    f"found no value for '{key}'; give it here, or on the command line with {flag} {key}=..."
                )
            found[key] = value if isinstance(value, str) else str(value)
            if "\0" in found[key]:
                raise ValueError(f"found a NUL character in the value of '{key}'")
    return found


def _read_managed_secrets(items: Sequence[Any], problems: Problems) -> tuple[tuple[str, str | None], ...]:
    found: list[tuple[str, str | None]] = []
    for index, item in enumerate(items):
        if isinstance(item, str):
            found.append((item, None))
            continue
        entries = list(item.items())
        path = entries[0][1].get("mount_path") if len(entries) == 1 and isinstance(entries[0][1], Mapping) else None
        if not isinstance(path, str):
            problems.add(
                ("managed_secrets", index), "found another form; allowed: a name, or {name: {mount_path: PATH}}"
            )
        else:
            found.append((str(entries[0][0]), path))
    return tuple(found)


def _read_workdir(given: Mapping[str, Any], problems: Problems) -> str | GitSource | None:
    workdir = given.get("workdir")
    if isinstance(workdir, Mapping):
        if not workdir.get("url"):
            problems.add(("workdir",), "found a git workdir without 'url'")
            return None
        return GitSource(str(workdir["url"]), workdir.get("ref"))
    if workdir is not None and not workdir.strip():
        problems.add(("workdir",), "found an empty text; allowed: a folder, or {url, ref} of a git repository")
    return workdir


def _check_mount_points(
    workdir: str | GitSource | None, mounts: Sequence[str], volumes: Sequence[str], problems: Problems
) -> None:
    for destination in mounts:
        if workdir is not None and destination.rstrip("/") in (REMOTE_WORKDIR, "/root/sky_workdir"):
            problems.add(("file_mounts", destination), "found the place of the workdir as destination; choose another")
        if destination in volumes:
            problems.add(("volumes", destination), "found the same destination in file_mounts and volumes")


def _read_service(given: Mapping[str, Any], problems: Problems) -> ServiceSpec | None:
    if given.get("service") is not None and given.get("pool") is not None:
        problems.add(("pool",), "found both 'service' and 'pool'; allowed: one of them")
        return None
    if given.get("service") is not None:
        with problems.catch("service"):
            return ServiceSpec.from_service_config(given["service"])
    if given.get("pool") is not None:
        with problems.catch("pool"):
            return ServiceSpec.from_pool_config(given["pool"])
    return None


def _read_config(given: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    old = (given.get("experimental") or {}).get("config_overrides")
    if old is not None and given.get("config") is not None:
        problems.add(("experimental", "config_overrides"), "found both 'config' and its old name; allowed: 'config'")
    config = dict(given.get("config") or old or {})
    hooks = config.get("hooks") or []
    if len(hooks) > MAX_HOOKS:
        problems.add(("config", "hooks"), f"found {len(hooks)} hooks; allowed: at most {MAX_HOOKS}")
    for index, hook in enumerate(hooks):
        if not hook.get("run"):
            problems.add(("config", "hooks", index), "found a hook without 'run'")
        elif len(hook["run"].encode("utf-8", "replace")) > MAX_HOOK_BYTES:
            problems.add(("config", "hooks", index, "run"), f"found a script above {MAX_HOOK_BYTES} bytes")
    return {key: value for key, value in config.items() if value is not None}


def hooks_for(config: Mapping[str, Any], event: str) -> tuple[Mapping[str, Any], ...]:
    """Return the hooks of a task's ``config`` that are run at an event; one that names no events is run at each."""
    return tuple(hook for hook in config.get("hooks") or () if event in (hook.get("events") or (event,)))

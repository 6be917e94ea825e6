"""``sky.Task``: a task as programs build it; a mutable builder over ``TaskSpec``.

Setters return the task. Texts that hold ``${VAR}`` are kept as written and filled whenever they are read, so that
``update_envs`` after ``set_file_mounts`` has its effect. The disk is read by ``from_yaml`` and ``validate`` only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from sky.core.errors import InvalidSkyPilotConfigError, not_supported
from sky.core.model.requirements import ANY_OF, ORDERED
from sky.core.model.resources import Resources
from sky.core.model.schema import Problems
from sky.core.model.services import ServiceSpec
from sky.core.model.storage import StorageSpec, is_remote_source
from sky.core.model.tasks import GitSource, TaskSpec, read_envs, resources_config, substitute
from sky.core.model.volumes import VolumeSpec
from sky.sdk.dags import current_dag
from sky.sdk.storage import Storage
from sky.wire.task_yaml import Overrides, fill_in, load_config, read_file, read_single

Script = str | Sequence[str] | None
EnvPairs = Mapping[str, str] | Iterable[tuple[str, str]] | None
ResourcesLike = Resources | Mapping[str, Any] | Iterable[Resources]

REDACTED = "<redacted>"

#: Keys of a task that are kept as their own YAML value and have no logic here.
_KEPT = (
    "checkpoint",
    "progress",
    "on_oom",
    "on_preemption",
    "config",
    "managed_secrets",
    "inputs",
    "outputs",
    "event_callback",
    "api_server_access",
    "notify",
    "depends_on",
    "sweep",
    "_metadata",
)


class Secret:
    """A secret's value, shown as stars; ``get_secret_value()`` returns the text."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        """Return the text itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "**********"


class Task:
    """What to run, on how many nodes of what kind, with which files and variables.

    Raises ``InvalidSkyPilotConfigError`` (a ``ValueError``) with every problem when a value is not valid.
    """

    def __init__(  # noqa: PLR0913 - the compatible public signature
        self,
        name: str | None = None,
        *,
        setup: Script = None,
        run: Script = None,
        envs: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | Sequence[str] | None = None,
        workdir: str | Path | Mapping[str, str] | None = None,
        num_nodes: int | None = None,
        file_mounts: Mapping[str, str] | None = None,
        storage_mounts: Mapping[str, Storage] | None = None,
        volumes: Mapping[str, Any] | None = None,
        resources: ResourcesLike | None = None,
        docker_image: str | None = None,
        event_callback: str | None = None,
        blocked_resources: Iterable[Resources] | None = None,
        api_server_access: bool = True,
        file_mounts_mapping: Mapping[str, str] | None = None,
        **internal: Any,
    ) -> None:
        odd = next((key for key in internal if not key.startswith("_")), None)
        if odd is not None:
            raise TypeError(f"Task() has no parameter '{odd}'")
        if file_mounts_mapping is not None:
            warnings.warn("Task(file_mounts_mapping=…) is now file_mounts", DeprecationWarning, stacklevel=2)
        self.name = name
        self.docker_image = docker_image
        self.blocked_resources = list(blocked_resources) if blocked_resources is not None else None
        self.best_resources: Resources | None = None
        self._kept: dict[str, Any] = {"event_callback": event_callback, "api_server_access": api_server_access}
        self._setup = _script("setup", setup)
        self._run = _script("run", run)
        self._num_nodes = 1 if num_nodes is None else num_nodes
        self._envs: dict[str, str] = {}
        self._secrets: dict[str, str] = {}
        self._secret_refs: tuple[str, ...] = ()
        self._workdir: Any = str(workdir) if isinstance(workdir, Path) else workdir
        self._mounts: dict[str, str] = dict(file_mounts_mapping or {}) | dict(file_mounts or {})
        self._storage: dict[str, Storage | Mapping[str, Any]] = dict(storage_mounts or {})
        self._volumes: dict[str, Any] = dict(volumes or {})
        self._service: tuple[str, Any] | None = None
        self._resources: tuple[Resources, ...] = (Resources(),)
        self._order = ANY_OF
        self._time_estimator: Callable[[Resources], float] | None = None
        self.update_envs(envs)
        if isinstance(secrets, Mapping):
            self.update_secrets(secrets)
        elif secrets is not None:
            self._secret_refs = load_config({"secrets": list(secrets)}).secret_refs
        if resources is not None:
            self.set_resources(resources)
        self.to_spec()
        dag = current_dag()
        if dag is not None:
            dag.add(self)

    # --- reading -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_yaml(cls, yaml_path: str | Path) -> Self:
        """Read a file with one task; complaints name file, line and column."""
        text, source = read_file(yaml_path)
        return cls._from_text(text, source, None, None)

    @classmethod
    def from_yaml_str(
        cls,
        yaml_str: str,
        env_overrides: Overrides = None,
        secrets_overrides: Overrides = None,
    ) -> Self:
        """Read a text with one task."""
        return cls._from_text(yaml_str, "<text>", env_overrides, secrets_overrides)

    @classmethod
    def _from_text(cls, text: str | bytes, source: str, envs: Overrides, secrets: Overrides) -> Self:
        document = read_single(text, source)
        envs, secrets = dict(envs or {}), dict(secrets or {})
        load_config(document.data, envs, secrets, locate=document.locate)
        return cls.from_yaml_config(document.data, envs, secrets)

    @classmethod
    def from_yaml_config(
        cls, config: Mapping[str, Any], env_overrides: Overrides = None, secrets_overrides: Overrides = None
    ) -> Self:
        """Read a mapping as it would stand in a file; overrides fill or replace envs and secrets."""
        envs, secrets = dict(env_overrides or {}), dict(secrets_overrides or {})
        spec = load_config(config, envs, secrets)
        raw = fill_in(config, Problems(), envs, secrets)
        task = cls(spec.name, setup=spec.setup, run=spec.run, num_nodes=spec.num_nodes)
        task._envs, task._secrets, task._secret_refs = dict(spec.envs), dict(spec.secrets), spec.secret_refs
        task._workdir = raw.get("workdir")
        for destination, source in (raw.get("file_mounts") or {}).items():
            (task._mounts if isinstance(source, str) else task._storage)[destination] = source
        task._volumes = dict(raw.get("volumes") or {})
        task._service = next(((key, raw[key]) for key in ("service", "pool") if raw.get(key) is not None), None)
        task._resources, task._order = spec.resources, spec.resources_order
        canonical = spec.to_config()
        task._kept = {key: canonical[key] for key in _KEPT if key in canonical}
        return task

    @classmethod
    def from_spec(cls, spec: TaskSpec) -> Self:
        """Wrap a frozen task; its variables are filled in already."""
        return cls.from_yaml_config(spec.to_config())

    # --- becoming a value --------------------------------------------------------------------------------------------

    def to_spec(self) -> TaskSpec:
        """Return the frozen task that is sent; raises ``InvalidSkyPilotConfigError`` with every problem."""
        spec = load_config(self._raw_config())
        return replace(spec, resources=self._resources, resources_order=self._order)

    def _raw_config(self) -> dict[str, Any]:
        storage = {
            path: one.to_yaml_config() if isinstance(one, Storage) else one for path, one in self._storage.items()
        }
        return {
            **self._kept,
            "name": self.name,
            "setup": self._setup,
            "run": self._run,
            "num_nodes": self._num_nodes,
            "envs": self._envs,
            "secrets": self._secrets or [f"secrets:{name}" for name in self._secret_refs],
            "workdir": self._workdir,
            "file_mounts": {**self._mounts, **storage},
            "volumes": self._volumes,
            **(dict([self._service]) if self._service else {}),
        }

    def to_yaml_config(self, redact_secrets: bool = True, **_ignored: Any) -> dict[str, Any]:
        """Return the canonical mapping; secrets are replaced by a mark unless asked for."""
        config = self.to_spec().to_config()
        if redact_secrets and isinstance(config.get("secrets"), dict):
            config["secrets"] = dict.fromkeys(config["secrets"], REDACTED)
        return config

    def _read_part(self, key: str, value: Any) -> TaskSpec:
        """Read one section on its own, so that a setter complains at once and changes nothing when it does."""
        return load_config({"envs": self._envs, "num_nodes": self._num_nodes, key: value})

    # --- scripts, nodes, name ----------------------------------------------------------------------------------------

    @property
    def run(self) -> str | None:
        """The script that runs on every node."""
        return self._run

    @run.setter
    def run(self, value: Script) -> None:
        self._run = _script("run", value)

    @property
    def setup(self) -> str | None:
        """The script that prepares every node."""
        return self._setup

    @setup.setter
    def setup(self, value: Script) -> None:
        self._setup = _script("setup", value)

    @property
    def num_nodes(self) -> int:
        """How many nodes."""
        return self._num_nodes

    @num_nodes.setter
    def num_nodes(self, value: int | None) -> None:
        self._num_nodes = load_config({"num_nodes": value}).num_nodes

    @property
    def workdir(self) -> str | dict[str, str] | None:
        """The folder to sync, or ``{url, ref}`` of a git repository; variables filled in."""
        filled: str | dict[str, str] | None = substitute(self._workdir, self._envs)
        return filled

    @workdir.setter
    def workdir(self, value: str | Path | Mapping[str, str] | None) -> None:
        value = str(value) if isinstance(value, Path) else value
        self._read_part("workdir", value)
        self._workdir = value

    def update_workdir(
        self, workdir: str | None = None, git_url: str | None = None, git_ref: str | None = None
    ) -> Self:
        """Replace the workdir by what a command line gave: a folder, or a git repository, or another ref of it."""
        if workdir is not None and (git_url is not None or git_ref is not None):
            raise ValueError("Give a folder or a git repository as workdir, not both.")
        if workdir is not None:
            self.workdir = workdir
        elif git_url is not None:
            self.workdir = {"url": git_url, **({"ref": git_ref} if git_ref else {})}
        elif git_ref is not None:
            if not isinstance(self._workdir, Mapping):
                raise ValueError("A git ref needs a git workdir; give its URL too.")
            self.workdir = {**self._workdir, "ref": git_ref}
        return self

    # --- variables ---------------------------------------------------------------------------------------------------

    @property
    def envs(self) -> dict[str, str]:
        """The variables, live: changes are seen by everything that is filled from them."""
        return self._envs

    @envs.setter
    def envs(self, value: EnvPairs) -> None:
        self._envs = _read_pairs(value, "envs")

    def update_envs(self, envs: EnvPairs) -> Self:
        """Add or replace variables, given as mapping or pairs; raises ``ValueError`` for a bad name or null value."""
        self._envs.update(_read_pairs(envs, "envs"))
        return self

    @property
    def secrets(self) -> dict[str, Secret]:
        """The secret variables, values hidden."""
        return {name: Secret(value) for name, value in self._secrets.items()}

    def update_secrets(self, secrets: EnvPairs) -> Self:
        """Add or replace secret variables, given as mapping or pairs."""
        self._secrets.update(_read_pairs(secrets, "secrets"))
        return self

    @property
    def envs_and_secrets(self) -> dict[str, str]:
        """All variables in clear, secrets over envs."""
        return {**self._envs, **self._secrets}

    @property
    def managed_secret_refs(self) -> list[str]:
        """Names of secrets that the server fills in."""
        return list(self._secret_refs) + [name for name, _ in self.to_spec().managed_secrets]

    # --- resources ---------------------------------------------------------------------------------------------------

    @property
    def resources(self) -> set[Resources] | list[Resources]:
        """The candidates: a list where their order counts, else a set."""
        return list(self._resources) if self._order == ORDERED else set(self._resources)

    @resources.setter
    def resources(self, value: ResourcesLike) -> None:
        self.set_resources(value)

    def set_resources(self, resources: ResourcesLike) -> Self:
        """Replace the candidates by one, a set (any), a list (in this order), or a ``resources`` mapping."""
        found = resources
        if isinstance(found, Mapping):
            found = Resources.from_yaml_config(found)
        if isinstance(found, Resources):
            found = {found}
        ordered = isinstance(found, list | tuple)
        candidates = list(found) if ordered else sorted(found, key=repr)
        if not candidates or not all(isinstance(one, Resources) for one in candidates):
            raise TypeError("set_resources() takes a sky.Resources, a set or list of them, or a mapping.")
        self._resources = tuple(dict.fromkeys(candidates))
        self._order = ORDERED if ordered else ANY_OF
        return self

    def set_resources_override(self, override_params: Mapping[str, Any]) -> Self:
        """Change the given keywords on every candidate."""
        self._resources = tuple(dict.fromkeys(one.copy(**override_params) for one in self._resources))
        return self

    def get_resource_config(self) -> dict[str, Any]:
        """Return the candidates as a ``resources`` mapping."""
        return resources_config(self._resources, self._order)

    @property
    def use_spot(self) -> bool:
        """Whether any candidate rents capacity that may be taken away."""
        return any(one.use_spot for one in self._resources)

    # --- files -------------------------------------------------------------------------------------------------------

    @property
    def file_mounts(self) -> dict[str, str] | None:
        """Destination to source of plain mounts, variables filled in; ``None`` for none."""
        filled: dict[str, str] = substitute(self._mounts, self._envs)
        return filled or None

    @file_mounts.setter
    def file_mounts(self, value: Mapping[str, str] | None) -> None:
        self.set_file_mounts(value)

    def set_file_mounts(self, file_mounts: Mapping[str, str] | None) -> Self:
        """Replace the plain mounts."""
        mounts = dict(file_mounts or {})
        if any(not isinstance(source, str) for source in mounts.values()):
            raise ValueError("set_file_mounts() takes paths and addresses; use set_storage_mounts() for sky.Storage.")
        self._read_part("file_mounts", mounts)
        self._mounts = mounts
        return self

    def update_file_mounts(self, file_mounts: Mapping[str, str]) -> Self:
        """Add or replace plain mounts."""
        return self.set_file_mounts({**self._mounts, **file_mounts})

    @property
    def storage_mounts(self) -> dict[str, Storage]:
        """Destination to bucket."""
        specs: Mapping[str, StorageSpec] = self.to_spec().storage_mounts
        kept = {path: one for path, one in self._storage.items() if isinstance(one, Storage)}
        return {path: kept.get(path) or Storage.from_spec(spec) for path, spec in specs.items()}

    def set_storage_mounts(self, storage_mounts: Mapping[str, Storage] | None) -> Self:
        """Replace the buckets."""
        mounts = dict(storage_mounts or {})
        if not all(isinstance(one, Storage) for one in mounts.values()):
            raise ValueError("set_storage_mounts() takes {destination: sky.Storage}.")
        self._read_part("file_mounts", {path: one.to_yaml_config() for path, one in mounts.items()})
        self._storage = dict(mounts)
        return self

    def update_storage_mounts(self, storage_mounts: Mapping[str, Storage]) -> Self:
        """Add or replace buckets."""
        return self.set_storage_mounts({**self.storage_mounts, **storage_mounts})

    def sync_storage_mounts(self) -> None:
        """Upload what buckets are filled from; raises ``NotSupportedError`` where there is a bucket."""
        if self._storage:
            raise not_supported("Uploading to a bucket")

    def get_local_to_remote_file_mounts(self) -> dict[str, str] | None:
        """Return the plain mounts whose source lies on this machine."""
        return {to: source for to, source in (self.file_mounts or {}).items() if not is_remote_source(source)} or None

    def get_cloud_to_remote_file_mounts(self) -> dict[str, str] | None:
        """Return the plain mounts whose source is an address."""
        return {to: source for to, source in (self.file_mounts or {}).items() if is_remote_source(source)} or None

    @property
    def volumes(self) -> dict[str, Any]:
        """Destination to volume, as given; variables filled in."""
        filled: dict[str, Any] = substitute(self._volumes, self._envs)
        return filled

    def set_volumes(self, volumes: Mapping[str, Any] | None) -> Self:
        """Replace the volumes."""
        self._read_part("volumes", dict(volumes or {}))
        self._volumes = dict(volumes or {})
        return self

    def update_volumes(self, volumes: Mapping[str, Any]) -> Self:
        """Add or replace volumes."""
        return self.set_volumes({**self._volumes, **volumes})

    def resolve_and_validate_volumes(self) -> None:
        """Look volumes up; raises ``NotSupportedError`` where there is one."""
        volumes: Mapping[str, VolumeSpec] = self.to_spec().volumes
        if volumes:
            raise not_supported("Looking up volumes")

    # --- service, estimates ------------------------------------------------------------------------------------------

    @property
    def service(self) -> ServiceSpec | None:
        """What makes the task a service or pool, or ``None``."""
        return self.to_spec().service

    def set_service(self, service: ServiceSpec | Mapping[str, Any] | None) -> Self:
        """Replace the service; a ``ServiceSpec`` may also be a pool."""
        key = "pool" if isinstance(service, ServiceSpec) and service.pool else "service"
        value = service.to_config() if isinstance(service, ServiceSpec) else service
        self._read_part(key, value)
        self._service = (key, value) if value is not None else None
        return self

    @property
    def pool(self) -> bool:
        """Whether the task declares a pool of workers."""
        return self._service is not None and self._service[0] == "pool"

    @property
    def event_callback(self) -> str | None:
        """The script run at changes of a managed job."""
        return self._kept.get("event_callback")

    @property
    def api_server_access(self) -> bool:
        """Whether a managed job is given access to the API server."""
        return bool(self._kept.get("api_server_access", True))

    @property
    def metadata(self) -> dict[str, Any]:
        """Free data that travels with the task."""
        found: dict[str, Any] = self._kept.setdefault("_metadata", {})
        return found

    def set_inputs(self, inputs: str, estimated_size_gigabytes: float) -> Self:
        """Name an address that is read, and how many GB of it."""
        self._kept["inputs"] = dict(load_config({"inputs": {inputs: estimated_size_gigabytes}}).inputs)
        return self

    def get_inputs(self) -> str | None:
        """Return the address that is read."""
        return next(iter(self._kept.get("inputs") or {}), None)

    def get_estimated_inputs_size_gigabytes(self) -> float | None:
        """Return how many GB are read."""
        return next(iter((self._kept.get("inputs") or {}).values()), None)

    def set_outputs(self, outputs: str, estimated_size_gigabytes: float) -> Self:
        """Name an address that is written, and how many GB of it."""
        self._kept["outputs"] = dict(load_config({"outputs": {outputs: estimated_size_gigabytes}}).outputs)
        return self

    def get_outputs(self) -> str | None:
        """Return the address that is written."""
        return next(iter(self._kept.get("outputs") or {}), None)

    def get_estimated_outputs_size_gigabytes(self) -> float | None:
        """Return how many GB are written."""
        return next(iter((self._kept.get("outputs") or {}).values()), None)

    def set_time_estimator(self, func: Callable[[Resources], float]) -> Self:
        """Give the function that estimates seconds of running on some resources."""
        self._time_estimator = func
        return self

    @property
    def has_time_estimator(self) -> bool:
        """Whether an estimator was given."""
        return self._time_estimator is not None

    def estimate_runtime(self, resources: Resources) -> float:
        """Return the estimated seconds; raises ``NotImplementedError`` without an estimator."""
        if self._time_estimator is None:
            raise NotImplementedError(
                f"Task '{self.name}' has no estimator of its time; give one by set_time_estimator()."
            )
        return self._time_estimator(resources)

    def is_controller_task(self) -> bool:
        """Whether the task is a controller; none is here, since the server does that work itself."""
        return False

    # --- checks ------------------------------------------------------------------------------------------------------

    def validate_name(self) -> None:
        """Raise ``ValueError`` for a name that a task may not have."""
        load_config({"name": self.name})

    def validate_run(self) -> None:
        """Raise ``ValueError`` for a run that is no script."""
        _script("run", self._run)

    def validate(self, skip_file_mounts: bool = False, skip_workdir: bool = False) -> None:
        """Raise ``ValueError`` where the task is not valid, or a file or folder that it names is missing here."""
        spec = self.to_spec()
        if not skip_workdir:
            self.expand_and_validate_workdir(spec)
        if not skip_file_mounts:
            self.expand_and_validate_file_mounts(spec)

    def expand_and_validate_workdir(self, spec: TaskSpec | None = None) -> None:
        """Raise ``ValueError`` unless the workdir is a folder here or a git repository."""
        workdir = (spec or self.to_spec()).workdir
        if workdir is None or isinstance(workdir, GitSource):
            return
        if not Path(workdir).expanduser().is_dir():
            what = "is a file" if Path(workdir).expanduser().exists() else "does not exist"
            raise InvalidSkyPilotConfigError(
                f"Invalid task YAML: (workdir): the workdir '{workdir}' {what}; give an existing folder.",
                path=("workdir",),
            )

    def expand_and_validate_file_mounts(self, spec: TaskSpec | None = None) -> None:
        """Raise ``ValueError`` unless every local source of ``file_mounts`` exists."""
        for destination, source in (spec or self.to_spec()).file_mounts.items():
            if not is_remote_source(source) and not Path(source).expanduser().exists():
                raise InvalidSkyPilotConfigError(
                    f"Invalid task YAML: (file_mounts.{destination}): the source '{source}' does not exist.",
                    path=("file_mounts", destination),
                )

    def __rshift__(self, other: Task) -> Task:
        """Let ``other`` follow this task, inside ``with sky.Dag():``; returns ``other``, for chains."""
        dag = current_dag()
        if dag is None:
            raise ValueError("`a >> b` needs an open dag: write it inside `with sky.Dag() as dag:`.")
        dag.add_edge(self, other)
        return other

    def __repr__(self) -> str:
        script = " ".join((self._run or "").split())
        parts = [f"run={script[:30] + '…' if len(script) > 30 else script!r}"] if script else ["run=<empty>"]
        parts += [f"num_nodes={self._num_nodes}"] if self._num_nodes > 1 else []
        named = [one for one in self._resources if not one.is_empty()]
        parts += [f"resources={', '.join(map(repr, named))}"] if named else []
        return f"Task<{self.name}>({', '.join(parts)})" if self.name else f"Task({', '.join(parts)})"


def _script(key: str, value: Script) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if callable(value):
        raise ValueError(f"Task.{key} is a Python function; only a shell script can be sent to nodes. Give it as text.")
    if not isinstance(value, list | tuple) or not all(isinstance(line, str) for line in value):
        raise ValueError(f"Task.{key} is a {type(value).__name__}; give a shell script as text, or a list of lines.")
    return "\n".join(value)


def _read_pairs(pairs: EnvPairs, section: str) -> dict[str, str]:
    if pairs is None:
        return {}
    try:
        given: dict[Any, Any] = dict(pairs)
    except (TypeError, ValueError):
        raise ValueError(f"{section} are a mapping of names to values, or a list of pairs, not {pairs!r}.") from None
    problems = Problems()
    found = read_envs(given, section, problems)
    problems.raise_if_any()
    return found

"""The configuration: files of the user and the project and what a call adds, in layers over one another.

The command line, the SDK and the server read it; nothing here writes. Low to high: ``~/.sky/config.yaml`` (or
``SKYPILOT_GLOBAL_CONFIG``), ``./.sky.yaml`` (or ``SKYPILOT_PROJECT_CONFIG``), then each ``--config``, a path or a
dotted ``key=value``. Mappings merge, everything else replaces.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.accelerators import parse_accelerator
from sky.core.model.clouds import CLOUD_NAMES, cloud_named
from sky.core.model.fields import RESOURCES
from sky.core.model.layers import merge
from sky.core.model.quantities import parse_memory
from sky.core.model.schema import Field, Problems, Section, check_section
from sky.wire.task_yaml import read_file
from sky.wire.yaml_reader import Document, expect_mapping, fail, read_documents

USER_FILE = Path(".sky") / "config.yaml"
PROJECT_FILE = Path(".sky.yaml")
USER_VARIABLE = "SKYPILOT_GLOBAL_CONFIG"
PROJECT_VARIABLE = "SKYPILOT_PROJECT_CONFIG"

_TEXT = Field(("text",), "a text")
_BOOL = Field(("boolean",), "a switch")
_NUMBER = Field(("number",), "a number")
_OPEN = Field(("mapping",), "free settings")
_ANY = Field(("text", "number", "boolean", "mapping", "list"), "any value")


def _section(name: str, about: str, **fields: Field) -> Field:
    return Field(("mapping",), about, section=Section(name, fields))


def _controller(of: str) -> Field:
    return _section(
        f"{of}.controller",
        "the controller",
        resources=Field(("mapping",), "its resources", section=RESOURCES),
        high_availability=_BOOL,
        autostop=Field(("boolean", "integer", "text", "mapping"), "when it stops"),
        consolidation_mode=_BOOL,
        controller_logs_gc_retention_hours=_NUMBER,
        task_logs_gc_retention_hours=_NUMBER,
    )


#: What this machine is said to have, so that schedulers can be tried without the hardware.
_LOCAL = _section(
    "local",
    "pretended resources of this machine",
    accelerators=Field(("mapping",), "name: count", values=Field(("number",), "a count", least=0)),
    cpus=Field(("number",), "vCPUs", least=0),
    memory=Field(("number", "text"), "memory in GB"),
)

#: Places whose settings belong to their providers, which check them; aliases as they stand in files.
_PLACES = {name: _OPEN for name in CLOUD_NAMES if name != "local"}

CONFIG = Section(
    "the configuration",
    {
        **_PLACES,
        "local": _LOCAL,
        "catalog": _section(
            "catalog",
            "the catalog of prices",
            refresh=_BOOL,
            older_than_hours=Field(("number",), "age at which prices are asked for again", least=0),
            folder=_TEXT,
            sources=Field(("mapping",), "settings of price sources by cloud", values=_OPEN),
        ),
        "allowed_clouds": Field(("list",), "places that may be used", values=_TEXT),
        "active_workspace": _TEXT,
        "admin_policy": _TEXT,
        "db": _TEXT,
        "plugins": _ANY,
        "api_server": _section(
            "api_server",
            "the API server",
            endpoint=_TEXT,
            service_account_token=_TEXT,
            requests_retention_hours=_NUMBER,
            audit_retention_days=Field(("number",), "days that the audit log is kept (400); below zero: for ever"),
            uploads_per_user_gb=Field(("number",), "what a user may upload within a day (200)", least=0),
            logs_retention_hours=_NUMBER,
            cluster_event_retention_hours=_NUMBER,
            cluster_debug_event_retention_hours=_NUMBER,
            cluster_terminal_event_retention_hours=_NUMBER,
            launch_attempt_retention_hours=_NUMBER,
            daemon_log_max_bytes=_NUMBER,
            log_format=Field(("text",), "how the server writes its log", choices=("text", "json")),
            launches_at_once=Field(("integer",), "launches and starts worked on at a time, by each server", least=1),
            launches_per_user=Field(("integer",), "how many of these may be one user's", least=1),
            launches_on_record=Field(("integer",), "requests that have not ended, beyond which none is taken", least=1),
            restore_grace_hours=Field(
                ("number",), "hours after a restore for which machines that it does not know are left alone", least=0
            ),
            drain_seconds=Field(("number",), "seconds for which a server that is to end still answers reads", least=0),
        ),
        "encryption": _section(
            "encryption",
            "how what users say to their tasks is encrypted in the records",
            key_file=_TEXT,
            command=Field(
                ("list",), "a program that wraps and unwraps keys: `wrap` or `unwrap` is its last word", values=_TEXT
            ),
            function=_TEXT,
        ),
        "telemetry": _section(
            "telemetry", "where traces go", endpoint=Field(("text",), "an OTLP receiver, by HTTP"), service_name=_TEXT
        ),
        "jobs": _section(
            "jobs",
            "managed jobs",
            controller=_controller("jobs"),
            bucket=_TEXT,
            force_disable_cloud_bucket=_BOOL,
            status_check=_section(
                "jobs.status_check", "how often status is read", min_elapsed_seconds=_NUMBER, min_retries=_NUMBER
            ),
            launches_at_once=Field(("integer",), "managed jobs that are being launched at a time", least=1),
            running_at_once=Field(("integer",), "managed jobs that have begun and not ended, at a time", least=1),
            running_per_user=Field(("integer",), "the same of one user", least=1),
            running_per_workspace=Field(("integer",), "the same of one workspace", least=1),
            api_access=Field(("boolean",), "give managed jobs an endpoint and a token of their own"),
            api_endpoint=Field(("text",), "where jobs reach this server, if not where it listens"),
            contact_lease=Field(
                ("number",), "seconds out of reach after which a job is begun anew although its machines run", least=1
            ),
            orphan_after=Field(
                ("number",), "seconds without work after which a job's cluster goes though no server ends it", least=1
            ),
        ),
        "budgets": Field(("mapping",), "budgets by name", values=_OPEN),
        "notifications": _section(
            "notifications",
            "who is told what becomes of managed jobs and budgets",
            sinks=Field(("list",), "webhooks and commands, as `notify` of a task has them", values=_OPEN),
            allow_private=Field(("boolean",), "webhooks of tasks may be on private networks"),
        ),
        "serve": _section("serve", "services", controller=_controller("serve")),
        "workspaces": Field(("mapping",), "settings by workspace", values=_OPEN, nullable_values=True),
        "workspace_config": _section("workspace_config", "all workspaces", read_access=_TEXT),
        "rbac": _section(
            "rbac",
            "roles",
            default_role=Field(("text",), "role of new users", choices=("admin", "user", "viewer")),
            restrict_config_to_admins=_BOOL,
            roles=_OPEN,
        ),
        "provision": _section(
            "provision",
            "making nodes",
            ssh_timeout=_NUMBER,
            install_conda=_BOOL,
            hedge=Field(("integer",), "how many places are asked at a time", least=1),
            python_archive=_TEXT,
            python_archive_sha256=_TEXT,
        ),
        "logs": _section(
            "logs",
            "where logs are sent",
            store=Field(("text",), "which store", choices=("gcp", "aws")),
            gcp=_OPEN,
            aws=_OPEN,
        ),
        "daemons": Field(("mapping",), "background tasks", values=_OPEN),
        "dashboard": _OPEN,
        "metrics": _OPEN,
        "data": _OPEN,
        "docker": _section("docker", "containers", run_options=Field(("text", "list"), "options", values=_TEXT)),
        "nvidia_gpus": _section("nvidia_gpus", "NVIDIA GPUs", disable_ecc=_BOOL),
    },
)


@dataclass(frozen=True, slots=True)
class LocalMachine:
    """What ``local:`` pretends this machine has; ``None`` and absent accelerators are found out instead."""

    accelerators: Mapping[str, float] | None = None
    cpus: float | None = None
    memory_gb: float | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """The merged configuration. ``sources``: the layers that it came from, low to high, as messages name them."""

    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sources: tuple[str, ...] = ()

    def get(self, keys: Sequence[str], default: Any = None) -> Any:
        """Return the value at ``("a", "b")``, or the default where any part is missing; a copy."""
        value: Any = self.values
        for key in keys:
            if not isinstance(value, Mapping) or value.get(key) is None:
                return default
            value = value[key]
        return copy.deepcopy(value)

    #: The name under which administrators' policies call it.
    get_nested = get

    def set_nested(self, keys: Sequence[str], value: Any) -> None:
        """Set the value at ``("a", "b")``, in place; what policies change a request's configuration with."""
        inside: Any = self.values
        for key in keys[:-1]:
            if not isinstance(inside.get(key), dict):
                inside[key] = {}
            inside = inside[key]
        inside[keys[-1]] = copy.deepcopy(value)

    def to_dict(self) -> dict[str, Any]:
        """Return a copy of everything."""
        return copy.deepcopy(dict(self.values))

    def over(self, layer: Mapping[str, Any], source: str = "<call>") -> Config:
        """Return this configuration with a layer laid over it, e.g. a task's ``config``."""
        return Config(merge(self.values, layer), (*self.sources, source))

    @property
    def local(self) -> LocalMachine:
        """The pretended resources of this machine."""
        accelerators = self.get(("local", "accelerators"))
        requests = [parse_accelerator(name, count) for name, count in (accelerators or {}).items() if count]
        memory = self.get(("local", "memory"))
        return LocalMachine(
            None if accelerators is None else {request.name: request.count for request in requests},
            self.get(("local", "cpus")),
            None if memory is None else float(parse_memory(memory).rstrip("+")),
        )


def load_config(
    cli_overrides: Sequence[str] = (), *, env: Mapping[str, str], cwd: str | Path, home: str | Path
) -> Config:
    """Read every layer; raises ``InvalidSkyPilotConfigError`` with ``file:line:column`` for what is not valid.

    cli_overrides: values of ``--config``, each a path or ``a.b.c=value`` with the value in YAML. env, cwd, home: of the
    process that asks. A file named by a variable or on the command line must exist; the others may be missing.
    """
    config = Config()
    user, project = env.get(USER_VARIABLE), env.get(PROJECT_VARIABLE)
    for named, usual in ((user, Path(home) / USER_FILE), (project, Path(cwd) / PROJECT_FILE)):
        if named:
            config = config.over(_read(named, Path(cwd)), named)
        elif usual.is_file():
            config = config.over(_read(str(usual), Path(cwd)), str(usual))
    for override in cli_overrides:
        config = config.over(_read_override(override, Path(cwd)), override.partition("=")[0])
    return config


def _read(path: str, cwd: Path) -> dict[str, Any]:
    text, _ = read_file(cwd / Path(path).expanduser(), "config")
    documents = read_documents(text, path, kind="config")
    if len(documents) > 1:
        line, column = documents[1].places[()]
        raise fail(path, "config", line, column, "found a second document; allowed: one")
    return _checked(documents[0]) if documents else {}


def _read_override(override: str, cwd: Path) -> dict[str, Any]:
    dotted, equals, text = override.partition("=")
    if not equals or (cwd / Path(override).expanduser()).is_file():
        return _read(override, cwd)
    keys = dotted.strip().split(".")
    if not all(keys):
        raise InvalidSkyPilotConfigError(f"Invalid config YAML: --config {override!r} has an empty key.")
    documents = read_documents(text, f"--config {dotted.strip()}", kind="config")
    data = documents[0].data if documents else None
    for key in reversed(keys):
        data = {key: data}
    return _checked(Document(data, f"--config {dotted.strip()}", {}))


def _checked(document: Document) -> dict[str, Any]:
    data = expect_mapping(document, "config")
    problems = Problems(kind="config", locate=document.locate)
    check_section(data, CONFIG, (), problems)
    if not problems.found:
        for index, name in enumerate(data.get("allowed_clouds") or []):
            with problems.catch("allowed_clouds", index):
                cloud_named(name)
        # Read once now, so that a bad amount is told with its file and not when a server first asks.
        with problems.catch("local"):
            _ = Config(data).local
    problems.raise_if_any()
    return data

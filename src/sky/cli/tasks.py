"""From `ENTRYPOINT` and the options of a task to a `Task`: the file says what, options say otherwise.

Called by `launch` and `exec`. Options win over the file; `--env` wins over `--env-file`; the word "none" takes away.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from sky.cli.entrypoint import COMMAND_NAME, Entrypoint
from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.tasks import TaskSpec
from sky.sdk.dag_files import dag_from_spec
from sky.sdk.dags import Dag
from sky.sdk.tasks import Task
from sky.wire.dotenv import load_env_file
from sky.wire.task_yaml import load_config, load_dag, read_single

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: Option of the command line to field of `Resources`, where the value needs no more than "none" understood.
_FIELDS = {
    "infra": "infra",
    "cloud": "cloud",
    "region": "region",
    "zone": "zone",
    "gpus": "accelerators",
    "instance_type": "instance_type",
    "cpus": "cpus",
    "memory": "memory",
    "disk_size": "disk_size",
    "disk_tier": "disk_tier",
    "network_tier": "network_tier",
    "local_disk": "local_disk",
    "image_id": "image_id",
}


def make_task(entry: Entrypoint, flags: Mapping[str, Any]) -> Task:
    """Return the task meant by an entrypoint and the options of `options.TASK_FLAGS`.

    Raises click.UsageError for options that contradict each other, InvalidSkyPilotConfigError for a bad file.
    """
    envs, secrets = variables(entry, flags)
    task = Task.from_spec(_spec(entry, envs, secrets))
    override = resources_override(flags)
    if override:
        task.set_resources_override(override)
    if flags.get("name"):
        task.name = flags["name"]
    if flags.get("num_nodes"):
        task.num_nodes = flags["num_nodes"]
    _override_workdir(task, flags)
    return task


def make_dag(entry: Entrypoint, flags: Mapping[str, Any]) -> Task | Dag:
    """Return the task of an entrypoint as `make_task` does, or the DAG of a file that holds several tasks.

    The options of a task then hold for each of them.
    """
    if entry.yaml is None:
        return make_task(entry, flags)
    envs, secrets = variables(entry, flags)
    spec = load_dag(text=entry.yaml, source=entry.source, env_overrides=envs, secrets_overrides=secrets)
    if len(spec.tasks) == 1:
        return make_task(entry, flags)
    dag = dag_from_spec(spec)
    override = resources_override(flags)
    for task in dag.tasks:
        if override:
            task.set_resources_override(override)
        task.num_nodes = flags.get("num_nodes") or task.num_nodes
    return dag


def _spec(entry: Entrypoint, envs: Mapping[str, str], secrets: Mapping[str, str]) -> TaskSpec:
    if entry.yaml is None:
        return load_config({"name": COMMAND_NAME, "run": entry.command} if entry.command else {}, envs, secrets)
    dag = load_dag(text=entry.yaml, source=entry.source, env_overrides=envs, secrets_overrides=secrets)
    if len(dag.tasks) > 1:
        raise InvalidSkyPilotConfigError(
            f"{entry.source} holds {len(dag.tasks)} tasks. A cluster runs one; `sky jobs launch {entry.source}` runs a "
            f"pipeline, each task on a cluster of its own. `sky optimize {entry.source}` plans them together."
        )
    return dag.tasks[0]


def variables(entry: Entrypoint, flags: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables and the secrets given by files and options.

    A value of --env-file that the task declares under `secrets` is a secret: it goes there and nowhere in clear.
    """
    file_envs = _from_file(flags.get("env_file"), "--env-file")
    declared = _declared_secrets(entry) if file_envs else frozenset()
    file_secrets = {key: value for key, value in file_envs.items() if key in declared}
    envs = {key: value for key, value in file_envs.items() if key not in declared}
    envs |= pairs(flags.get("env") or (), "--env")
    secrets = file_secrets | _from_file(flags.get("secret_file"), "--secret-file")
    secrets |= pairs(flags.get("secret") or (), "--secret")
    return envs, secrets


def _declared_secrets(entry: Entrypoint) -> frozenset[str]:
    if entry.yaml is None:
        return frozenset()
    try:
        declared = read_single(entry.yaml, entry.source).data.get("secrets")
    except InvalidSkyPilotConfigError:
        return frozenset()  # reading it for good, a moment later, tells what is wrong
    return frozenset(declared) if isinstance(declared, Mapping) else frozenset()


def _from_file(path: str | None, option: str) -> dict[str, str]:
    if not path:
        return {}
    try:
        return load_env_file(path, os.environ)
    except ValueError as exc:
        raise click.UsageError(f"{option}: {exc}") from exc


def pairs(words: Iterable[str], option: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return `KEY=VALUE` words as a mapping; a lone `KEY` takes the value it has here. Raises click.UsageError."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not _NAME.fullmatch(key):
            # The value is not repeated: for --secret it must not reach a terminal or a log.
            raise click.UsageError(f"{option} {key}: a name is letters, digits and underscores, no digit first.")
        if not equals:
            if key not in environ:
                raise click.UsageError(f"{option} {key}: {key} is not set here; pass {option} {key}=VALUE.")
            value = environ[key]
        found[key] = value
    return found


def resources_override(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `Resources` that options set; None as a value takes away what the file says."""
    if flags.get("infra") and any(flags.get(part) for part in ("cloud", "region", "zone")):
        raise click.UsageError("--infra already says cloud, region and zone; drop --cloud, --region and --zone.")
    override: dict[str, Any] = {
        field: _unless_none(flags[option]) for option, field in _FIELDS.items() if flags.get(option) is not None
    }
    if isinstance(override.get("disk_size"), str) and override["disk_size"].isdigit():
        override["disk_size"] = int(override["disk_size"])
    if flags.get("use_spot") is not None:
        override["use_spot"] = flags["use_spot"]
    if flags.get("priority") is not None:
        override["priority"] = _unless_none(flags["priority"], _whole_number)
    ports = [port.strip() for text in flags.get("ports") or () for port in text.split(",") if port.strip()]
    if ports:
        override["ports"] = None if [port.lower() for port in ports] == ["none"] else ports
    return override


def _whole_number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else text


def _unless_none(value: str, convert: Callable[[str], Any] = str) -> Any:
    return None if value.lower() == "none" else convert(value)


def _override_workdir(task: Task, flags: Mapping[str, Any]) -> None:
    workdir, url, ref = flags.get("workdir"), flags.get("git_url"), flags.get("git_ref")
    if workdir and url:
        raise click.UsageError("--workdir and --git-url both say where the workdir comes from; pass one.")
    if workdir or url or ref:
        task.update_workdir(workdir, url, ref)

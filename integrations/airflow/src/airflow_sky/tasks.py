"""What an operator was given (a path, a text, a mapping) as tasks of the SDK. Called when a task runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sky

#: How a path ends, of those that are told from the text of a task file.
_ENDINGS = (".yaml", ".yml")


def is_path(given: str) -> bool:
    """Whether this names a task file, and is not the text of one."""
    return given.rstrip().endswith(_ENDINGS) and "\n" not in given.strip() and not re.match(r"\s*[\w-]+:\s", given)


def read_tasks(
    given: Any,
    folder: Path,
    *,
    envs: Mapping[str, object] | None = None,
    secrets: Mapping[str, object] | None = None,
    resources: Mapping[str, Any] | None = None,
) -> list[sky.Task] | sky.Dag:
    """The tasks of a path, a text, a mapping, a list of mappings, or of what the SDK made; a graph as it is.

    Relative paths are meant from the task file's folder, or from `folder` (the DAG's). `resources` replaces fields of
    what the tasks ask for. Raises ValueError with every mistake of a task file, FileNotFoundError.
    """
    envs, secrets = texts(envs, "envs"), texts(secrets, "secrets")
    base = folder
    if isinstance(given, str | os.PathLike):
        found, base = _from_text(given, folder, envs, secrets)
    elif isinstance(given, Mapping):
        found = _from_mapping(given, envs, secrets)
    elif isinstance(given, Sequence):
        found = [each for part in given for each in read_tasks(part, folder, envs=envs, secrets=secrets)]
    else:
        found = given
        for task in _tasks_of(found):
            task.update_envs(envs)
            task.update_secrets(secrets)
    for task in _tasks_of(found):
        _anchor(task, base)
        if resources:
            task.set_resources_override(dict(resources))
    return found if getattr(found, "tasks", None) is not None else _tasks_of(found)


def _tasks_of(found: Any) -> list[Any]:
    inner = getattr(found, "tasks", None)
    if inner is not None:
        return list(inner)
    return list(found) if isinstance(found, list | tuple) else [found]


def _from_text(
    given: str | os.PathLike[str], folder: Path, envs: dict[str, str], secrets: dict[str, str]
) -> tuple[Any, Path]:
    from sky.utils import dag_utils  # noqa: PLC0415 - DAG files are read where `sky` is never called

    if isinstance(given, str) and not is_path(given):
        return _one_or_more(dag_utils.load_chain_dag_from_yaml_str(given, envs, secrets)), folder
    path = folder / Path(given).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no task file {path}. Relative paths are meant from the DAG's folder.")
    try:
        return _one_or_more(dag_utils.load_chain_dag_from_yaml(path, envs, secrets)), path.parent
    except ValueError as problem:
        problem.add_note(f"This was read from {path}.")
        raise


def _from_mapping(given: Mapping[str, Any], envs: dict[str, str], secrets: dict[str, str]) -> Any:
    import sky  # noqa: PLC0415 - DAG files are read where `sky` is never called

    return sky.Task.from_yaml_config(given, envs, secrets)


def _one_or_more(dag: Any) -> Any:
    """A graph only where there is one: of a single task the task."""
    return dag.tasks[0] if len(dag.tasks) == 1 else dag


def texts(values: Mapping[str, object] | None, what: str) -> dict[str, str]:
    """Variables as texts; numbers are welcome."""
    found = {}
    for name, value in (values or {}).items():
        if value is None or isinstance(value, Mapping | list | tuple | set):
            raise ValueError(f"{what}[{name!r}] must be a text or a number, not a {type(value).__name__}.")
        found[str(name)] = str(value)
    return found


def _anchor(task: Any, base: Path) -> None:
    """Make a task's local paths absolute: a worker stands in no folder that anybody has in mind."""
    if isinstance(task.workdir, str):
        task.workdir = _absolute(task.workdir, base)
    local = task.get_local_to_remote_file_mounts() or {}
    if local:
        mounts = {to: _absolute(source, base) for to, source in local.items()}
        task.set_file_mounts({**(task.file_mounts or {}), **mounts})


def _absolute(path: str, base: Path) -> str:
    return path if path.startswith(("/", "~")) else os.path.normpath(base / path)

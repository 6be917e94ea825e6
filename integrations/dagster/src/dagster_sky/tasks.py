"""What a task may be given as, and a task of its own for each run of it. Called by the runs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dagster import EnvVar

if TYPE_CHECKING:
    import sky

#: A `sky.Task`, the path of a task file, or what a task file holds.
TaskLike: TypeAlias = "sky.Task | str | PathLike[str] | Mapping[str, Any]"


def task_of(
    given: TaskLike, env: Mapping[str, Any] | None = None, secrets: Mapping[str, Any] | None = None
) -> sky.Task:
    """A task with these variables besides its own; what was given is not changed.

    Raises ValueError for what is no task, FileNotFoundError for a file that is not there.
    """
    import sky  # noqa: PLC0415 - definitions are loaded where nothing runs

    envs, hidden = _texts(env), _texts(secrets)
    if isinstance(given, Mapping):
        return sky.Task.from_yaml_config(dict(given), env_overrides=envs, secrets_overrides=hidden)
    if isinstance(given, sky.Task):
        task = copy.deepcopy(given)
        return task.update_envs(envs).update_secrets(hidden) if envs or hidden else task
    if not envs and not hidden:
        return sky.Task.from_yaml(Path(given))
    # A variable that the file leaves open has to be known while it is read.
    return sky.Task.from_yaml_str(Path(given).read_text("utf-8"), env_overrides=envs, secrets_overrides=hidden)


def _texts(pairs: Mapping[str, Any] | None) -> dict[str, str]:
    return {name: str(plain(value)) for name, value in (pairs or {}).items()}


def plain(value: Any) -> Any:
    """What stands behind an `EnvVar`; anything else as it is. Raises ValueError for a variable that is not set."""
    if not isinstance(value, EnvVar):
        return value
    found = value.get_value()
    if found is None:
        raise ValueError(f"The environment variable {value.env_var_name} is not set.")
    return found

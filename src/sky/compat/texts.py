"""What programs take of other versions' modules of tools to read and write texts: YAML, names, pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sky.core.model.names import check_cluster_name
from sky.sdk.dags import Dag
from sky.sdk.tasks import Task

#: Where a task's workdir is on a node, below the home.
SKY_REMOTE_WORKDIR = "~/sky_workdir"
SKY_LOGS_DIRECTORY = "~/sky_logs"
TASK_ID_ENV_VAR = "SKYPILOT_TASK_ID"
SKYPILOT_NODE_IPS = "SKYPILOT_NODE_IPS"
SKYPILOT_NUM_NODES = "SKYPILOT_NUM_NODES"
SKYPILOT_NODE_RANK = "SKYPILOT_NODE_RANK"
SKYPILOT_NUM_GPUS_PER_NODE = "SKYPILOT_NUM_GPUS_PER_NODE"


def check_cluster_name_is_valid(cluster_name: str | None) -> None:
    """Raise InvalidClusterNameError for a name that no cluster may have; None is one that is chosen later."""
    if cluster_name is not None:
        check_cluster_name(cluster_name)


def make_cluster_name_on_cloud(display_name: str, *_args: Any, **_kwargs: Any) -> str:
    """Return the name that machines carry: the cluster's own, since clouds know them by labels."""
    return display_name


def get_user_hash() -> str:
    """Return eight hexadecimal digits that stand for this user, as records have them."""
    from sky.sdk.server import api_info  # noqa: PLC0415 - asks the server, which the rest of this module never does

    return str(api_info()["user"]["id"])


# --- YAML --------------------------------------------------------------------------------------------------------


def dump_yaml_str(config: Any) -> str:
    """Return mappings (a list of them: several documents) as YAML, keys in their order."""
    import yaml  # noqa: PLC0415 - 30 ms that only who writes YAML pays

    several = isinstance(config, list)
    text: str = (yaml.safe_dump_all if several else yaml.safe_dump)(config, sort_keys=False, default_flow_style=False)
    return text


def dump_yaml(path: str | Path | None, config: Any, blank: bool = False) -> str:
    """Write mappings to a file as YAML, if one is named, and return the text."""
    text = dump_yaml_str(config) if config or not blank else ""
    if path is not None:
        Path(path).expanduser().write_text(text, encoding="utf-8")
    return text


def safe_load(stream: Any) -> Any:
    """Read one document of a text or an open file."""
    import yaml  # noqa: PLC0415 - as above

    return yaml.safe_load(stream)


def read_yaml_str(text: str) -> Any:
    """Read one document; an empty one is an empty mapping."""
    return safe_load(text) or {}


def read_yaml(path: str | Path | None) -> Any:
    """Read a file of one document."""
    if path is None:
        raise ValueError("read_yaml() needs the path of a file.")
    return safe_load(Path(path).expanduser().read_text(encoding="utf-8"))


def read_yaml_all(path: str | Path) -> list[Any]:
    """Read a file of several documents; empty ones are empty mappings."""
    import yaml  # noqa: PLC0415 - as above

    text = Path(path).expanduser().read_text(encoding="utf-8")
    return [each or {} for each in yaml.safe_load_all(text)] or [{}]


# --- pipelines ---------------------------------------------------------------------------------------------------


def convert_entrypoint_to_dag(entrypoint: Any) -> Dag:
    """Return a task as a dag of its own; a dag stays what it is. Raises TypeError for anything else."""
    if isinstance(entrypoint, Dag):
        return entrypoint
    if not isinstance(entrypoint, Task):
        raise TypeError(f"Expected a sky.Task or sky.Dag, found a {type(entrypoint).__name__}.")
    dag = Dag(entrypoint.name)
    dag.add(entrypoint)
    return dag


def dump_dag_to_yaml_str(dag: Dag, use_user_specified_yaml: bool = False) -> str:
    """Return a dag as YAML that `load_dag_from_yaml_str` reads back; secrets are in it in clear.

    `use_user_specified_yaml` makes no difference: the text is that of the tasks as they are now.
    """
    spec = dag.to_spec()
    told = spec.to_config()
    header = {key: value for key, value in told.items() if key not in ("tasks", "edges")}
    return dump_yaml_str([header, *told["tasks"]] if header or len(told["tasks"]) > 1 else told["tasks"])


dump_chain_dag_to_yaml_str = dump_dag_to_yaml_str


def dump_chain_dag_to_yaml(dag: Dag, path: str | Path) -> None:
    """Write a dag to a file as YAML."""
    Path(path).expanduser().write_text(dump_dag_to_yaml_str(dag), encoding="utf-8")

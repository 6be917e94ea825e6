"""Files of one or several tasks as ``sky.Dag``: what ``sky launch FILE`` and programs that read pipelines call."""

from __future__ import annotations

from pathlib import Path

from sky.core.model.dags import DagSpec
from sky.sdk.dags import Dag
from sky.sdk.tasks import Task
from sky.wire.task_yaml import Overrides, load_dag


def dag_from_spec(spec: DagSpec) -> Dag:
    """Return a dag that programs can change, made from a frozen one."""
    dag = Dag(spec.name)
    # The open block catches the tasks, so that they do not join a dag that the caller has open.
    with dag:
        tasks = [Task.from_spec(task) for task in spec.tasks]
    for before, after in spec.edges:
        dag.add_edge(tasks[before], tasks[after])
    dag.execution = spec.execution
    dag.primary_tasks = list(spec.primary_tasks) or None
    dag.termination_delay = dict(spec.termination_delay) or None
    dag.inter_connection = spec.inter_connection
    return dag


def load_dag_from_yaml(path: str | Path, env_overrides: Overrides = None, secrets_overrides: Overrides = None) -> Dag:
    """Read a file that holds a task, a pipeline or a job group; complaints name file, line and column."""
    return dag_from_spec(load_dag(path, env_overrides=env_overrides, secrets_overrides=secrets_overrides))


def load_dag_from_yaml_str(text: str, env_overrides: Overrides = None, secrets_overrides: Overrides = None) -> Dag:
    """Read a text that holds a task, a pipeline or a job group."""
    return dag_from_spec(load_dag(text=text, env_overrides=env_overrides, secrets_overrides=secrets_overrides))

"""``sky.Dag``: tasks that belong together, as programs build them; a mutable builder over ``DagSpec``.

``with sky.Dag() as dag:`` collects the tasks made inside. Which dag is open is a context variable, so threads and
coroutines do not see each other's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.dags import DEFAULT_DELAY, DagExecution, DagSpec, read_header
from sky.core.model.schema import Problems
from sky.core.model.tasks import TaskSpec


@runtime_checkable
class DagTask(Protocol):
    """What a dag asks of its tasks; ``sky.Task`` has it."""

    name: str | None

    def to_spec(self) -> TaskSpec:
        """Return the frozen task."""
        ...

    def validate(self, skip_file_mounts: bool = False, skip_workdir: bool = False) -> None:
        """Raise ``ValueError`` where files that the task names are missing."""
        ...


_open_dags: ContextVar[tuple[Dag, ...]] = ContextVar("sky_open_dags", default=())


def current_dag() -> Dag | None:
    """Return the innermost dag whose ``with`` block is open here, or ``None``."""
    dags = _open_dags.get()
    return dags[-1] if dags else None


@dataclass(frozen=True, slots=True)
class DagGraph:
    """The tasks and edges of a dag: ``nodes`` in order of adding, ``edges`` as pairs of tasks."""

    nodes: tuple[Any, ...]
    edges: tuple[tuple[Any, Any], ...]

    def successors(self, task: object) -> list[Any]:
        """Return the tasks that directly follow one."""
        return [after for before, after in self.edges if before is task]

    def predecessors(self, task: object) -> list[Any]:
        """Return the tasks that one directly follows."""
        return [before for before, after in self.edges if after is task]

    def __len__(self) -> int:
        return len(self.nodes)


class Dag:
    """Tasks with what binds them.

    name: shown in queues. execution: serial (a pipeline) or parallel (a job group), ``None`` for a lone task or plain
    chain. primary_tasks, termination_delay, inter_connection: of job groups. pool: a pool to run in.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.tasks: list[Any] = []
        self.pool: str | None = None
        self.execution: DagExecution | None = None
        self.primary_tasks: list[str] | None = None
        self.termination_delay: float | str | Mapping[str, float | str] | None = None
        self.inter_connection: bool | None = None
        self._edges: list[tuple[Any, Any]] = []
        self._tokens: list[Token[tuple[Dag, ...]]] = []

    # --- building ----------------------------------------------------------------------------------------------------

    def add(self, task: DagTask) -> None:
        """Add a task; adding it again changes nothing."""
        if not isinstance(task, DagTask):
            raise TypeError(f"Dag.add() takes a sky.Task, not a {type(task).__name__}.")
        if not any(one is task for one in self.tasks):
            self.tasks.append(task)

    def remove(self, task: DagTask) -> None:
        """Remove a task and its edges; raises ``ValueError`` if it is not in the dag."""
        if not any(one is task for one in self.tasks):
            raise ValueError("This task is not in the dag.")
        self.tasks = [one for one in self.tasks if one is not task]
        self._edges = [edge for edge in self._edges if task is not edge[0] and task is not edge[1]]

    def add_edge(self, before: DagTask, after: DagTask) -> None:
        """Let one task follow another; both are added where they are missing."""
        if before is after:
            raise ValueError("A task cannot follow itself.")
        for task in (before, after):
            self.add(task)
        if not any(edge[0] is before and edge[1] is after for edge in self._edges):
            self._edges.append((before, after))

    def set_execution(self, execution: DagExecution) -> None:
        """Choose whether the tasks follow one another or run together."""
        self.execution = DagExecution(execution)

    def __enter__(self) -> Self:
        self._tokens.append(_open_dags.set((*_open_dags.get(), self)))
        return self

    def __exit__(self, *exc_info: object) -> None:
        _open_dags.reset(self._tokens.pop())

    # --- questions ---------------------------------------------------------------------------------------------------

    def get_graph(self) -> DagGraph:
        """Return tasks and edges."""
        return DagGraph(tuple(self.tasks), tuple(self._edges))

    def is_chain(self) -> bool:
        """Whether the tasks form one line; a dag without edges is one if it has at most one task."""
        if len(self.tasks) <= 1:
            return True
        graph = self.get_graph()
        straight = all(len(graph.successors(one)) <= 1 and len(graph.predecessors(one)) <= 1 for one in self.tasks)
        return straight and len(self._edges) == len(self.tasks) - 1 and self._is_acyclic()

    def is_job_group(self) -> bool:
        """Whether all tasks start together."""
        return self.execution is DagExecution.PARALLEL

    def inter_connection_enabled(self) -> bool:
        """Whether the tasks of a job group can reach each other; they can unless it was turned off."""
        return self.is_job_group() and self.inter_connection is not False

    def is_primary_task(self, task_name: str | None) -> bool:
        """Whether the end of this task ends the job group; without a list every task is primary."""
        return not self.primary_tasks or task_name in self.primary_tasks

    def get_auxiliary_task_names(self) -> list[str]:
        """Return the names of the tasks that are not primary."""
        return [task.name for task in self.tasks if not self.is_primary_task(task.name)]

    def get_termination_delay_secs(self, task_name: str) -> float:
        """Return the seconds that a task goes on after the primary ones have ended."""
        delays = self.to_spec().termination_delay
        return delays.get(task_name, delays.get(DEFAULT_DELAY, 0.0))

    def _is_acyclic(self) -> bool:
        waiting = {id(task): len(self.get_graph().predecessors(task)) for task in self.tasks}
        ready = [task for task in self.tasks if not waiting[id(task)]]
        done = 0
        while ready:
            task = ready.pop()
            done += 1
            for after in self.get_graph().successors(task):
                waiting[id(after)] -= 1
                if not waiting[id(after)]:
                    ready.append(after)
        return done == len(self.tasks)

    # --- becoming a value --------------------------------------------------------------------------------------------

    def validate(self, skip_file_mounts: bool = False, skip_workdir: bool = False) -> None:
        """Raise ``ValueError`` where the dag or one of its tasks is not valid, or names files that are missing."""
        self.to_spec()
        for task in self.tasks:
            task.validate(skip_file_mounts=skip_file_mounts, skip_workdir=skip_workdir)

    def resolve_and_validate_volumes(self) -> None:
        """Resolve the volumes of every task."""
        for task in self.tasks:
            task.resolve_and_validate_volumes()

    def to_spec(self) -> DagSpec:
        """Return the frozen dag; raises ``InvalidSkyPilotConfigError`` with every problem."""
        if not self._is_acyclic():
            raise InvalidSkyPilotConfigError("Invalid pipeline YAML: found tasks that follow each other in a circle.")
        problems = Problems(kind="pipeline")
        header = {
            "name": self.name,
            "execution": self.execution.value if self.execution else None,
            "primary_tasks": self.primary_tasks or None,
            "termination_delay": self.termination_delay,
            "inter_connection": self.inter_connection,
        }
        spec = read_header(header, [task.to_spec() for task in self.tasks], problems)
        problems.raise_if_any()
        positions = {id(task): index for index, task in enumerate(self.tasks)}
        edges = tuple((positions[id(before)], positions[id(after)]) for before, after in self._edges)
        if not edges and any(task.depends_on is not None for task in spec.tasks):
            return spec
        return replace(spec, edges=edges if edges or self.is_job_group() else ())

    def __repr__(self) -> str:
        return f"Dag({self.name or ''}: {', '.join(map(repr, self.tasks))})"

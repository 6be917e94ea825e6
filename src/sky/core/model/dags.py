"""Several tasks that belong together: pipelines, where one follows another, and job groups, which start together."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sky.core.model.fields import HEADER
from sky.core.model.names import check_job_group_name
from sky.core.model.quantities import parse_duration_seconds
from sky.core.model.schema import Problems, check_section
from sky.core.model.tasks import TaskSpec


class DagExecution(enum.Enum):
    """Whether tasks run one after another or all together."""

    SERIAL = "serial"
    PARALLEL = "parallel"


#: The delay of every task that is not named on its own.
DEFAULT_DELAY = "default"


@dataclass(frozen=True, slots=True)
class DagSpec:
    """Tasks with what binds them.

    edges: pairs of positions in ``tasks``, from earlier to later. primary_tasks: names of the tasks whose end ends a
    job group; none means all. termination_delay: seconds that other tasks go on, by task name or ``"default"``.
    """

    tasks: tuple[TaskSpec, ...]
    name: str | None = None
    execution: DagExecution | None = None
    edges: tuple[tuple[int, int], ...] = ()
    primary_tasks: tuple[str, ...] = ()
    termination_delay: Mapping[str, float] = field(default_factory=dict)
    inter_connection: bool | None = None

    @property
    def is_graph(self) -> bool:
        """Whether tasks say which others they follow, so that they form more than a chain."""
        chain = tuple((at, at + 1) for at in range(len(self.tasks) - 1))
        if self.is_job_group or len(self.tasks) < 2:
            return False
        said = any(task.depends_on is not None for task in self.tasks)
        return tuple(sorted(self.edges)) != chain and (said or bool(self.edges))

    @property
    def is_job_group(self) -> bool:
        """Whether all tasks start together."""
        return self.execution is DagExecution.PARALLEL

    def to_config(self) -> dict[str, Any]:
        """Return the canonical, JSON-safe mapping; ``from_config`` is its exact inverse."""
        header: dict[str, Any] = {
            "name": self.name,
            "execution": self.execution.value if self.execution else None,
            "primary_tasks": list(self.primary_tasks),
            "termination_delay": dict(self.termination_delay),
            "inter_connection": self.inter_connection,
        }
        header = {key: value for key, value in header.items() if value is not None and value not in ([], {})}
        return {
            **header,
            "tasks": [task.to_config() for task in self.tasks],
            "edges": [list(edge) for edge in self.edges],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DagSpec:
        """Read what ``to_config`` returned; raises ``InvalidSkyPilotConfigError`` for anything else."""
        problems = Problems(kind="pipeline")
        if not isinstance(config, Mapping) or not isinstance(config.get("tasks"), list):
            problems.add((), "found no list of tasks")
        problems.raise_if_any()
        tasks: list[TaskSpec] = []
        for task in config["tasks"]:
            with problems.catch("tasks", len(tasks)):
                tasks.append(TaskSpec.from_config(task if isinstance(task, Mapping) else {"run": task}))
        problems.raise_if_any()
        header = {key: value for key, value in config.items() if key not in ("tasks", "edges")}
        spec = read_header(header, tasks, problems)
        edges = [tuple(edge) if isinstance(edge, list) else () for edge in config.get("edges") or []]
        known = range(len(tasks))
        if not all(len(edge) == 2 and edge[0] in known and edge[1] in known for edge in edges):
            problems.add(("edges",), "found an edge that joins no two tasks")
        problems.raise_if_any()
        if "edges" not in config:
            return spec
        return replace(spec, edges=tuple((edge[0], edge[1]) for edge in edges))


def read_header(header: Mapping[str, Any], tasks: Sequence[TaskSpec], problems: Problems) -> DagSpec:
    """Join tasks under a header as files hold it; several tasks that do not run together follow one another."""
    check_section(header, HEADER, (), problems)
    given = {key: value for key, value in header.items() if value is not None and not problems.spoils(key)}
    execution = DagExecution(str(given["execution"]).lower()) if "execution" in given else None
    parallel = execution is DagExecution.PARALLEL
    name = given.get("name")
    if parallel:
        _check_group(name, tasks, problems)
    else:
        for key in ("primary_tasks", "termination_delay", "inter_connection"):
            if key in given:
                problems.add((key,), f"found '{key}' without 'execution: parallel'; allowed: in job groups")
    names = [task.name for task in tasks]
    edges = _read_edges(tasks, execution, problems)
    _check_sweeps(tasks, problems)
    for index, primary in enumerate(given.get("primary_tasks") or []):
        if parallel and primary not in names:
            problems.add(("primary_tasks", index), f"found the task '{primary}'; allowed: {', '.join(map(str, names))}")
    return DagSpec(
        tuple(tasks),
        name if name is not None else (tasks[0].name if tasks else None),
        execution,
        edges,
        tuple(given.get("primary_tasks") or ()),
        _read_delays(given, names, problems),
        given.get("inter_connection"),
    )


def _read_edges(
    tasks: Sequence[TaskSpec], execution: DagExecution | None, problems: Problems
) -> tuple[tuple[int, int], ...]:
    """Which task follows which: as `depends_on` says where one of them has it, else each the one before it."""
    said = [index for index, task in enumerate(tasks) if task.depends_on is not None]
    for index in said if execution is not None else ():
        problems.add(
            ("tasks", index, "depends_on"),
            f"found 'depends_on' with 'execution: {execution.value if execution else ''}'; allowed: one of them",
        )
    if execution is DagExecution.PARALLEL:
        return ()
    if not said or execution is not None:
        return tuple((index, index + 1) for index in range(len(tasks) - 1))
    edges = []
    for index, task in enumerate(tasks):
        for place, name in enumerate(task.depends_on or ()):
            path = ("tasks", index, "depends_on", place)
            named = [at for at, each in enumerate(tasks) if each.name == name]
            if not named or named == [index]:
                others = ", ".join(each.name for at, each in enumerate(tasks) if each.name and at != index)
                problems.add(path, f"found the task '{name}'; allowed: {others or 'no other task has a name'}")
            elif len(named) > 1:
                problems.add(path, f"found '{name}', which is the name of {len(named)} tasks; allowed: a name for each")
            else:
                edges.append((named[0], index))
    circle = _circle(len(tasks), edges)
    if circle:
        words = " -> ".join(str(tasks[at].name) for at in circle)
        problems.add(("tasks", circle[0], "depends_on"), f"found tasks that wait for each other in a circle: {words}")
    return tuple(dict.fromkeys(edges))


def _circle(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Tasks that each wait for the one behind it, the first again at the end; none where there is no circle."""
    before: dict[int, set[int]] = {at: {first for first, then in edges if then == at} for at in range(count)}
    while free := [at for at, waited in before.items() if not waited]:
        for at in free:
            del before[at]
        for waited in before.values():
            waited.difference_update(free)
    if not before:
        return []
    path = [min(before)]
    while path[-1] not in path[:-1]:
        path.append(min(before[path[-1]]))
    return path[path.index(path[-1]) :]


def _check_sweeps(tasks: Sequence[TaskSpec], problems: Problems) -> None:
    for index, task in enumerate(tasks):
        if task.sweep is not None and len(tasks) > 1:
            problems.add(("tasks", index, "sweep"), "found a sweep beside other tasks; allowed: in a file of its own")


def _check_group(name: str | None, tasks: Sequence[TaskSpec], problems: Problems) -> None:
    if name is None:
        problems.add((), "found a job group without 'name'")
    else:
        with problems.catch("name"):
            check_job_group_name(name)
    names = [task.name for task in tasks]
    if None in names:
        problems.add((), "found a task without a name in a job group; allowed: a name for each")
    double = next((one for one in names if one is not None and names.count(one) > 1), None)
    if double is not None:
        problems.add((), f"found two tasks called '{double}' in a job group; allowed: a name for each")


def _read_delays(given: Mapping[str, Any], names: Sequence[str | None], problems: Problems) -> dict[str, float]:
    value = given.get("termination_delay")
    delays = value if isinstance(value, Mapping) else {} if value is None else {DEFAULT_DELAY: value}
    found: dict[str, float] = {}
    for key, delay in delays.items():
        with problems.catch("termination_delay"):
            if key != DEFAULT_DELAY and key not in names:
                raise ValueError(f"found the task '{key}'; allowed: default, {', '.join(map(str, names))}")
            found[key] = parse_duration_seconds(delay)
    return found

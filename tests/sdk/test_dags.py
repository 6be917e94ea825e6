"""``sky.Dag`` as programs use it."""

import threading
from pathlib import Path

import pytest

import sky
from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.dags import DagSpec
from sky.sdk.dag_files import dag_from_spec, load_dag_from_yaml, load_dag_from_yaml_str
from sky.sdk.dags import Dag, current_dag
from sky.sdk.tasks import Task


def test_tasks_made_inside_join() -> None:
    outside = Task("o")
    with Dag("p") as dag:
        a, b, c = Task("a"), Task("b"), Task("c")
        assert a >> b >> c is c
    assert current_dag() is None
    assert dag.tasks == [a, b, c]
    assert outside not in dag.tasks
    assert dag.is_chain()
    graph = dag.get_graph()
    assert (graph.nodes, graph.edges) == ((a, b, c), ((a, b), (b, c)))
    assert (graph.successors(a), graph.predecessors(a), len(graph)) == ([b], [], 3)
    assert dag.to_spec().edges == ((0, 1), (1, 2))


def test_dags_nest() -> None:
    with Dag() as outer:
        a = Task("a")
        with Dag() as inner:
            b = Task("b")
        c = Task("c")
    assert (outer.tasks, inner.tasks) == ([a, c], [b])


def test_an_open_dag_is_not_seen_by_other_threads() -> None:
    seen: list[object] = []
    with Dag() as dag:
        thread = threading.Thread(target=lambda: seen.append((current_dag(), Task("t"))))
        thread.start()
        thread.join()
    assert dag.tasks == []
    assert seen[0][0] is None  # type: ignore[index]


def test_an_error_closes_the_dag() -> None:
    with pytest.raises(RuntimeError), Dag():
        raise RuntimeError
    assert current_dag() is None


def test_edges_need_a_dag() -> None:
    with pytest.raises(ValueError, match=r"inside `with sky.Dag"):
        Task("a") >> Task("b")  # type: ignore[unused-ignore]


def test_adding_and_removing() -> None:
    dag, a, b = Dag(), Task("a"), Task("b")
    dag.add(a)
    dag.add(a)
    dag.add_edge(a, b)
    dag.add_edge(a, b)
    assert (dag.tasks, dag.get_graph().edges) == ([a, b], ((a, b),))
    dag.remove(b)
    assert (dag.tasks, dag.get_graph().edges) == ([a], ())
    with pytest.raises(ValueError, match="not in the dag"):
        dag.remove(b)
    with pytest.raises(ValueError, match="cannot follow itself"):
        dag.add_edge(a, a)
    with pytest.raises(TypeError, match=r"takes a sky.Task"):
        dag.add("a")  # type: ignore[arg-type]


def test_forks_and_circles_are_no_chains() -> None:
    with Dag() as fork:
        a, b, c = Task("a"), Task("b"), Task("c")
        a >> b
        a >> c
    assert not fork.is_chain()
    assert fork.to_spec().edges == ((0, 1), (0, 2))
    fork.add_edge(b, a)
    with pytest.raises(InvalidSkyPilotConfigError, match="in a circle"):
        fork.to_spec()


def test_job_groups() -> None:
    with Dag("g") as dag:
        Task("train", run="x")
        Task("log", run="y")
    dag.set_execution(sky.DagExecution.PARALLEL)
    dag.primary_tasks = ["train"]
    dag.termination_delay = {"default": "1m", "log": 5}
    assert dag.is_job_group()
    assert dag.inter_connection_enabled()
    assert dag.is_primary_task("train")
    assert dag.get_auxiliary_task_names() == ["log"]
    assert (dag.get_termination_delay_secs("log"), dag.get_termination_delay_secs("train")) == (5.0, 60.0)
    spec = dag.to_spec()
    assert DagSpec.from_config(spec.to_config()) == spec
    assert dag_from_spec(spec).to_spec() == spec
    dag.validate()


def test_files_become_dags(tmp_path: Path) -> None:
    text = "name: p\n---\nname: a\nrun: x\n---\nname: b\nrun: y\n"
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    with Dag() as around:
        for dag in (load_dag_from_yaml(tmp_path / "p.yaml"), load_dag_from_yaml_str(text)):
            assert (dag.name, [task.name for task in dag.tasks], dag.is_chain()) == ("p", ["a", "b"], True)
            assert repr(dag).startswith("Dag(p: Task<a>(")
    assert around.tasks == []


def test_validate_reads_the_disk_of_every_task(tmp_path: Path) -> None:
    with Dag() as dag:
        Task("a")
        Task("b", workdir=tmp_path / "missing")
    with pytest.raises(InvalidSkyPilotConfigError, match="does not exist"):
        dag.validate()
    dag.validate(skip_workdir=True)

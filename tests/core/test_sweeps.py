"""Sweeps, and graphs of tasks: what files may say of them, and where it stands what they may not."""

import pytest

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.dags import DagSpec
from sky.core.model.sweeps import names_of
from sky.core.model.tasks import TaskSpec
from sky.sdk.dag_files import load_dag_from_yaml_str
from sky.wire.task_yaml import load_dag


def sweep(**said):
    return TaskSpec.from_config({"run": "x", "sweep": said}).sweep


def test_combinations_in_the_order_of_writing():
    found = sweep(matrix={"A": [1, 2], "B": ["x", True]}, exclude=[{"A": 2, "B": "x"}], max_parallel=3)
    assert found.combinations() == [{"A": "1", "B": "x"}, {"A": "1", "B": "true"}, {"A": "2", "B": "true"}]
    assert (found.size, found.max_parallel) == (4, 3)


def test_there_and_back():
    spec = TaskSpec.from_config({"run": "x", "depends_on": [], "sweep": {"matrix": {"A": ["1"]}, "max_parallel": 2}})
    assert TaskSpec.from_config(spec.to_config()) == spec
    assert spec.depends_on == ()
    assert TaskSpec.from_config({"run": "x"}).depends_on is None
    named = TaskSpec.from_config({"run": "x", "depends_on": ["a"]})
    assert TaskSpec.from_config(named.to_config()) == named


def test_texts_stay_as_they_were_written_and_fill_what_is_open():
    text = "run: x\nenvs: {LR: null}\nsweep:\n  matrix: {LR: [1e-3, 0.10, yes]}\n  exclude: [{LR: yes}]\n"
    (task,) = load_dag(text=text).tasks
    assert task.sweep.combinations() == [{"LR": "1e-3"}, {"LR": "0.10"}]
    assert task.envs == {"LR": "1e-3"}


def test_names_tell_values_while_these_can_be_told():
    every = [{"LR": "1e-3", "OPT": "a/b"}, {"LR": "x" * 80}, {"LR": "+"}, {"LR": "-"}]
    assert names_of("fit", every) == ["fit-LR-1e-3-OPT-a-b", "fit-1", "fit-2", "fit-3"]
    for name in names_of("a.b_c", every):
        TaskSpec.from_config({"name": name, "run": "x"})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "found no 'matrix'"),
        ({"matrix": {"A": []}}, "found an empty list"),
        ({"matrix": {"A": [1, 1]}}, "found '1' twice"),
        ({"matrix": {"1A": [1]}}, "found the variable name '1A'"),
        ({"matrix": {"A": [1], "B": 3}}, "allowed: a list"),
        ({"matrix": {"A": [[1]]}}, "allowed: a text"),
        ({"matrix": {"A": [1]}, "exclude": [{"B": 1}]}, "which is not in 'matrix'; allowed: A"),
        ({"matrix": {"A": [1]}, "exclude": [{"A": 2}]}, "found '2'; allowed: 1"),
        ({"matrix": {"A": [1]}, "exclude": [{}]}, "found nothing"),
        ({"matrix": {"A": [1]}, "exclude": [{"A": 1}]}, "every combination left out"),
        ({"matrix": {"A": [1]}, "max_parallel": 0}, "at least 1"),
        ({"matrix": {"A": [1]}, "parallel": 2}, "did you mean 'max_parallel'"),
        ({"matrix": {each: list(range(11)) for each in "ABC"}}, "found 1331 combinations"),
    ],
)
def test_what_a_sweep_may_not_be(said, words):
    with pytest.raises(InvalidSkyPilotConfigError) as told:
        sweep(**said)
    assert words in str(told.value)


FILE = "name: a\nrun: x\n---\nname: b\ndepends_on: [a]\nrun: x\n---\nname: c\n{}\nrun: x\n"


def test_a_graph_is_one_where_somebody_says_so():
    graph = load_dag(text=FILE.format("depends_on: [a]"))
    assert (graph.edges, graph.is_graph) == (((0, 1), (0, 2)), True)
    assert DagSpec.from_config(graph.to_config()) == graph
    chain = load_dag(text=FILE.format("depends_on: [b]"))
    assert (chain.edges, chain.is_graph) == (((0, 1), (1, 2)), False)
    alone = load_dag(text="name: a\nrun: x\n---\nname: b\ndepends_on: []\nrun: x\n")
    assert (alone.edges, alone.is_graph) == ((), True)
    assert DagSpec.from_config(alone.to_config()).is_graph
    assert not load_dag(text="run: x\n---\nrun: x\n").is_graph


def test_programs_get_the_same_graph():
    for text in (FILE.format("depends_on: [a]"), "name: a\nrun: x\n---\nname: b\ndepends_on: []\nrun: x\n"):
        spec, built = load_dag(text=text), load_dag_from_yaml_str(text).to_spec()
        assert (built.edges, built.is_graph) == (spec.edges, spec.is_graph)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (FILE.format("depends_on: [d]"), "<text>:9:14", "found the task 'd'; allowed: a, b"),
        (FILE.format("depends_on: [c]"), "<text>:9:14", "found the task 'c'"),
        (FILE.format("depends_on: {a: b}"), "<text>:9:1", "a list"),
        (FILE.replace("name: b", "name: a").format("depends_on: [a]"), "<text>:9:14", "the name of 2 tasks"),
        (
            "name: a\nrun: x\ndepends_on: [b]\n---\nname: b\nrun: x\ndepends_on: [a]\n",
            "<text>:3:1",
            "in a circle: a -> b -> a",
        ),
        ("name: p\nexecution: serial\n---\n" + FILE.format("depends_on: [a]"), "<text>:8:1", "'execution: serial'"),
        ("name: p\nexecution: parallel\n---\n" + FILE.format("num_nodes: 1"), "<text>:8:1", "'execution: parallel'"),
        (FILE.format("sweep: {matrix: {A: [1]}}"), "<text>:9:1", "in a file of its own"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(text, where, words):
    with pytest.raises(InvalidSkyPilotConfigError) as told:
        load_dag(text=text)
    assert where in str(told.value)
    assert words in str(told.value)


def test_circles_are_found_behind_what_leads_to_them():
    text = "---\n".join(
        f"name: {name}\nrun: x\ndepends_on: {after}\n"
        for name, after in (("s", "[]"), ("t", "[c, s]"), ("a", "[c]"), ("b", "[a]"), ("c", "[b, s]"))
    )
    with pytest.raises(InvalidSkyPilotConfigError, match=r"circle: (a -> c -> b -> a|c -> b -> a -> c)"):
        load_dag(text=text)

"""What is held against worlds with managed jobs: each rule sees what it is there to see, and nothing else."""

from dataclasses import replace

import pytest

from sky.core.model.job_groups import Group, Kind, Member
from sky.core.model.managed_jobs import ManagedJob, ManagedTask, Stage
from sky.core.model.statuses import ManagedJobStatus as Status
from sky.engine.managed_jobs import task_id_of
from sky.sim import managed_invariants as rules
from sky.sim.node import SimJob
from sky.sim.play import company


def ran(began, ended, key="1"):
    return SimJob(1, key, {}, began=began, ended=ended)


def job(*statuses, kind=None):
    tasks = tuple(ManagedTask(f"t{at}", status, attempts=(at + 1,)) for at, status in enumerate(statuses))
    group = None if kind is None else Group(kind, tuple(Member(f"m{at}") for at in range(len(tasks))))
    return ManagedJob("id", 1, "k", "n", "u", "default", Stage.DONE, 1, 1000.0, tasks, group=group)


def runs(of, *times):
    return {task_id_of(of, at): [ran(*each) for each in found] for at, found in enumerate(times)}


@pytest.mark.parametrize(("second", "broken"), [((20.0, 30.0), False), ((10.0, 30.0), False), ((9.0, 30.0), True)])
def test_a_task_that_runs_in_two_places_is_told(second, broken):
    found = list(rules._one_after_another({"task": [ran(0.0, 10.0, "a"), ran(*second, "b")]}))
    assert [line.split(", which")[0] for line in found] == ["task was begun as b while it ran as a"] * broken


def test_what_never_ended_runs_beside_what_comes_after():
    (line,) = rules._one_after_another({"task": [ran(0.0, None, "a"), ran(99.0, 100.0, "b")]})
    assert line.endswith("never ended")


def test_a_pipeline_goes_in_order():
    done = job(Status.SUCCEEDED, Status.SUCCEEDED)
    assert list(rules._in_order(done, [done], runs(done, [(0.0, 5.0)], [(6.0, 9.0)]))) == []
    (line,) = rules._in_order(done, [done], runs(done, [(0.0, 5.0)], [(4.0, 9.0)]))
    assert "task 1 of managed job 1 was begun before task 0" in line
    failed = job(Status.FAILED, Status.CANCELLED)
    assert list(rules._in_order(failed, [failed], runs(failed, [(0.0, 5.0)], []))) == []
    (line,) = rules._in_order(failed, [failed], runs(failed, [(0.0, 5.0)], [(6.0, 9.0)]))
    assert "ran and task 0, which it needs, FAILED" in line


def test_of_a_graph_each_task_waits_for_those_that_it_needs():
    graph = job(*[Status.SUCCEEDED] * 4, kind=Kind.GRAPH)
    well = [[(0.0, 5.0)], [(6.0, 9.0)], [(7.0, 12.0)], [(13.0, 14.0)]]
    assert list(rules._in_order(graph, [], runs(graph, *well))) == []
    (line,) = rules._in_order(graph, [], runs(graph, *well[:3], [(11.0, 14.0)]))
    assert "task 3 of managed job 1 was begun before task 2" in line
    group = replace(graph, group=replace(graph.group, kind=Kind.GROUP))
    assert list(rules._in_order(group, [], runs(group, *well[:3], [(1.0, 2.0)]))) == []


def test_some_worlds_have_managed_jobs_and_most_have_not():
    drawn = [company(seed) for seed in range(1, 401)]
    assert 0.1 < sum(managers for _, managers in drawn) / 400 < 0.2
    assert {users for users, managers in drawn if managers} == {0, 1}
    assert {users for users, managers in drawn if not managers} == {3}

"""Managed jobs with a deadline through the real engine, in worlds whose spot markets are drawn or made up."""

from random import Random

import pytest
from deadline_world import ON_DEMAND, Refused, deadline_task, play_job

from sky.core.policy.catalogue import POLICIES
from sky.sim import spot
from sky.sim.faults import Fault
from sky.sim.markets import Market, ZoneTrace, generated
from sky.sim.simulate import Job, Player
from sky.sim.world import ZONES

#: Seconds of work, and what a restart takes by the task's word; machines boot in 6 to 24 s.
WORK, RESTART = 600.0, 45.0
DRY = 10_000.0


def launches(played) -> list[tuple[str, str]]:
    """What the job was launched on, each time that machines came: spot or not, and the policy's reason."""
    found, asked = [], None
    for line in played.story:
        text = line[10:]
        if text.startswith("launching"):
            _, _, where, reason = text.split(": ", 3)
            asked = (where.split(" in ")[0], reason.split(";")[0])
        elif text == "its cluster is up" and asked is not None:
            found.append(asked)
    return found


@pytest.mark.parametrize("seed", range(501, 513))
def test_no_feasible_deadline_is_missed(seed):
    rng = Random(f"{seed}:drawn")
    policy, every = rng.choice(sorted(POLICIES)), rng.choice((5.0, 20.0, 60.0))
    # The least is what is taken on at all: the work and one start.
    deadline = max(WORK + RESTART, WORK * rng.uniform(1.0, 2.5))
    market = spot.played(generated(seed, ticks=400), seed, ZONES, 2000.0)
    told = {"on_preemption": {"signal": "TERM", "grace": "10s"}} if seed % 3 == 0 else {}
    played = play_job(seed, market, deadline_task(WORK, deadline, RESTART, policy, every, **told))
    assert (played.job.status.value, played.took <= deadline) == ("SUCCEEDED", True), "\n".join(played.story)


@pytest.mark.parametrize("policy", sorted(POLICIES.keys() - {"on-demand"}))
def test_where_there_is_spot_it_costs_what_spot_costs(policy):
    played = play_job(1, (), deadline_task(WORK, 2 * WORK, RESTART, policy))
    assert played.cost < 0.4 * ON_DEMAND * WORK / 3600
    assert all(spot for spot, _, _ in played.machines)


def test_a_play_is_repeated_to_the_letter():
    market = spot.played(generated(9, ticks=400), 9, ZONES, 2000.0)
    one, other = (play_job(9, market, deadline_task(WORK, 1.5 * WORK, RESTART)) for _ in range(2))
    assert one.story == other.story
    assert one.trace == other.trace


def lone_zone(up: list[tuple[float, float]], until: float) -> tuple[Market, tuple[Fault, ...]]:
    """A market of one zone with spot at these times, and the same as faults of a world; other zones have none."""
    ticks = int(until / spot.TICK_S)
    marks = bytes(any(a <= tick * spot.TICK_S < b for a, b in up) for tick in range(ticks))
    trace = ZoneTrace("aws/aws-r/aws-r-a", "aws/aws-r", marks, (ON_DEMAND / 3,) * ticks, ON_DEMAND)
    faults = [Fault("market dry", 0.0, DRY, 0.0, zone) for zone in ZONES if zone != "aws-r-a"]
    edges = [0.0, *(edge for each in up for edge in each), DRY]
    faults += [
        Fault("market dry", a, b - a, 0.0, "aws-r-a") for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a
    ]
    return Market("lone", spot.TICK_S, (trace,)), tuple(faults)


@pytest.mark.parametrize(
    ("policy", "up", "ratio"),
    [
        ("greedy", [(0.0, 250.0), (450.0, DRY)], 2.0),
        ("greedy", [(0.0, 200.0)], 1.5),
        ("uniform-progress", [(0.0, 200.0)], 1.5),
        ("uniform-progress", [(0.0, 3000.0)], 1.5),
        ("adaptive", [(0.0, 300.0)], 1.6),
        ("on-demand", [(0.0, 3000.0)], 1.5),
    ],
)
def test_the_engine_decides_as_the_simulator_does(policy, up, ratio):
    """The same trace through both: the same machines for the same reasons, at about the same times and cost."""
    market, faults = lone_zone(up, 2 * ratio * WORK)
    played = play_job(3, faults, deadline_task(WORK, ratio * WORK, RESTART, policy, every=5.0))
    run = Player(market, Job(WORK, ratio * WORK, RESTART), record=True).play(POLICIES[policy][0])
    assert played.job.status.value == "SUCCEEDED"
    assert run.kept and played.took <= ratio * WORK
    simulated = [("spot" if each.spot else "on demand", each.reason) for each in run.stretches]
    assert launches(played) == simulated, "\n".join(played.story)
    for machine, stretch in zip(
        [each for each in played.machines if each[2] - each[1] > 20], run.stretches, strict=True
    ):
        # The engine finds spot by asking for it, each restart's time and more, and its machines start in less.
        assert machine[1] == pytest.approx(stretch.began, abs=4 * RESTART)
    assert played.cost == pytest.approx(run.cost, rel=0.25)


def test_nothing_that_works_is_left_before_spot_is_there():
    """From on-demand it moves once spot has come; a zone that refuses costs nothing but the question."""
    _, faults = lone_zone([(0.0, 100.0), (400.0, DRY)], 4000.0)
    played = play_job(3, faults, deadline_task(1200.0, 2600.0, RESTART, "uniform-progress", every=5.0))
    asked = [line for line in played.story if "asking for spot" in line]
    (first, _, _), (fixed, _, left_at), (last, begun_at, _) = [m for m in played.machines if m[2] - m[1] > 20]
    assert (first, fixed, last) == (True, False, True), "\n".join(played.story)
    assert len(asked) >= 2, "it asked before there was any"
    assert begun_at < left_at < begun_at + 60, "it was asked for first, and both ran for as long as it takes to start"
    assert played.took <= 2600.0
    assert played.cost < 0.6 * ON_DEMAND * 1200 / 3600


def test_what_cannot_be_ended_is_waited_for_before_more_is_asked_for():
    """Nobody knows what a place has made that answers no more; it may all cost money."""
    _, faults = lone_zone([(0.0, 100.0)], 4000.0)
    silence = Fault("credentials expired", 250.0, 1500.0, 0.0)
    played = play_job(3, (*faults, silence), deadline_task(2400.0, 5200.0, RESTART, "uniform-progress", every=5.0))
    story = "\n".join(played.story)
    assert "to be ended, then spot in aws" in story
    assert played.clusters == 2, story
    assert played.took <= 5200.0


def test_a_spot_job_that_will_hardly_end_is_refused_where_that_is_wanted():
    """Five percent an hour, as nobody says more: a hundred hours without a checkpoint, and with one."""
    resources = {"cpus": "2+", "use_spot": True, "job_recovery": {"work": 360_000.0}}
    bare = {"name": "d", "run": "sim 5 0", "resources": resources}
    assert play_job(1, (), bare).job.status.value == "SUCCEEDED", "it is only told otherwise"
    with pytest.raises(Refused, match="it saves nothing on the way"):
        play_job(1, (), bare, strict=True)
    kept = {**bare, "checkpoint": {"path": "~/c", "every": "10m"}}
    assert play_job(1, (), kept, strict=True).job.status.value == "SUCCEEDED"

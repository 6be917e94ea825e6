"""One node of a gang is replaced, not the gang: when that is decided, and what each side does about it."""

from dataclasses import replace

import pytest

from sky.core.lifecycle import clusters as life
from sky.core.lifecycle import managed_events as events
from sky.core.lifecycle import managed_jobs
from sky.core.lifecycle.billing import booked
from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase, Site
from sky.core.model.managed_jobs import ManagedJob, ManagedTask, Stage, Where
from sky.core.model.offers import Offer, Placement
from sky.core.model.statuses import JobStatus
from sky.core.model.statuses import ManagedJobStatus as Status
from sky.core.policy.repair import MOST_IN_A_ROW, Loss, repair_or_relaunch

R, GONE = InstanceState.RUNNING, InstanceState.TERMINATED
NOW = 1000.0
OFFER = Offer("aws", "r1", "r1-a", "t1", 4, 16, 1.5, use_spot=True)
PLACE = Where("aws", "r1", "r1-a", "t1", True, 3.0)


# --- the decision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "repair", "why"),
    [
        (Loss(2, (1,)), True, ""),
        (Loss(2, (0,)), True, ""),
        (Loss(8, (0, 3, 5, 6, 7)), True, ""),
        (Loss(1, (0,)), False, ""),
        (Loss(2, (0, 1)), False, ""),
        (Loss(2, ()), False, ""),
        (Loss(2, (1,), fixed="an allocation stays as it is"), False, "an allocation stays as it is"),
        (Loss(2, (1,), repairs=MOST_IN_A_ROW - 1), True, ""),
        (Loss(2, (1,), repairs=MOST_IN_A_ROW), False, "did not come to run after 3 repairs"),
    ],
)
def test_what_is_left_is_kept_where_that_can_be(loss, repair, why):
    verdict = repair_or_relaunch(loss)
    assert verdict.repair is repair
    assert why in verdict.why


# --- the cluster -----------------------------------------------------------------------------------------------------


def node(rank: int, state: InstanceState = R, machine: str = "") -> Instance:
    return Instance(f"c-{rank}", "c", rank, state, f"10.0.0.{rank}", machine=machine or f"i-{rank}")


def cluster(phase: Phase = Phase.DEGRADED, **changes: object) -> Cluster:
    made = Cluster("c", "name", "u", "team", phase, 3, 0.0, 0.0, 2, placement=Placement(OFFER, 2, 4, 16), entered=True,
                   instances=(node(0), node(1, GONE)), sites=(Site("aws", "r1", "c"),), ever_up=True,
                   intervals=((10.0, None, 3.0),))  # fmt: skip
    return replace(made, **changes)


def step(before: Cluster, event: object, now: float = NOW):
    return life.TABLE.step(before, event, now)


@pytest.mark.parametrize("phase", [Phase.DEGRADED, Phase.UP])
def test_work_ends_first_then_what_is_missing_is_made_then_agents_come(phase):
    begun = step(cluster(phase), life.RepairAsked((1,), 1))
    assert (begun.entity.phase, begun.orders) == (Phase.REPAIRING, (life.EndWork((1,)),))
    assert begun.text == "replacing 1 of 2 nodes (rank 1)"
    assert (begun.entity.repairs, begun.entity.heads) == (1, 0)
    quiet = step(begun.entity, life.WorkEnded((1,)))
    assert (quiet.entity.phase, quiet.orders) == (Phase.REPAIRING, (life.Replace((1,)),))
    assert [each.rank for each in quiet.entity.instances] == [0]
    made = step(quiet.entity, life.NodesCreated((node(0), node(1, machine="i-9"))))
    assert (made.entity.phase, made.orders) == (Phase.BOOTSTRAPPING, (life.Bootstrap(),))
    assert step(made.entity, life.AgentsReady()).entity.phase is Phase.UP


def test_the_lines_of_kept_nodes_go_on_and_those_of_others_end_and_begin():
    before = cluster(Phase.UP, instances=(node(0), node(1)))
    lost = step(before, life.NodesObserved((node(0), node(1, GONE)))).entity
    assert lost.phase is Phase.DEGRADED
    assert [each.resource for each in booked(before, lost, NOW).ended] == ["i-1"]
    quiet = step(step(lost, life.RepairAsked((1,), 1)).entity, life.WorkEnded((1,))).entity
    assert booked(lost, quiet, NOW) == ((), ())
    whole = step(quiet, life.NodesCreated((node(0), node(1, machine="i-9")))).entity
    booking = booked(quiet, whole, NOW)
    assert (booking.ended, [each.resource for each in booking.begun]) == ((), ["i-9"])


def test_a_repair_that_was_begun_is_not_begun_again():
    begun = step(cluster(), life.RepairAsked((1,), 1)).entity
    for phase in (Phase.REPAIRING, Phase.BOOTSTRAPPING, Phase.UP, Phase.DEGRADED):
        again = step(replace(begun, phase=phase), life.RepairAsked((1,), 1))
        assert again.entity == replace(begun, phase=phase) and not again.orders
    assert step(replace(begun, phase=Phase.DEGRADED), life.RepairAsked((1,), 2)).orders == (life.EndWork((1,)),)


def test_who_replaces_the_head_begins_another_record():
    assert step(cluster(), life.RepairAsked((0,), 1)).entity.heads == 1


@pytest.mark.parametrize("event", [life.WorkNotEnded("node 2 is silent"), life.ProvisionRefused("zone", "no room")])
def test_one_that_cannot_be_repaired_is_what_it_was(event):
    repairing = step(cluster(), life.RepairAsked((1,), 1)).entity
    after = step(repairing, event)
    assert (after.entity.phase, after.orders) == (Phase.DEGRADED, ())
    assert after.entity.reason == f"not repaired: {event.reason}"
    refusals = [each.reason for each in after.entity.refusals]
    assert refusals == (["no room"] if isinstance(event, life.ProvisionRefused) else [])


@pytest.mark.parametrize(
    ("event", "phase"), [(life.DownAsked(), Phase.TERMINATING), (life.StopAsked(), Phase.STOPPING)]
)
def test_whoever_wants_it_gone_calls_the_repair_off(event, phase):
    assert step(step(cluster(), life.RepairAsked((1,), 1)).entity, event).entity.phase is phase


@pytest.mark.parametrize("phase", [Phase.TERMINATING, Phase.TERMINATED, Phase.STOPPED, Phase.BOOTSTRAPPING])
def test_what_is_no_more_or_on_its_way_is_not_repaired(phase):
    assert step(cluster(phase), life.RepairAsked((1,), 1)).entity.phase is phase


# --- the managed job -------------------------------------------------------------------------------------------------

UP = events.Seen(Phase.UP, ever_up=True, where=PLACE, num_nodes=2)
RUNS = replace(UP, job=JobStatus.RUNNING, version=3, number=1, start_at=900.0)
LOST = replace(RUNS, phase=Phase.DEGRADED, missing=1, lost=(1,), cluster_reason="1 of 2 nodes run: taken back")
OVER = replace(LOST, job=JobStatus.FAILED_DRIVER, version=4)


def job(recovery: object = None, **changes: object) -> ManagedJob:
    config = {"run": "true", **({"resources": {"job_recovery": recovery}} if recovery else {})}
    base = ManagedJob("j", 1, "r:0", "name", "u", "default", Stage.WAITING, 1, 0.0, (ManagedTask("t"),),
                      task_configs={"0": config})  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def after(before: ManagedJob, *seen: object, now: float = NOW) -> ManagedJob:
    for event in seen:
        before = managed_jobs.TABLE.step(before, event, now).entity
    return before


def running(**changes: object) -> ManagedJob:
    return after(job(**changes), events.Admitted(), events.Launched("c", "name-1"), UP, RUNS)


@pytest.mark.parametrize("seen", [LOST, OVER])
def test_a_gang_that_lost_a_node_is_repaired_and_begun_anew_on_the_same_cluster(seen):
    lost = managed_jobs.TABLE.step(running(), seen, NOW)
    assert (lost.entity.stage, lost.entity.status, lost.orders) == (
        Stage.REPAIRING,
        Status.RECOVERING,
        (events.Repair(),),
    )
    assert "taken back; replacing 1 of 2 nodes (rank 1) on aws/r1/r1-a" in lost.text
    assert (lost.entity.task.recoveries, lost.entity.lost, lost.entity.replacing) == (1, (), (1,))
    assert (lost.entity.attempt, lost.entity.task.ran) == (1, 100.0)

    waiting = after(lost.entity, OVER, replace(OVER, phase=Phase.REPAIRING, repairs=1, missing=0, lost=()))
    waiting = after(waiting, replace(OVER, phase=Phase.BOOTSTRAPPING, repairs=1, missing=0, lost=()))
    assert (waiting.stage, waiting.attempt) == (Stage.REPAIRING, 1)

    whole = managed_jobs.TABLE.step(waiting, replace(OVER, phase=Phase.UP, repairs=1, missing=0, lost=()), NOW)
    again = whole.entity
    assert (again.stage, whole.orders) == (Stage.SUBMITTING, (events.OpenJob(),))
    assert (again.cluster_id, again.attempt, again.task.attempts) == ("c", 2, (1, 2))
    assert (again.job_key, again.job_number, again.fresh) == ("managed:j:2", None, (1,))
    back = after(again, replace(UP, repairs=1), replace(RUNS, repairs=1, start_at=990.0, version=2))
    assert (back.status, back.repairs, back.fresh, back.task.recoveries) == (Status.RUNNING, 0, (), 1)


def test_setup_that_did_not_come_to_its_end_runs_everywhere_again():
    early = after(job(), events.Admitted(), events.Launched("c", "name-1"), UP, replace(OVER, start_at=900.0))
    assert (early.stage, early.fresh) == (Stage.REPAIRING, None)
    once = after(running(), LOST)
    twice = after(replace(once, stage=Stage.SUBMITTING), replace(LOST, repairs=1, lost=(0,), job=JobStatus.SETTING_UP))
    assert (twice.repair, twice.fresh) == (2, (0, 1)), "neither has what the setup makes"


def test_a_loss_that_is_seen_before_it_was_seen_to_run_leaves_the_others_as_they_are():
    lost = after(job(), events.Admitted(), events.Launched("c", "name-1"), UP, LOST)
    assert (lost.stage, lost.fresh) == (Stage.REPAIRING, (1,))


def test_a_repair_that_fails_leads_to_another_cluster_and_counts_once():
    lost = after(running(), LOST)
    failed = managed_jobs.TABLE.step(lost, replace(OVER, repairs=1, cluster_reason="not repaired: no room"), NOW)
    assert (failed.entity.stage, failed.orders) == (Stage.CLEARING, (events.Close(),))
    assert failed.text == "not repaired: no room; all of it is launched anew"
    assert (failed.entity.task.recoveries, failed.entity.lost) == (1, (PLACE,))
    anew = after(failed.entity, replace(OVER, phase=Phase.TERMINATED))
    assert (anew.stage, anew.cluster_id, anew.fresh, anew.repair) == (Stage.PLACING, None, None, 0)


def test_before_the_cluster_has_heard_nothing_is_concluded():
    lost = after(running(), LOST)
    still = managed_jobs.TABLE.step(lost, replace(OVER, phase=Phase.UP), NOW)
    assert (still.entity.stage, still.orders) == (Stage.REPAIRING, None)
    assert managed_jobs.TABLE.step(lost, events.Changed(), NOW).orders == (events.Repair(),)
    assert managed_jobs.TABLE.step(lost, events.Due(), NOW).orders == (events.Repair(),)


@pytest.mark.parametrize(
    "seen", [replace(LOST, fixed="not there"), replace(LOST, lost=(0, 1), missing=2), replace(LOST, num_nodes=1)]
)
def test_what_cannot_be_repaired_is_begun_anew_as_a_whole(seen):
    lost = managed_jobs.TABLE.step(running(), seen, NOW)
    assert (lost.entity.stage, lost.orders) == (Stage.CLEARING, (events.Close(),))
    assert ("all of it is launched anew: not there" in lost.text) is bool(seen.fixed)


def test_one_that_is_not_to_be_recovered_is_not_repaired():
    assert after(running(recovery={"strategy": "NONE"}), LOST).status is Status.FAILED


def test_who_cancels_meanwhile_ends_all_of_it():
    lost = after(running(), LOST)
    assert after(lost, events.CancelAsked("u")).stage is Stage.ENDING
    assert after(lost, events.CancelAsked("u", graceful=True)).stage is Stage.ENDING, "nothing of it runs"


def test_it_is_tried_no_more_than_so_often():
    lost = running()
    for number in range(MOST_IN_A_ROW):
        lost = after(replace(lost, stage=Stage.SUBMITTING), replace(LOST, repairs=number))
        assert lost.stage is Stage.REPAIRING
    assert after(replace(lost, stage=Stage.SUBMITTING), replace(LOST, repairs=3)).stage is Stage.CLEARING

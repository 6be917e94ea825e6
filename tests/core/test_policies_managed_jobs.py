"""Where a managed job goes after a loss, and which waiting one begins: plain functions."""

from sky.core.model.managed_jobs import AGING_S, ManagedJob, ManagedTask, Stage, Where
from sky.core.policy import recovery
from sky.core.policy.admission import Bounds, UnderWay, Waiting, admitted, why_waiting


def where(cloud="aws", region="us-east-1"):
    return Where(cloud, region, f"{region}a", "t", True, 1.0)


def history(*lost, last=None, launches=0, **config):
    return recovery.History(tuple(lost), last, launches, 1, config)


def test_the_next_region_really_is_another():
    choice = recovery.eager_next_region(history(where(), where("gcp", "us-west1"), where(), last=where()))
    assert choice.avoid == ("aws/us-east-1", "gcp/us-west1")
    assert recovery.eager_next_region(history()).avoid == ()


def test_failover_looks_where_it_was_and_then_everywhere():
    assert recovery.failover(history(where(), last=where())).prefer == "aws/us-east-1"
    assert recovery.failover(history(where(), last=where(), launches=1)) == recovery.Choice()


def test_a_place_without_regions_is_left_by_its_name():
    assert recovery.region_of(Where("one", "one", None, "t", False, 0.0)) == "one"


def test_pauses_grow_up_to_a_bound():
    assert [recovery.backoff(count) for count in (1, 2, 3, 30)] == [10, 20, 40, 300]


def test_errors_are_allowed_so_often():
    config = {"max_restarts_on_errors": 2, "recover_on_exit_codes": [33]}
    assert [recovery.after_failure(config, [1], done).restart for done in (0, 1, 2)] == [True, True, False]
    listed = recovery.after_failure(config, [0, 33], 2)
    assert (listed.restart, listed.counts) == (True, False)
    assert not recovery.after_failure({}, [1], 0).restart


def waiting(*users):
    return [Waiting(f"j{at}", user, "w") for at, user in enumerate(users)]


def test_in_turn_while_there_is_room():
    assert admitted(waiting("a", "b", "c"), UnderWay(), Bounds(launching=2)) == ["j0", "j1"]
    assert admitted(waiting("a", "b"), UnderWay(2, {"z": 2}, {"w": 2}), Bounds(launching=2)) == []
    assert admitted(waiting("a", "b"), UnderWay(0, {"z": 3}, {"w": 3}), Bounds(alive=4)) == ["j0"]


def test_whoever_has_enough_is_passed_over():
    assert admitted(waiting("a", "a", "a", "b"), UnderWay(), Bounds(alive_per_user=2)) == ["j0", "j1", "j3"]
    assert admitted(waiting("a", "b"), UnderWay(0, {"c": 1}, {"w": 1}), Bounds(alive_per_workspace=2)) == ["j0"]


def test_the_reason_names_the_limit():
    one = Waiting("j", "ada", "lab")
    assert "limit for one user" in why_waiting(one, 3, UnderWay(0, {"ada": 2}, {}), Bounds(alive_per_user=2))
    assert "its limit" in why_waiting(one, 3, UnderWay(0, {"b": 2}, {"lab": 2}), Bounds(alive_per_workspace=2))
    assert "3 wait before it" in why_waiting(one, 3, UnderWay(5, {"b": 5}, {}), Bounds(launching=5))
    assert "under way, which is the limit" in why_waiting(one, 3, UnderWay(0, {"b": 5}, {}), Bounds(alive=5))


def turn(created_at, priority=0):
    return ManagedJob(
        "j", 1, "k", "n", "u", "w", Stage.WAITING, 0, created_at, (ManagedTask(None),), priority=priority
    ).turn


def test_priority_goes_first_and_waiting_overtakes_it():
    assert turn(100.0, priority=5) < turn(0.0)
    assert turn(0.0) < turn(1.0)
    assert turn(0.0, priority=-1000) < turn(2001 * AGING_S, priority=1000)

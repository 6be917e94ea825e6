"""The rule of the scheduler, as properties: nothing is given twice, and the first in the queue is never starved."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sky.agent.schedule import DEVICE_UNIT, Running, Waiting, demand, place, plan, room

TOTAL = [room(2, 2, 4), room(2, 2, 4), room(2, 2, 4)]

demands = st.builds(
    demand,
    st.integers(1, 3),
    st.sampled_from([0, 0.5, 1, 2]),
    st.sampled_from([0, 0.25, 1 / 3, 0.5, 1, 2]),
    st.sampled_from([0, 1, 4]),
)


def start(running, queue):
    """Carry out what the plan says; returns the orders that started."""
    starts = plan(TOTAL, running, queue)
    wanted = {job.order: job.demand for job in queue}
    for order, slots in starts:
        running.append(Running(order, wanted[order], slots))
        queue.remove(Waiting(order, wanted[order]))
    return [order for order, _ in starts]


def check_capacity(running):
    for index, node in enumerate(TOTAL):
        held = [(job.demand, slot) for job in running for slot in job.slots if slot.node == index]
        assert sum(wanted.cpu for wanted, _ in held) <= node.cpu
        assert sum(wanted.memory for wanted, _ in held) <= node.memory
        for device in range(len(node.devices)):
            parts = [min(wanted.device, DEVICE_UNIT) for wanted, slot in held if device in slot.devices]
            assert sum(parts) <= DEVICE_UNIT


@settings(max_examples=150, deadline=None)
@given(st.lists(demands, min_size=1, max_size=12), st.data())
def test_the_blocked_job_starts_when_those_that_ran_before_it_have_ended(jobs, data):
    queue = [Waiting(order, wanted) for order, wanted in enumerate(jobs)]
    running: list[Running] = []
    ran_before: dict[int, set[int]] = {}
    start(running, queue)
    while queue:
        check_capacity(running)
        head = min(queue).order
        ran_before.setdefault(head, {job.order for job in running})
        ended = data.draw(st.sampled_from(sorted(job.order for job in running)))
        running[:] = [job for job in running if job.order != ended]
        started = start(running, queue)
        ran_before[head].discard(ended)
        if not ran_before[head]:
            assert head in started
    assert not queue


@settings(max_examples=100, deadline=None)
@given(st.lists(demands, min_size=1, max_size=10))
def test_in_an_empty_cluster_the_first_always_starts_and_order_is_kept(jobs):
    starts = [order for order, _ in plan(TOTAL, [], [Waiting(order, wanted) for order, wanted in enumerate(jobs)])]
    assert starts[0] == 0
    assert starts == sorted(starts)


def test_a_small_job_fills_the_gap_when_it_costs_the_blocked_job_nothing():
    running = [Running(0, demand(1, 1, 2, 0), place(demand(1, 1, 2, 0), TOTAL[:1]))]
    queue = [Waiting(1, demand(1, 1, 2, 0)), Waiting(2, demand(1, 1, 0, 0))]
    assert [order for order, _ in plan(TOTAL[:1], running, queue)] == [2]


def test_a_small_job_waits_when_it_would_hold_up_the_blocked_job():
    running = [Running(0, demand(1, 1, 0, 0), place(demand(1, 1, 0, 0), TOTAL[:1]))]
    queue = [Waiting(1, demand(1, 2, 0, 0)), Waiting(2, demand(1, 1, 0, 0))]
    assert plan(TOTAL[:1], running, queue) == []


def test_shares_pack_on_one_device_and_leave_the_other_whole():
    queue = [Waiting(order, demand(1, 0.1, 1 / 3, 0)) for order in range(3)] + [Waiting(3, demand(1, 0.1, 1, 0))]
    assert [slots[0].devices for _, slots in plan(TOTAL[:1], [], queue)] == [(0,), (0,), (0,), (1,)]


def test_a_gang_takes_one_slot_on_each_node():
    ((_, slots),) = plan(TOTAL, [], [Waiting(0, demand(3, 2, 0, 0))])
    assert [slot.node for slot in slots] == [0, 1, 2]
    assert plan(TOTAL, [], [Waiting(0, demand(4, 0.5, 0, 0))]) == []

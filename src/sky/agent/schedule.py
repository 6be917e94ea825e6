"""Decides which waiting jobs start now, and on which nodes: a pure function, called by the head after every change.

The rule: jobs start in the order of their submission. The first that does not fit is *the blocked job*. A later job may
overtake it only if the blocked job would still fit an otherwise empty cluster beside all jobs that have overtaken it,
this one included. So when the jobs that were running as it became blocked have ended, what is left cannot hold it up:
it starts.

All amounts are whole numbers (thousandths of a CPU, ten-thousandths of a device, MiB), so shares add up exactly.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

CPU_UNIT = 1000
DEVICE_UNIT = 10000
MEMORY_UNIT = 1024


class Demand(NamedTuple):
    """What a job needs on each of `nodes` nodes. `device` is at most DEVICE_UNIT for a share, else a multiple of it."""

    nodes: int
    cpu: int
    device: int = 0
    memory: int = 0


class Room(NamedTuple):
    """What is free on one node; `devices` lists the free part of each device."""

    cpu: int
    devices: Tuple[int, ...] = ()
    memory: int = 0


class Slot(NamedTuple):
    """A job's place on one node: which node, and how much of which devices (positions in the node's list)."""

    node: int
    devices: Tuple[int, ...] = ()


class Running(NamedTuple):
    """A job that holds its slots; `order` is its place in the queue, smaller is earlier."""

    order: int
    demand: Demand
    slots: Tuple[Slot, ...]


class Waiting(NamedTuple):
    """A job that has not started."""

    order: int
    demand: Demand


def demand(nodes: int, cpus: float, devices: float, memory_gb: float) -> Demand:
    """A demand from the units people use; shares are rounded down so that thirds fit three times."""
    return Demand(nodes, round(cpus * CPU_UNIT), int(devices * DEVICE_UNIT), round(memory_gb * MEMORY_UNIT))


def room(cpus: float, devices: int, memory_gb: float) -> Room:
    """An empty node from the units people use."""
    return Room(round(cpus * CPU_UNIT), (DEVICE_UNIT,) * devices, round(memory_gb * MEMORY_UNIT))


def place(wanted: Demand, free: Sequence[Room]) -> Optional[Tuple[Slot, ...]]:
    """The slots for a job, lowest ranks first, or None when it does not fit now."""
    slots: List[Slot] = []
    for index, node in enumerate(free):
        devices = _fit(wanted, node)
        if devices is not None:
            slots.append(Slot(index, devices))
            if len(slots) == wanted.nodes:
                return tuple(slots)
    return None


def plan(
    total: Sequence[Room], running: Sequence[Running], queue: Sequence[Waiting]
) -> List[Tuple[int, Tuple[Slot, ...]]]:
    """Which of the queue start now: pairs of order and slots, in queue order."""
    free = list(total)
    for held in running:
        _take(free, held.demand, held.slots)
    starts: List[Tuple[int, Tuple[Slot, ...]]] = []
    blocked: Optional[Waiting] = None
    beside: List[Room] = []
    # What did not fit does not fit later in the same plan, where room only shrinks: long queues are mostly alike.
    hopeless: Set[Demand] = set()
    for job in sorted(queue):
        if job.demand in hopeless:
            continue
        slots = place(job.demand, free)
        if blocked is None:
            if slots is None:
                blocked = job
                hopeless.add(job.demand)
                beside = list(total)
                for other in running:
                    if other.order > job.order:
                        _take(beside, other.demand, other.slots)
                continue
        elif slots is None or not _harmless(blocked, beside, job, slots):
            hopeless.add(job.demand)
            continue
        else:
            _take(beside, job.demand, slots)
        _take(free, job.demand, slots)
        starts.append((job.order, slots))
    return starts


def _harmless(blocked: Waiting, beside: List[Room], job: Waiting, slots: Tuple[Slot, ...]) -> bool:
    left = list(beside)
    _take(left, job.demand, slots)
    return place(blocked.demand, left) is not None


def _fit(wanted: Demand, node: Room) -> Optional[Tuple[int, ...]]:
    if wanted.cpu > node.cpu or wanted.memory > node.memory:
        return None
    if wanted.device == 0:
        return ()
    if wanted.device < DEVICE_UNIT:
        # The fullest device that still has room: shares pack together and leave whole devices whole.
        fitting = [(left, index) for index, left in enumerate(node.devices) if left >= wanted.device]
        return (min(fitting)[1],) if fitting else None
    whole = [index for index, left in enumerate(node.devices) if left == DEVICE_UNIT]
    count = wanted.device // DEVICE_UNIT
    return tuple(whole[:count]) if len(whole) >= count else None


def _take(free: List[Room], wanted: Demand, slots: Sequence[Slot]) -> None:
    share = min(wanted.device, DEVICE_UNIT)
    for slot in slots:
        node = free[slot.node]
        devices = list(node.devices)
        for index in slot.devices:
            devices[index] -= share
        free[slot.node] = Room(node.cpu - wanted.cpu, tuple(devices), node.memory - wanted.memory)


def stored(slots: Sequence[Slot]) -> List[Dict[str, object]]:
    """Slots as JSON for the ledger."""
    return [{"node": slot.node, "devices": list(slot.devices)} for slot in slots]

"""Managed jobs that belong together: groups, graphs and sweeps as parents of members; and what a job waits for.

A parent and each of its members are managed jobs (`core.model.managed_jobs`): the parent has the number that people
know, holds no cluster and is led by what its members do; a member is an ordinary job of one task. What is decided is in
`core.policy.job_groups`, the stages are in `core.lifecycle.job_groups`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sky.core.model.statuses import ManagedJobStatus

#: Members that one parent has, at most: all of them are read whenever it is looked at.
MOST_MEMBERS = 1000
#: Seconds for which a member of a group waits for the addresses of the others before it begins without them.
MEET_S = 600.0


class Kind(StrEnum):
    """How the members belong together: all at the same time, in an order, or one for each combination of values."""

    GROUP = "parallel"
    GRAPH = "graph"
    SWEEP = "sweep"


@dataclass(frozen=True, slots=True)
class Awaited:
    """A managed job that another waits for: to succeed, or with `any_end` to end in whatever way.

    `name` is what people call it: `task 'a'`, `managed job 3`.
    """

    id: str
    name: str
    any_end: bool = False


@dataclass(frozen=True, slots=True)
class Addressed:
    """The addresses of a task's nodes in the order of their ranks, as another task reaches them."""

    task: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Membership:
    """What a member knows of where it belongs.

    `number` is the parent's, given by the store; `at` its own position. `gated`: it waits for the parent's word.
    `meets`: it begins when the addresses of the others are known, or at `meet_by` without those that are not.
    `place` is the `cloud/region` where there is room for all, which its first attempt prefers.
    """

    parent_id: str
    at: int
    group: str
    kind: Kind
    number: int = 0
    gated: bool = False
    meets: bool = False
    meet_by: float | None = None
    place: str | None = None
    addresses: tuple[Addressed, ...] = ()


@dataclass(frozen=True, slots=True)
class Attached:
    """The running group that a job was launched into: shown below it and called off with it, else a job of its own."""

    parent_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Member:
    """A member as its parent saw it last. `told` are the addresses that its nodes have been told, as one word."""

    id: str
    done: bool = False
    gated: bool = False
    cluster_name: str | None = None
    schedule: str = "WAITING"
    told: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """What a parent knows of its members, in the order of its tasks.

    `primary` are positions of those that decide the end of a group, `delays` the seconds that each of the others goes
    on after it. `most_at_once` bounds how many members of a sweep have begun and not ended. `status` is what is shown.
    """

    kind: Kind
    members: tuple[Member, ...]
    primary: tuple[int, ...] = ()
    delays: Mapping[str, float] = field(default_factory=dict)
    most_at_once: int | None = None
    connects: bool = False
    status: ManagedJobStatus = ManagedJobStatus.PENDING

    def is_primary(self, at: int) -> bool:
        """Whether the end of this member decides that of all; without a list each does."""
        return not self.primary or at in self.primary

    def delay(self, at: int) -> float:
        """Seconds that a member goes on after those that decide the end."""
        return self.delays.get(str(at), 0.0)


def hosts(group: str, known: Sequence[Addressed]) -> list[tuple[str, tuple[str, ...]]]:
    """Lines of a hosts file: each address with the names by which it is known among the members of a group.

    A node is `task-rank.group`, and the first of each task is `task.group` as well.
    """
    lines = []
    for each in known:
        for rank, address in enumerate(each.addresses):
            first = (f"{each.task}.{group}",) if rank == 0 else ()
            lines.append((address, (f"{each.task}-{rank}.{group}", *first)))
    return lines

"""Faults that a user may cause on clusters of their own machines, to try whether a job recovers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: Places whose machines are the user's own, where a fault costs nobody else anything.
PLACES = ("local", "ssh")
#: Seconds between the notice and the end of a node, and those of a partition, unless somebody says.
NOTICE_SECONDS, PARTITION_SECONDS = 10.0, 30.0
MOST_SECONDS = 3600.0


class FaultKind(StrEnum):
    """What goes wrong. The node is told and ends; `kill -9`; a job lacks memory; nothing reaches the node."""

    PREEMPT = "preempt"
    KILL = "kill"
    PARTITION = "partition"
    OOM = "oom"


@dataclass(frozen=True, slots=True)
class NodeFault:
    """A fault on the node of a rank. `key`: the id of the job that it is about, if it is about one.

    `seconds` are those of the notice before a preemption, or of a partition.
    """

    kind: FaultKind
    rank: int
    key: str | None = None
    seconds: float = 0.0

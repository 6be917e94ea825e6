"""Whether a gang that has lost some of its nodes is repaired, or begun anew as a whole: a plain function.

Asked by the table of managed jobs. To repair keeps what the nodes that are left have already: their files, what setup
has made there, and their place, for which the next attempt would have to be let in again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

#: Repairs in a row after which the job did not come to run, before its place is left.
MOST_IN_A_ROW = 3


@dataclass(frozen=True, slots=True)
class Loss:
    """What is known of a loss. `lost` are the ranks of the nodes that are gone, of `num_nodes`.

    `fixed` is why its place cannot replace single nodes, empty where it can; `repairs` are those that were made in a
    row since the job last ran.
    """

    num_nodes: int
    lost: Sequence[int]
    fixed: str = ""
    repairs: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why not the other (empty where there is nothing to be said)."""

    repair: bool
    why: str = ""


def repair_or_relaunch(loss: Loss) -> Verdict:
    """Repair whatever can be repaired."""
    if loss.num_nodes < 2 or not loss.lost or len(loss.lost) >= loss.num_nodes:
        # Nothing is left to be kept, or nothing is known to be gone.
        return Verdict(False)
    if loss.fixed:
        return Verdict(False, f"all of it is launched anew: {loss.fixed}")
    if loss.repairs >= MOST_IN_A_ROW:
        return Verdict(False, f"all of it is launched anew: it did not come to run after {loss.repairs} repairs")
    return Verdict(True)

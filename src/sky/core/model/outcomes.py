"""What became of asking places for machines: the facts from which chances are learnt.

The engine records them, the store keeps them for a while, and `core.optimizer` weighs them by age.
"""

import enum
from typing import NamedTuple

from sky.core.model.catalog import Market


class OutcomeKind(enum.StrEnum):
    """Whether machines came, were refused for want of capacity or by the account's quota, or were taken back later."""

    GRANTED = "granted"
    REFUSED = "refused"
    QUOTA = "quota"
    LOST = "lost"


class Outcome(NamedTuple):
    """One answer of a place, or one loss; `at` in seconds since the epoch, `nodes` asked for together."""

    at: float
    cloud: str
    region: str
    zone: str | None
    instance_type: str
    market: Market
    kind: OutcomeKind
    nodes: int = 1
    reason: str = ""

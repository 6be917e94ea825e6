"""The deadline policies by name: what `sky simulate --policy` and `job_recovery: {policy: …}` may say."""

from collections.abc import Mapping

from sky.core.policy import deadlines, spot_regions
from sky.core.policy.deadlines import Policy

#: Name, what it does in a line.
POLICIES: Mapping[str, tuple[Policy, str]] = {
    "adaptive": (spot_regions.adaptive, "the default: progress where it costs least by what was seen of each zone"),
    "tiered": (spot_regions.tiered, "uniform progress over tiers of price, with moves that pay back"),
    "uniform-progress": (deadlines.uniform_progress, "on-demand when behind the even pace, with hysteresis"),
    "uniform-progress-away": (deadlines.uniform_progress_away, "the same, the region last used tried last"),
    "greedy": (deadlines.greedy, "spot or nothing until the deadline compels"),
    "on-demand": (deadlines.on_demand, "on-demand from the start"),
}

DEFAULT = "adaptive"

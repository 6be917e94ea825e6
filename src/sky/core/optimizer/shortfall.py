"""Whether a cluster that exists serves a task: more than was asked for is fine there. The engine's launch asks."""

from dataclasses import replace

from sky.core.model.offers import Offer
from sky.core.model.resources import Resources
from sky.core.optimizer.fit import RULES
from sky.core.optimizer.wanted import wish


def shortfall(resources: Resources, lent: Offer) -> str | None:
    """What a machine that is there lacks of what is asked for, in words; None if it will do."""
    asked = wish(resources, 0, 1, (), {})
    # The rules of machines that are shared: at least as much, not exactly as much.
    there = replace(lent, shared=True)
    found = next((wrong for rule in RULES if (wrong := rule(asked, there)) is not None), None)
    return None if found is None else found.words

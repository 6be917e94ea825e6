"""Growing delays between tries, with jitter so that many callers do not return in step."""

import random
from collections.abc import Iterator


def stretched(seconds: float, jitter: float = 0.5) -> float:
    """A wait that somebody asked for, longer by up to `jitter` of itself: many who were told the same come apart."""
    return seconds * (1 + random.uniform(0.0, jitter))  # noqa: S311 - spreading load, not secrecy


def delays(first: float, factor: float = 2.0, ceiling: float = 30.0, jitter: float = 0.1) -> Iterator[float]:
    """Endless delays in seconds: `first`, then times `factor` up to `ceiling`, each off by up to `jitter` of itself."""
    delay = first
    while True:
        yield delay * (1 + random.uniform(-jitter, jitter))  # noqa: S311 - spreading load, not secrecy
        delay = min(delay * factor, ceiling)

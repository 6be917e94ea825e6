"""Waiting for what happens elsewhere. Shared by the tests of this folder."""

import time
from collections.abc import Callable
from typing import Any


def until(what: Callable[[], Any], seconds: float = 60) -> float:
    """Wait until something holds; how long it took.

    Looks often, and less so where a look is dear or the wait is long: most looks start a program, and waiting must not
    take the machine from what is waited for. What was seen counts as of when the look began: one that was
    held up is not the last.
    """
    begun = time.monotonic()
    while True:
        looked = time.monotonic()
        if what():
            return time.monotonic() - begun
        now = time.monotonic()
        assert looked - begun < seconds, "it did not happen in time"
        time.sleep(min(max(4 * (now - looked), (now - begun) / 16, 0.02), 1.5))

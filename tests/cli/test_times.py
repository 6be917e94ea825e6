"""Times as people say them."""

import pytest

from sky.cli import times


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "a few secs ago"),
        (59, "a few secs ago"),
        (60, "1 min ago"),
        (150, "2 mins ago"),
        (3600, "1 hr ago"),
        (2 * 86400 + 5, "2 days ago"),
        (15 * 86400, "2 weeks ago"),
        (400 * 86400, "1 yr ago"),
        (-5, "a few secs ago"),
    ],
)
def test_ago(seconds: float, expected: str) -> None:
    assert times.ago(1_000_000_000, 1_000_000_000 + seconds) == expected


@pytest.mark.parametrize("never", [None, 0, -1])
def test_what_never_was_is_a_dash(never: float | None) -> None:
    assert times.ago(never, 5.0) == "-"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "-"), (0, "0s"), (45, "45s"), (60, "1m"), (200, "3m 20s"), (3600, "1h"), (3605, "1h"), (3780, "1h 3m"),
     (86400 + 7200, "1d 2h"), (90061, "1d 1h")],
)  # fmt: skip
def test_duration(seconds: float | None, expected: str) -> None:
    assert times.duration(seconds) == expected

"""Whether a spot job ends: the table of work, checkpoints and losses, and what is told of it."""

import pytest

from sky.core.policy.survival import survival, warning

H = 3600.0


@pytest.mark.parametrize(
    ("work", "every", "hourly", "nodes", "least", "most"),
    [
        # Nothing is ever lost, or hardly.
        (10 * H, None, 0.0, 1, 10.1, 10.3),
        (10 * H, 600.0, 0.05, 1, 10.2, 10.6),
        # Without checkpoints it is all or nothing: (e^(LC) - 1)/L hours and the restarts.
        (10 * H, None, 0.05, 1, 13.0, 14.0),
        (48 * H, None, 0.05, 1, 200, 240),
        # Each node of a gang is one more that can be lost.
        (10 * H, None, 0.05, 8, 140, 160),
        (10 * H, 600.0, 0.05, 8, 11.0, 12.0),
        (100 * H, None, 1.0, 8, 1e6, 1e30),
    ],
)
def test_how_long_it_takes(work, every, hourly, nodes, least, most):
    assert least < survival(work, every, 720.0, hourly, nodes).expected / H < most


def test_the_chance_of_no_loss():
    assert survival(10 * H, None, 0.0, 0.05).chance == pytest.approx(0.95**10)


@pytest.mark.parametrize(
    ("work", "every", "hourly", "words"),
    [
        (None, None, 0.5, None),
        (10 * H, None, None, None),
        (10 * H, 600.0, 0.2, None),
        (48 * H, None, None, "it saves nothing on the way"),
        (10 * H, None, 0.4, "40% of machines are lost within an hour in aws/r"),
        (200 * H, 40 * H, 0.1, "it saves its work each 40 h"),
    ],
)
def test_what_is_told(work, every, hourly, words):
    found = warning(work, every, 720.0, hourly, "aws/r")
    assert (found is None) if words is None else (words in found and "strategy: deadline" in found)

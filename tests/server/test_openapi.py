"""A little of `benchmarks/hostile_calls.py`: calls made up from the server's own document, at the real control plane.

The same ones in each run. Longer runs, with others, are the script's.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Served

from sky.server.assembly import build
from sky.server.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

pytest.importorskip("schemathesis")

import hostile_calls


@pytest.fixture
def real(state: Path) -> Iterator[Served]:
    """A server without any place: nothing that is made up is ever carried out."""
    settings = Settings(state, config={"allowed_clouds": ["lambda"], "local": {"disabled": True}})
    server = Served(settings, build(settings))  # type: ignore[arg-type]
    yield server.start()
    server.stop()


@pytest.mark.timeout(300)
def test_no_call_fails_the_server_and_each_answer_has_the_shape_that_was_promised(real: Served) -> None:
    hostile = hostile_calls.Hostile(real.settings.socket, tame=True)
    assert len(hostile.operations) > 60
    hostile.bombard(2, 1)
    assert hostile.calls > len(hostile.operations)
    assert hostile.statuses[200] > 20
    assert hostile.failures == {}
    assert real.call("GET", "/readyz")[0] == 200

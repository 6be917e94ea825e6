"""Embedded mode: a server in a thread of this process, for the calls of one block."""

from pathlib import Path

import pytest
from small_plane import build, build_broken

from sky import local
from sky.sdk import clusters, plans, requests, server
from sky.sdk.http1 import Address
from sky.sdk.transport import current_endpoint
from sky.server.lock import AlreadyRunning


def test_calls_of_the_block_go_to_it(state: Path) -> None:
    before = str(current_endpoint())
    folder = state.parent / "mine"
    with local.embedded(folder, build=build) as endpoint:
        assert endpoint == str(Address("unix", path=str(folder / "api.sock")))
        assert [each.name for each in requests.get(clusters.status())] == ["one", "two"]
        assert server.api_info().endpoint == endpoint
        with pytest.raises(AlreadyRunning), local.embedded(folder, build=build):
            pass
    assert str(current_endpoint()) == before
    assert not (folder / "api.sock").exists()
    with local.embedded(folder, build=build):
        assert requests.get(clusters.queue("one"))


def test_what_keeps_it_from_starting_is_raised(state: Path) -> None:
    with pytest.raises(ValueError, match="newer version"), local.embedded(state, build=build_broken):
        pass


def test_the_whole_product_runs_in_one_process(state: Path) -> None:
    with local.embedded(state):
        assert requests.get(clusters.status()) == []
        assert "local" in requests.get(plans.optimize({"run": "true"}))[0].placements[0].infra

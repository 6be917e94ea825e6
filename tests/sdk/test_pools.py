"""Calls about pools: their signatures, and what is refused before anything travels."""

import inspect

import pytest

import sky
from sky.jobs.client import sdk_async
from sky.sdk import pools

SIGNATURES = {
    "pool_apply": "task, pool_name, mode, workers",
    "pool_down": "pool_names, all, purge",
    "pool_status": "pool_names",
    "pool_tail_logs": "pool_name, target, worker_id, follow, output_stream, tail",
    "pool_sync_down_logs": "pool_name, local_dir, targets, worker_ids, tail",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_those_of_the_interface(name):
    found = inspect.signature(getattr(sky.jobs, name)).parameters
    assert ", ".join(each for each in found if not each.startswith("_")) == SIGNATURES[name]
    assert inspect.iscoroutinefunction(getattr(sdk_async, name)) or callable(getattr(sdk_async, name))


def test_a_pool_is_made_from_one_task():
    several = [sky.Task(run="a"), sky.Task(run="b")]
    with pytest.raises(sky.exceptions.InvalidSkyPilotConfigError, match="one task; these are 2"):
        sky.jobs.pool_apply(several, "p")


@pytest.mark.parametrize(
    ("target", "worker", "asked"),
    [
        ("controller", None, "controller"),
        ("CONTROLLER", 3, "worker"),
        ("replica", 3, "worker"),
        ("worker", 1, "worker"),
    ],
)
def test_a_worker_that_is_named_is_meant(target, worker, asked):
    _, body = pools.pool_stream("p", target, worker, follow=False, tail=None)
    assert (body["target"], body["worker_id"], body["tail"]) == (asked, worker, 0)

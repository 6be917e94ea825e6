"""Tasks of Flyte 2."""

import os

import flyte

from flyteplugins.skypilot import SkyPilot

env = flyte.TaskEnvironment(name="second", plugin_config=SkyPilot(cluster_name="second", resources={"infra": "local"}))


@env.task
async def plus(a: int) -> int:
    print("on", os.environ.get("SKYPILOT_TASK_ID"))
    return a + 3


@env.task
async def place() -> str:
    return os.environ.get("SKYPILOT_TASK_ID", "here")


@env.task
async def boom(a: int) -> int:
    if a > 0:
        raise RuntimeError(f"boom {a}")
    return a

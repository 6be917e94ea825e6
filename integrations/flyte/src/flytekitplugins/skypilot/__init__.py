"""Flyte tasks on any infra: `@task(task_config=SkyPilot(...))`.

flytekit loads `connector` by an entry point whenever it is imported itself, also on nodes; so nothing here may need the
`sky` client, which `jobs` loads on first use. Names are loaded on first use, since the modules that know neither
generation of Flyte are those of Flyte 2's plugin, too.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flytekitplugins.skypilot.config import JobLaunchType, SkyPilot
    from flytekitplugins.skypilot.connector import SkyPilotAgent, SkyPilotConnector, SkyPilotMetadata
    from flytekitplugins.skypilot.task import SkyPilotFunctionTask, SkyPilotTask

__all__ = [
    "JobLaunchType",
    "SkyPilot",
    "SkyPilotAgent",
    "SkyPilotConnector",
    "SkyPilotFunctionTask",
    "SkyPilotMetadata",
    "SkyPilotTask",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # With the connector come the task types: a configuration that nobody registered would make plain tasks.
    homes = [import_module(f"{__name__}.{each}") for each in ("connector", "task", "config")]
    globals()[name] = next(getattr(home, name) for home in homes if hasattr(home, name))
    return globals()[name]

"""Flyte tasks on any infra: `@task(task_config=SkyPilot(...))`.

flytekit loads this package by an entry point whenever it is imported itself, also on nodes; so nothing here may need
the `sky` client, which `jobs` loads on first use.
"""

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

"""Flyte 2 tasks on any infra: `TaskEnvironment(plugin_config=SkyPilot(...))`.

Loaded by user code, and by `c0` through an entry point. Locally Flyte 2 loads no connector by itself, so importing this
registers it.
"""

from flytekitplugins.skypilot.config import SkyPilot
from flyteplugins.skypilot.connector import SkyPilotConnector, SkyPilotJobMetadata
from flyteplugins.skypilot.task import SkyPilotFunctionTask

__all__ = ["SkyPilot", "SkyPilotConnector", "SkyPilotFunctionTask", "SkyPilotJobMetadata"]

"""What `TaskEnvironment(plugin_config=SkyPilot(...))` makes of a function. `execute` is called by Flyte 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flyte import storage
from flyte.connectors import AsyncConnectorExecutorMixin
from flyte.extend import AsyncFunctionTaskTemplate, TaskPluginRegistry
from flyte.models import SerializationContext

from flytekitplugins.skypilot.config import SkyPilot

TASK_TYPE = "skypilot"


@dataclass(kw_only=True)
class SkyPilotFunctionTask(AsyncConnectorExecutorMixin, AsyncFunctionTaskTemplate):
    """A function that runs as a job on a cluster, or as a managed job."""

    plugin_config: SkyPilot
    task_type: str = TASK_TYPE

    def custom_config(self, sctx: SerializationContext) -> dict[str, Any]:
        """What the connector is told; values of secrets never are."""
        return self.plugin_config.to_custom(in_process=False)

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function here where data lies on this machine, for no node would see it; else by the connector."""
        from flyte._context import internal_ctx  # noqa: PLC0415 - Flyte's own plugins have no public way either

        told = internal_ctx().data.task_context
        if told is not None and (told.mode == "remote" or not storage.is_remote(told.raw_data_path.path)):
            return await AsyncFunctionTaskTemplate.execute(self, *args, **kwargs)
        return await super().execute(**kwargs)


TaskPluginRegistry.register(SkyPilot, SkyPilotFunctionTask)

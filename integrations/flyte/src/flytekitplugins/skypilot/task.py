"""Tasks that run on any infra: what `@task(task_config=SkyPilot(...))` makes, and a task that is a script.

Made by user code; `execute` is called by flytekit, on the user's machine for local execution (where the connector takes
over) and on the node (where the function itself runs).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flytekit import FlyteContextManager, PythonFunctionTask
from flytekit.configuration import DefaultImages, ImageConfig, SerializationSettings
from flytekit.core.base_task import PythonTask
from flytekit.core.interface import Interface
from flytekit.core.type_engine import TypeEngine
from flytekit.extend import TaskPlugins
from flytekit.extend.backend.base_connector import AsyncConnectorExecutorMixin
from flytekit.models.literals import LiteralMap

from flytekitplugins.skypilot.config import SkyPilot
from flytekitplugins.skypilot.staging import source_of

TASK_TYPE = "skypilot"


class _OnSky(AsyncConnectorExecutorMixin):
    """What both kinds of task do where they are executed locally."""

    #: Whether the template that is being made stays in this process.
    _in_process = False

    def _through_connector(self, **kwargs: Any) -> Any:
        """Run by the connector and return native values, as the function would have.

        flytekit's own mixin returns literals, which a map task cannot take for values.
        """
        self._in_process = True
        try:
            found = super().execute(**kwargs)
        finally:
            self._in_process = False
        outputs: dict[str, type] = self.python_interface.outputs
        if not outputs:
            return None
        if isinstance(found, LiteralMap):
            found = TypeEngine.literal_map_to_kwargs(FlyteContextManager.current_context(), found, outputs)
        values = tuple(found[name] for name in outputs)
        return values[0] if len(values) == 1 else values


class SkyPilotFunctionTask(_OnSky, PythonFunctionTask[SkyPilot]):
    """A function that runs as a job on a cluster, or as a managed job."""

    def __init__(self, task_config: SkyPilot | None, task_function: Callable[..., Any], **kwargs: Any) -> None:
        kwargs.setdefault("task_type", TASK_TYPE)
        super().__init__(task_config=task_config or SkyPilot(), task_function=task_function, **kwargs)

    def execute(self, **kwargs: Any) -> Any:
        """Called by flytekit: hand over to the connector in local execution, else run the function.

        A dynamic task is a plan of other tasks, and is made where it is called.
        """
        state = FlyteContextManager.current_context().execution_state
        local = state is not None and state.is_local_execution()
        if local and self.execution_mode == self.ExecutionBehavior.DEFAULT:
            return self._through_connector(**kwargs)
        return PythonFunctionTask.execute(self, **kwargs)

    def get_image(self, settings: SerializationSettings) -> str:
        """The image of the task; flytekit's default where nobody named one, which stands for none.

        In local execution there are no settings, and flytekit would refuse a task without an image.
        """
        if self.container_image is None and not _names_image(settings.image_config):
            return str(DefaultImages.default_image())
        return str(super().get_image(settings))

    def get_custom(self, settings: SerializationSettings) -> dict[str, Any]:
        """What the connector is told besides the container."""
        told: dict[str, Any] = self.task_config.to_custom(in_process=self._in_process)
        if self._in_process:
            told["source"] = source_of(self.task_function)
        return told


class SkyPilotTask(_OnSky, PythonTask[SkyPilot]):
    """A shell script, or a task file, that runs as a job; its inputs are variables of its environment.

    `SkyPilotTask(name, run="python train.py", inputs={"EPOCHS": int}, task_config=SkyPilot(workdir="."))`, or
    `SkyPilotTask(name, task={…as a task file…})`. There are no outputs.
    """

    def __init__(
        self,
        name: str,
        task_config: SkyPilot | None = None,
        *,
        run: str | None = None,
        task: dict[str, Any] | None = None,
        inputs: dict[str, type] | None = None,
        **kwargs: Any,
    ) -> None:
        if (run is None) == (task is None):
            raise ValueError("SkyPilotTask: give run (a script), or task (what stands in a task file)")
        self._task = {"run": run} if task is None else dict(task)
        if not self._task.get("run"):
            raise ValueError("SkyPilotTask: there is nothing to run: the task has no 'run'")
        if self._task.get("secrets"):
            raise ValueError("SkyPilotTask: a template is kept in clear; give SkyPilot(secrets=[names]) instead")
        super().__init__(
            task_type=TASK_TYPE,
            name=name,
            task_config=task_config or SkyPilot(),
            interface=Interface(inputs=inputs or {}),
            **kwargs,
        )

    def execute(self, **kwargs: Any) -> Any:
        """Called by flytekit in local execution only: elsewhere the connector is asked by the engine."""
        return self._through_connector(**kwargs)

    def get_custom(self, settings: SerializationSettings) -> dict[str, Any]:
        """What the connector is told: there is no container."""
        return {**self.task_config.to_custom(in_process=self._in_process), "task": self._task}


def _names_image(config: ImageConfig | None) -> bool:
    return config is not None and config.default_image is not None


TaskPlugins.register_pythontask_plugin(SkyPilot, SkyPilotFunctionTask)

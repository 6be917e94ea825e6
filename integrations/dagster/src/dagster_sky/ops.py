"""A ready-made op whose configuration says what to run, for jobs that need no Python of their own."""

# Without lazy annotations: Dagster reads them where the op is made.
from typing import Any

from dagster import Config, In, Nothing, OpExecutionContext, op
from pydantic import Field

from dagster_sky.resource import SkyResource


class SkyJobConfig(Config):
    """What to run. `task` holds what a task file holds; `task_file` is the path of one; one of the two is needed."""

    task: dict[str, Any] | None = None
    task_file: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    cluster_name: str | None = Field(default=None, description="Run on this cluster, which stays.")
    managed: bool = Field(default=False, description="As a managed job, which comes back when capacity is lost.")


@op(ins={"start_after": In(Nothing)}, name="sky_job")
def sky_job_op(context: OpExecutionContext, config: SkyJobConfig, sky: SkyResource) -> dict[str, Any]:
    """Run a Sky task to its end. Needs the resource `sky`; gives status, cluster, cost and duration."""
    if (config.task is None) == (config.task_file is None):
        raise ValueError("Give either `task` or `task_file` in the configuration of the op.")
    options: dict[str, Any] = {"managed": True} if config.managed else {}
    if config.cluster_name is not None:
        options["cluster_name"] = config.cluster_name
    result = sky.run(
        context, config.task if config.task is not None else str(config.task_file), env=config.env, **options
    )
    context.add_output_metadata(result.metadata)
    return {name.removeprefix("sky/"): value.value for name, value in result.metadata.items()}

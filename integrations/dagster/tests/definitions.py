"""What the programs of the tests load: a job that succeeds, one that fails, and one that takes long."""

import os

from dagster import (
    AssetExecutionContext,
    Definitions,
    EnvVar,
    OpExecutionContext,
    RetryPolicy,
    asset,
    define_asset_job,
    job,
    op,
)

from dagster_sky import SkyPipesClient, SkyResource, sky_job_op

LOCAL = {"infra": "local"}


@op(retry_policy=RetryPolicy(max_retries=1))
def flaky(context: OpExecutionContext, sky: SkyResource) -> None:
    mark = f"{os.environ['HOME']}/flaky"
    sky.run(context, {"name": "flaky", "resources": LOCAL, "run": f"echo try >> {mark}; [ $(wc -l < {mark}) = 2 ]"})


@op
def slow(context: OpExecutionContext, sky: SkyResource) -> None:
    sky.run(context, {"name": "slow", "resources": LOCAL, "run": "echo it runs now; sleep 300"})


@asset
def slow_asset(context: AssetExecutionContext, pipes: SkyPipesClient) -> object:
    task = {"name": "slowpipe", "resources": LOCAL, "run": "sleep 300"}
    return pipes.run(context=context, task=task, managed=os.environ.get("MANAGED") == "1").get_materialize_result()


@job
def flaky_job() -> None:
    flaky()


@job
def slow_job() -> None:
    slow()


@job
def ready_made() -> None:
    sky_job_op()


defs = Definitions(
    assets=[slow_asset],
    jobs=[flaky_job, slow_job, ready_made, define_asset_job("slow_asset_job", [slow_asset])],
    resources={
        "sky": SkyResource(),
        "pipes": SkyPipesClient(token=None),
        "unused": SkyResource(token=EnvVar("NOT_SET_HERE")),
    },
)

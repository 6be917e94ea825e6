"""The functions of the components. Pipelines carry their text, so each only hands over to `kfp_sky.step`.

Called by nobody here; `components` makes components of them.
"""

from typing import NamedTuple

from kfp import dsl


def sky_task(
    task: dict,  # type: ignore[type-arg]  # kfp knows no other
    log: dsl.Output[dsl.Artifact],
    env: dict = {},  # type: ignore[type-arg]  # noqa: B006 - kfp takes the default for a constant
    cluster_name: str = "",
    managed: bool = False,
    secret_variables: list = [],  # type: ignore[type-arg]  # noqa: B006 - as above
    endpoint: str = "",
) -> NamedTuple(  # type: ignore[valid-type]  # kfp reads the outputs here
    "Outputs",
    [("status", str), ("cluster", str), ("job_id", int), ("infra", str), ("cost_usd", float), ("seconds", float)],
):
    """Run a Sky task to its end, wherever is cheapest, and leave nothing behind.

    Args:
        task: What a task file holds.
        log: The log of the job.
        env: Variables of the task besides its own.
        cluster_name: Run on this cluster, which stays.
        managed: As a managed job, which is recovered when capacity is lost.
        secret_variables: Names of variables of the pod that the task gets as secrets.
        endpoint: The API server; empty, as SKYPILOT_API_SERVER_ENDPOINT or the login says.

    Returns:
        How it ended, where it ran, and what it cost: -1 if nobody knows.
    """
    from kfp_sky.step import run_task  # noqa: PLC0415 - this text runs in a pod

    return run_task(
        task,
        log_path=log.path,
        env=env,
        cluster_name=cluster_name,
        managed=managed,
        secret_variables=secret_variables,
        endpoint=endpoint,
    )


def sky_down(cluster_name: str, endpoint: str = "") -> None:
    """Take a cluster down; one that is not there is down already. For exit handlers.

    Args:
        cluster_name: Which.
        endpoint: The API server; empty, as SKYPILOT_API_SERVER_ENDPOINT or the login says.
    """
    from kfp_sky.step import take_down  # noqa: PLC0415 - this text runs in a pod

    take_down(cluster_name, endpoint=endpoint)

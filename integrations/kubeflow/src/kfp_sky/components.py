"""The components. Their functions are copied into pipelines as text, so each only hands over to `kfp_sky.step`."""

from typing import Any, NamedTuple

from kfp import dsl

#: What a pod installs unless told otherwise.
PACKAGES = ("kfp-sky",)


def _sky_task(
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


def _sky_down(cluster_name: str, endpoint: str = "") -> None:
    """Take a cluster down; one that is not there is down already. For exit handlers.

    Args:
        cluster_name: Which.
        endpoint: The API server; empty, as SKYPILOT_API_SERVER_ENDPOINT or the login says.
    """
    from kfp_sky.step import take_down  # noqa: PLC0415 - this text runs in a pod

    take_down(cluster_name, endpoint=endpoint)


def make_sky_task(**options: Any) -> Any:
    """`sky_task` with another image, other packages or indexes.

    options: those of `dsl.component`, such as `base_image`, `packages_to_install`, `pip_index_urls`. With an image that
    has `kfp-sky` installed, give `packages_to_install=[]`.
    """
    return _component(_sky_task, "sky_task", options)


def make_sky_down(**options: Any) -> Any:
    """`sky_down` with another image, other packages or indexes; see `make_sky_task`."""
    return _component(_sky_down, "sky_down", options)


def _component(function: Any, name: str, options: dict[str, Any]) -> Any:
    function.__name__ = name
    return dsl.component(function, **{"base_image": "python:3.12", "packages_to_install": list(PACKAGES), **options})


sky_task = make_sky_task()
sky_down = make_sky_down()

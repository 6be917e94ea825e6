"""Ready-made flows: a pipeline of three stages, one task on GPUs, several tasks side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, task

from prefect_sky.endpoints import serving
from prefect_sky.sources import is_inline, read_task
from prefect_sky.tasks import (
    RETRIES,
    RETRY_DELAY_S,
    generate_bucket_uuid,
    results_of,
    run_one,
    run_sky_task,
    worth_a_retry,
)

if TYPE_CHECKING:
    import sky

EXAMPLE = "https://github.com/skypilot-org/mock-train-workflow.git"
#: The stages of the pipeline and the files that they are in.
STAGES = (("data-preprocessing", "data_preprocessing.yaml"), ("train", "train.yaml"), ("eval", "eval.yaml"))


@flow(name="sky_train_workflow")
def sky_train_workflow(
    base_path: str = EXAMPLE, data_bucket_store_type: str = "s3", api_server_endpoint: str | None = None
) -> str:
    """Preprocess, train, evaluate, one after another, each on a cluster of its own. Returns the bucket's name.

    The stages find the name in `DATA_BUCKET_NAME` and the kind of store in `DATA_BUCKET_STORE_TYPE`, by which one
    hands its data to the next.
    """
    bucket = f"sky-data-{generate_bucket_uuid()}"
    for prefix, yaml_path in STAGES:
        run_sky_task(
            base_path=base_path,
            yaml_path=yaml_path,
            envs_override={"DATA_BUCKET_NAME": bucket, "DATA_BUCKET_STORE_TYPE": data_bucket_store_type},
            cluster_prefix=prefix,
            api_server_endpoint=api_server_endpoint,
        )
    return bucket


@task(name="run_sky_gpu_task", retries=RETRIES, retry_delay_seconds=RETRY_DELAY_S, retry_condition_fn=worth_a_retry)
def run_sky_gpu_task(
    task_yaml: str,
    num_gpus: int = 1,
    gpu_type: str | None = None,
    envs: dict[str, Any] | None = None,
    api_server_endpoint: str | None = None,
) -> str:
    """The task of `sky_gpu_workflow`."""
    with serving(api_server_endpoint):
        if is_inline(task_yaml):
            wanted = read_task(task_yaml, Path.cwd(), envs=envs)
        else:
            path = Path(task_yaml).expanduser().absolute()
            wanted = read_task(path.read_text(encoding="utf-8"), path.parent, envs=envs, source=str(path))
        set_gpus(wanted, num_gpus, gpu_type)
        return run_one(wanted, None)


def set_gpus(wanted: sky.Task, num_gpus: int, gpu_type: str | None) -> None:
    """Give a task its GPUs: those named, else those of its file, else the cheapest of any type. Zero means none.

    Raises ValueError for a negative number, or where no GPU is for sale in that number.
    """
    if num_gpus < 0:
        raise ValueError(f"num_gpus must be 0 or more; found {num_gpus}.")
    if num_gpus == 0:
        wanted.set_resources_override({"accelerators": None})
    elif gpu_type is not None:
        wanted.set_resources_override({"accelerators": {gpu_type: num_gpus}})
    elif not any(each.accelerators for each in wanted.resources):
        types = _types_for_sale(num_gpus)
        wanted.set_resources({one.copy(accelerators={name: num_gpus}) for one in wanted.resources for name in types})


def _types_for_sale(number: int) -> list[str]:
    import sky  # noqa: PLC0415 - flows are read where `sky` is never called

    enabled = [str(each) for each in sky.get(sky.enabled_clouds())]
    sold = sky.get(sky.list_accelerator_counts(gpus_only=True, clouds=enabled)) if enabled else {}
    found = sorted(name for name, counts in sold.items() if max(counts) >= number)
    if not found:
        raise ValueError(f"No enabled place has GPUs, {number} to a machine. See `sky check`, or name a gpu_type.")
    return found


@flow(name="sky_gpu_workflow")
def sky_gpu_workflow(
    task_yaml: str,
    num_gpus: int = 1,
    gpu_type: str | None = None,
    envs: dict[str, Any] | None = None,
    api_server_endpoint: str | None = None,
) -> str:
    """Run one task on GPUs. Returns the cluster's name.

    task_yaml: the text of a task file, or its path. gpu_type: None takes what the task itself asks for, or, if it asks
    for none, the cheapest GPU there is. num_gpus: on each node; 0 runs it on CPUs.
    """
    return run_sky_gpu_task(task_yaml, num_gpus, gpu_type, envs, api_server_endpoint)


@flow(name="sky_parallel_workflow")
def sky_parallel_workflow(tasks: list[dict[str, Any]], api_server_endpoint: str | None = None) -> list[str]:
    """Run tasks side by side, each on a cluster of its own; each is the arguments of `run_sky_task` as a mapping.

    Returns the clusters' names in the same order. All run to their end; if some fail, one SkyTaskError names them.
    """
    common = {} if api_server_endpoint is None else {"api_server_endpoint": api_server_endpoint}
    return results_of([run_sky_task.submit(**{**common, **each}) for each in tasks])

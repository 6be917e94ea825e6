"""The module that published examples import. `python -m sky_train_flow [BASE_PATH]` runs the training pipeline."""

import sys

from prefect_sky.flows import sky_gpu_workflow, sky_parallel_workflow, sky_train_workflow
from prefect_sky.runs import SkyTaskError
from prefect_sky.tasks import generate_bucket_uuid, get_secret, run_sky_task

__all__ = [
    "SkyTaskError",
    "generate_bucket_uuid",
    "get_secret",
    "run_sky_task",
    "sky_gpu_workflow",
    "sky_parallel_workflow",
    "sky_train_workflow",
]

if __name__ == "__main__":
    sky_train_workflow(*sys.argv[1:2])

"""Pipelines, run by kfp's local runner: `python pipelines.py KIND FOLDER ARGUMENTS` prints the outputs as JSON."""

import json
import sys

from kfp import dsl, local

from kfp_sky import make_sky_down, make_sky_task

# As in an image that has the package: nothing is installed at each step.
sky_task = make_sky_task(packages_to_install=[])
sky_down = make_sky_down(packages_to_install=[])
LOCAL = {"infra": "local"}


@dsl.component(packages_to_install=[])
def double(seconds: float, status: str) -> str:
    """Takes over what a task gave."""
    return f"{status} {seconds > 0}"


@dsl.pipeline
def one(task: dict, env: dict = {}, managed: bool = False, secret_variables: list = []) -> str:
    ran = sky_task(task=task, env=env, managed=managed, secret_variables=secret_variables)
    return double(seconds=ran.outputs["seconds"], status=ran.outputs["status"]).output


@dsl.pipeline
def again(task: dict) -> str:
    ran = sky_task(task=task).set_retry(num_retries=1, backoff_duration="1s")
    return double(seconds=ran.outputs["seconds"], status=ran.outputs["status"]).output


@dsl.pipeline
def shared(task: dict, cluster: str):
    with dsl.ExitHandler(sky_down(cluster_name=cluster)):
        first = sky_task(task=task, cluster_name=cluster)
        sky_task(task=task, cluster_name=cluster).after(first)


PIPELINES = {"one": one, "again": again, "shared": shared}

if __name__ == "__main__":
    kind, folder, told = sys.argv[1:]
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=f"{folder}/outputs", raise_on_error=True)
    ran = PIPELINES[kind](**json.loads(told))
    print("OUTPUTS", json.dumps(dict(ran.outputs)))

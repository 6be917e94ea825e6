"""A program for `test_cancellation`: runs one slow Sky task. `interrupted_flow.py FOLDER direct|submit|serve|keep`."""

import sys

from prefect import flow

from sky_train_flow import run_sky_task

FOLDER, HOW = sys.argv[1:3]


@flow(name=f"interrupted-{HOW}")
def interrupted() -> None:
    arguments = {"base_path": FOLDER, "yaml_path": "slow.yaml", "cluster_prefix": HOW}
    if HOW == "submit":
        run_sky_task.submit(**arguments).result()
    elif HOW == "keep":
        run_sky_task(**arguments, down_on_completion=False)
    else:
        run_sky_task(**arguments)


if __name__ == "__main__":
    if HOW == "serve":
        interrupted.serve(name="served", limit=1)
    else:
        interrupted()

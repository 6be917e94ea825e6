"""The train pipeline: preprocess, train, evaluate, each on a cluster of its own that is gone when it ends.

`airflow dags test sky_train` runs it without any other process of Airflow.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pendulum
from airflow.sdk import dag, task

from airflow_sky.operators import SkyLaunchOperator


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1),
    # Clusters of `infra: local` see the files of this machine; elsewhere this is a bucket that the tasks mount.
    params={"data": str(Path.home() / "sky-train-data"), "epochs": 3},
    default_args={"retries": 1, "retry_delay": timedelta(seconds=5)},
)
def sky_train() -> None:
    envs = {"DATA": "{{ params.data }}/{{ run_id }}"}
    preprocess = SkyLaunchOperator(task_id="preprocess", sky_task="preprocess.yaml", envs=envs)
    train = SkyLaunchOperator(
        task_id="train",
        sky_task="train.yaml",
        envs={**envs, "EPOCHS": "{{ params.epochs }}"},
        # No worker is held while it trains.
        deferrable=True,
    )
    evaluate = SkyLaunchOperator(task_id="evaluate", sky_task="evaluate.yaml", envs=envs)

    @task
    def report(outcome: dict) -> None:
        print(f"trained on {outcome['infra']} for {outcome['cost']} USD")

    preprocess >> train >> evaluate
    report(train.output)


sky_train()

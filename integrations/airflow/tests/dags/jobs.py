"""DAGs of one task, whose script, retries and so on the tests choose; `_now` holds a worker, `_deferred` does not."""

from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from airflow_sky import (
    SkyClusterSensor,
    SkyDownOperator,
    SkyExecOperator,
    SkyJobSensor,
    SkyLaunchOperator,
    SkyManagedJobOperator,
)

PARAMS = {"run": "echo hello $WHO", "setup": "", "marks": "", "cpus": "1+", "conn": "sky_default"}
START = pendulum.datetime(2026, 1, 1)


def described(run="{{ params.run }}"):
    return {
        "name": "job",
        "resources": {"infra": "local", "cpus": "{{ params.cpus }}"},
        "setup": "{{ params.setup }}",
        "envs": {"WHO": "nobody", "MARKS": ""},
        "run": f'if [ -n "$MARKS" ]; then echo x >> "$MARKS"; fi\n{run}\n',
    }


def dag(name):
    return DAG(name, schedule=None, start_date=START, params=PARAMS, max_active_runs=4)


for mode, deferrable in (("now", False), ("deferred", True)):
    common = {
        "sky_task": described(),
        "envs": {"WHO": "world", "MARKS": "{{ params.marks }}"},
        "secrets": {"KEY": "{{ var.value.job_key }}"},
        "deferrable": deferrable,
        "sky_conn_id": "{{ params.conn }}",
    }
    again = {"retries": 1, "retry_delay": timedelta(seconds=1)}
    with dag(f"job_{mode}"):
        SkyLaunchOperator(task_id="job", **common)
    with dag(f"again_{mode}"):
        SkyLaunchOperator(task_id="job", **common, **again)
    with dag(f"limited_{mode}"):
        SkyLaunchOperator(task_id="job", execution_timeout=timedelta(seconds=8), **common)
    with dag(f"managed_{mode}"):
        SkyManagedJobOperator(task_id="job", name="steady", **common, **again)
    with dag(f"shared_{mode}"):
        first = SkyLaunchOperator(task_id="first", keep=True, **common)
        name = "{{ ti.xcom_pull(task_ids='first', key='cluster_name') }}"
        there = SkyClusterSensor(task_id="there", cluster_name=name, poke_interval=1)
        job = SkyExecOperator(task_id="job", cluster_name=name, **common, **again)
        seen = SkyJobSensor(
            task_id="seen",
            cluster_name=name,
            job_id="{{ ti.xcom_pull(task_ids='job')['job_id'] }}",
            deferrable=deferrable,
            poke_interval=1,
        )
        down = SkyDownOperator(task_id="down", cluster_name=name)
        first >> there >> job >> seen >> down
        job >> down

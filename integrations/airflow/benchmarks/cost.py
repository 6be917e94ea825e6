"""What this provider costs beyond Airflow and the SDK, in milliseconds; run by `benchmarks/integrations.py airflow`.

Import: after what a DAG file, a triggerer, a worker need of Airflow, and a DAG with a task. Submitting: what the
operator does from `execute` until `sky.launch` is called, and from its answer until the task waits; its thread and the
reading of the task included. Airflow's own answers (connections, XCom) are given by this process.
"""

import contextlib
import time
from types import SimpleNamespace
from typing import Any

from costs import import_ms, launches_noted, median, plain_launch, report

BEFORE = """
from airflow.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator, Connection, PokeReturnValue, dag
from airflow.sdk.configuration import conf
import airflow.triggers.base, airflow.sdk.log, airflow.sdk.exceptions, asyncio, threading
class One(BaseOperator): ...
with DAG("one"):
    One(task_id="one")
"""
MODULES = ("airflow_sky", "airflow_sky.operators", "airflow_sky.sensors", "airflow_sky.triggers", "airflow_sky.hooks")


class Deferred(Exception):
    """The operator has come so far that it would wait."""


def executed(number: int) -> tuple[float, float]:
    """Moments at which `execute` began, and was to wait."""
    from airflow_sky import SkyLaunchOperator

    task = "resources: {infra: local}\nrun: 'true'\n"
    operator = SkyLaunchOperator(task_id="t", sky_task=task, envs={"A": 1}, deferrable=True)
    ti = SimpleNamespace(
        dag_id="d", run_id=f"r{number}", task_id="t", map_index=-1, try_number=1, xcom_push=lambda key, value: None
    )

    def stop(**_named: object) -> None:
        raise Deferred

    operator.defer = stop
    # Airflow's guard against calls from other tasks stands before it.
    execute = getattr(SkyLaunchOperator.execute, "__wrapped__", SkyLaunchOperator.execute)
    began = time.perf_counter()
    with contextlib.suppress(Deferred):
        execute(operator, {"ti": ti, "dag_run": SimpleNamespace(start_date=number)})
    return began, time.perf_counter()


def measure(runs: int) -> dict[str, Any]:
    imports = {module: import_ms(BEFORE, f"import {module}", runs) for module in MODULES}

    import sky

    real, took, calls, call = sky.launch, [], [], plain_launch()

    def answered(task: Any, name: str, **_options: Any) -> Any:
        return real(task, name, dryrun=True)

    with launches_noted(answered) as marks:
        for number in range(runs + 1):
            began, ended = executed(number)
            called, answer = marks[-2:]
            took.append(1e3 * (called - began + ended - answer))
            calls.append(call())
    return {
        "import_ms": imports,
        "submit_ms": {"SkyLaunchOperator": median(took[1:])},
        "sdk_ms": median(calls[1:]),
    }


if __name__ == "__main__":
    report("apache-airflow", measure)

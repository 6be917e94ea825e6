"""What this provider costs beyond Airflow and the SDK: `python benchmarks/cost.py [RUNS]`. Figures in milliseconds.

Import: each module in a fresh interpreter that has imported of Airflow what a DAG file, a triggerer, a worker need, and
has defined a DAG with a task, as every DAG file does. Time of the processor.
Submitting: what the operator does until `sky.launch` is called, in `execute`, its thread and the reading of the task
included; the SDK is imported before, and Airflow's own answers (connections, XCom) are given by this process.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

BEFORE = """
from airflow.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator, Connection, PokeReturnValue, dag
from airflow.sdk.configuration import conf
import airflow.triggers.base, airflow.sdk.log, airflow.sdk.exceptions, asyncio, threading
class One(BaseOperator): ...
with DAG("one"):
    One(task_id="one")
"""
MODULES = ("airflow_sky", "airflow_sky.operators", "airflow_sky.sensors", "airflow_sky.triggers", "airflow_sky.hooks")


def imported(module: str) -> float:
    """Milliseconds of the processor that one import takes."""
    code = f"{BEFORE}\nimport time; t = time.process_time()\nimport {module}\nprint((time.process_time() - t) * 1e3)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return float(told.splitlines()[-1])


class Deferred(Exception):
    """The operator has come so far that it would wait."""


def submitting(runs: int) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds from `execute` until the SDK is called, from its answer until the task waits, of the call itself."""
    import sky

    from airflow_sky import SkyLaunchOperator

    marks: list[float] = []
    real = sky.launch

    def noted(task: object, name: str, **_options: object) -> object:
        marks.append(time.perf_counter())
        found = real(task, name, dryrun=True)
        marks.append(time.perf_counter())
        return found

    def one(number: int) -> tuple[float, float, float]:
        operator = SkyLaunchOperator(
            task_id="t", sky_task="resources: {infra: local}\nrun: 'true'\n", envs={"A": 1}, deferrable=True
        )
        ti = SimpleNamespace(
            dag_id="d", run_id=f"r{number}", task_id="t", map_index=-1, try_number=1, xcom_push=lambda key, value: None
        )
        context = {"ti": ti, "dag_run": SimpleNamespace(start_date=number)}

        def stop(**_named: object) -> None:
            raise Deferred

        operator.defer = stop
        began = time.perf_counter()
        with contextlib.suppress(Deferred):
            SkyLaunchOperator.execute.__wrapped__(operator, context) if hasattr(
                SkyLaunchOperator.execute, "__wrapped__"
            ) else operator.execute(context)
        ended = time.perf_counter()
        called, answered = marks[-2:]
        return 1e3 * (called - began), 1e3 * (ended - answered), 1e3 * (answered - called)

    sky.launch = noted
    try:
        one(0)
        found = [one(each + 1) for each in range(runs)]
    finally:
        sky.launch = real
        sky.api_stop()
    before, after, call = zip(*found, strict=True)
    return list(before), list(after), list(call)


def main(runs: int) -> None:
    """Print medians."""
    for module in MODULES:
        imported(module)
        found = [imported(module) for _ in range(runs)]
        print(f"import {module}: {statistics.median(found):.0f} ms above Airflow (best {min(found):.0f}; bar 50)")
    before, after, call = submitting(runs)
    added = statistics.median(x + y for x, y in zip(before, after, strict=True))
    print(f"until sky.launch: {statistics.median(before):.0f} ms; from its answer: {statistics.median(after):.0f} ms")
    print(f"submitting adds {added:.0f} ms to the SDK call (bar 50), which takes {statistics.median(call):.0f} ms")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="afxb-") as home:
        os.environ |= {"HOME": home, "AIRFLOW_HOME": f"{home}/airflow", "DO_NOT_TRACK": "1"}
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)

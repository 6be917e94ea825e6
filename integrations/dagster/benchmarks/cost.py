"""What this integration costs beyond Dagster and the SDK: `python benchmarks/cost.py [RUNS]`. Figures in milliseconds.

Import: in a fresh interpreter that has imported of Dagster what definitions with Pipes need. Time of the processor.
Submitting: what `SkyResource.run` and `SkyPipesClient.run` do in an op until `sky.launch` is called.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

BEFORE = """
from dagster import Config, ConfigurableResource, Definitions, In, Nothing, PipesClient, asset, job, op
class Plain(ConfigurableResource):
    where: str = ""
@op
def one(plain: Plain): ...
@job
def two(): one()
Definitions(jobs=[two], resources={"plain": Plain()})
"""


def imported() -> float:
    """Milliseconds of the processor that the import takes."""
    code = f"{BEFORE}\nimport time; t = time.process_time()\nimport dagster_sky\nprint((time.process_time() - t) * 1e3)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def submitting(runs: int) -> dict[str, list[float]]:
    """Milliseconds from the beginning of an op's body to the SDK's launch, and of that call itself."""
    import sky
    from dagster import OpExecutionContext, job, op

    from dagster_sky import SkyPipesClient, SkyResource

    reached: list[float] = []
    real = sky.launch
    task = {"resources": {"infra": "local"}, "run": "true"}
    found: dict[str, list[float]] = {"SkyResource.run": [], "SkyPipesClient.run": [], "sky.launch": []}

    class Stopped(Exception):
        pass

    def noted(*_: Any, **__: Any) -> Any:
        reached.append(time.perf_counter())
        raise Stopped

    @op
    def measured(context: OpExecutionContext, sky: SkyResource, pipes: SkyPipesClient) -> None:
        for name, call in (
            ("SkyResource.run", lambda: sky.run(context, task)),
            ("SkyPipesClient.run", lambda: pipes.run(context=context, task=task)),
        ):
            began = time.perf_counter()
            try:
                call()
            except Stopped:
                found[name].append(1e3 * (reached[-1] - began))

    @job(resource_defs={"sky": SkyResource(), "pipes": SkyPipesClient()})
    def all_of_it() -> None:
        measured()

    plain = sky.Task(run="true").set_resources(sky.Resources(infra="local"))
    sky.get(real(plain, cluster_name="bench", dryrun=True))
    from sky.sdk import clusters

    clusters.launch = noted  # type: ignore[assignment]
    for _ in range(runs + 1):
        all_of_it.execute_in_process()
        call = time.perf_counter()
        real(plain, cluster_name="bench", dryrun=True)
        found["sky.launch"].append(1e3 * (time.perf_counter() - call))
    sky.api_stop()
    # The first loads what the others find loaded.
    return {name: each[1:] for name, each in found.items()}


def main(runs: int) -> None:
    """Print medians."""
    imported()
    took = [imported() for _ in range(runs)]
    print(f"import dagster_sky: {statistics.median(took):.0f} ms above Dagster (best {min(took):.0f}; bar 50)")
    for name, each in submitting(runs).items():
        bar = "" if name == "sky.launch" else " until sky.launch (bar 50)"
        print(f"{name}: {statistics.median(each):.1f} ms{bar}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="dgb-") as home:
        os.environ |= {"HOME": home, "DAGSTER_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)

"""What this integration costs beyond Dagster and the SDK, in milliseconds; run by `benchmarks/integrations.py dagster`.

Import: after what definitions with Pipes need of Dagster. Submitting: from the begin of an op's body to `sky.launch`.
"""

import contextlib
import time
from typing import Any

from costs import Reached, import_ms, launches_noted, median, plain_launch, report

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


def measure(runs: int) -> dict[str, Any]:
    from dagster import OpExecutionContext, job, op

    from dagster_sky import SkyPipesClient, SkyResource

    task = {"resources": {"infra": "local"}, "run": "true"}
    took: dict[str, list[float]] = {"SkyResource.run": [], "SkyPipesClient.run": []}
    call, calls = plain_launch(), []

    @op
    def measured(context: OpExecutionContext, sky: SkyResource, pipes: SkyPipesClient) -> None:
        ways = (lambda: sky.run(context, task)), (lambda: pipes.run(context=context, task=task))
        for name, way in zip(took, ways, strict=True):
            began = time.perf_counter()
            with contextlib.suppress(Reached):
                way()
            took[name].append(1e3 * (marks[-1] - began))

    @job(resource_defs={"sky": SkyResource(), "pipes": SkyPipesClient()})
    def all_of_it() -> None:
        measured()

    with launches_noted() as marks:
        # The first loads what the others find loaded.
        for _ in range(runs + 1):
            all_of_it.execute_in_process()
            calls.append(call())
    return {
        "import_ms": {"dagster_sky": import_ms(BEFORE, "import dagster_sky", runs)},
        "submit_ms": {name: median(each[1:]) for name, each in took.items()},
        "sdk_ms": median(calls[1:]),
    }


if __name__ == "__main__":
    report("dagster", measure, DAGSTER_DISABLE_TELEMETRY="1")

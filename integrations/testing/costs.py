"""How what integrations cost is measured: imports in fresh interpreters, and the way to the SDK's `launch`.

Used by each integration's `benchmarks/cost.py`, which `benchmarks/integrations.py` runs in its environment.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any


class Reached(Exception):
    """The SDK's `launch` was called."""


def median(milliseconds: list[float]) -> float:
    return round(statistics.median(milliseconds), 1)


def spent(code: str, runs: int, **env: str) -> list[float]:
    """Milliseconds of the processor that each run of a program prints last; one run before them fills caches."""
    told = []
    for _ in range(runs + 1):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **env}
        )
        told.append(float(done.stdout.splitlines()[-1]))
    return told[1:]


def import_ms(before: str, statement: str, runs: int) -> float:
    """What an import takes of the processor after `before`: what programs for the orchestrator have loaded anyway."""
    code = (
        f"{before}\nimport time; began = time.process_time()\n{statement}\nprint((time.process_time() - began) * 1e3)"
    )
    return median(spent(code, runs))


@contextmanager
def launches_noted(answer: Callable[..., Any] | None = None) -> Iterator[list[float]]:
    """Moments at which the SDK's `launch` is called, and those at which `answer` has given its answer.

    Without `answer` the call raises Reached.
    """
    import sky
    from sky.sdk import clusters

    marks: list[float] = []
    real = clusters.launch

    def noted(*words: Any, **named: Any) -> Any:
        marks.append(time.perf_counter())
        if answer is None:
            raise Reached
        found = answer(*words, **named)
        marks.append(time.perf_counter())
        return found

    clusters.launch = sky.launch = noted  # type: ignore[assignment]
    try:
        yield marks
    finally:
        clusters.launch = sky.launch = real  # type: ignore[assignment]


def plain_launch() -> Callable[[], float]:
    """A function that has the SDK launch a command without an integration, and tells milliseconds. The server is up."""
    import sky

    task = sky.Task(run="true").set_resources(sky.Resources(infra="local"))
    launch = sky.launch

    def call() -> float:
        began = time.perf_counter()
        launch(task, cluster_name="bench", dryrun=True)
        return 1e3 * (time.perf_counter() - began)

    sky.get(launch(task, cluster_name="bench", dryrun=True))
    return call


def report(orchestrator: str, measure: Callable[[int], dict[str, Any]], **settings: str) -> None:
    """Measure in a home of its own, as often as the command line says, and print one line of JSON."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    # Short, since sockets lie in it.
    with tempfile.TemporaryDirectory(prefix="skb-") as home:
        tempfile.tempdir = f"{home}/t"
        Path(tempfile.tempdir).mkdir()
        os.environ |= {"HOME": home, "TMPDIR": tempfile.tempdir, "DO_NOT_TRACK": "1", **settings}
        try:
            found = measure(runs)
        finally:
            import sky

            sky.api_stop()
    named = f"{orchestrator} {version(orchestrator)}" if orchestrator else ""
    print(json.dumps({"orchestrator": named, **found}))

"""Tasks for machines with a file system of their own."""

import os
from pathlib import Path

from flytekit import task
from flytekit.types.file import FlyteFile

from flytekitplugins.skypilot import SkyPilot

FAR = SkyPilot(cluster_name="far", resources={"infra": "ssh/rack", "cpus": "0.5"})


@task(task_config=FAR)
def plus(a: int) -> int:
    return a + 3


@task(task_config=FAR)
def where(file: FlyteFile) -> tuple[str, str]:
    return os.uname().nodename, Path(file.download()).read_text()


@task(task_config=FAR)
def written(text: str) -> FlyteFile:
    path = Path("out.txt")
    path.write_text(text)
    return FlyteFile(str(path))


@task(task_config=FAR)
def boom(a: int) -> int:
    if a > 0:
        raise RuntimeError(f"boom {a}")
    return a

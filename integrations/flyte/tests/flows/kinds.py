"""Tasks of all kinds, on one shared cluster: run by the tests through the real server."""

import os
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pandas as pd
from flytekit import Resources, Secret, current_context, dynamic, map_task, task, workflow
from flytekit.types.directory import FlyteDirectory
from flytekit.types.file import FlyteFile

from flytekitplugins.skypilot import SkyPilot, SkyPilotTask
from words import GREETING

SHARED = SkyPilot(cluster_name="kinds", resources={"infra": "local"})


@dataclass
class Point:
    x: int
    name: str


@task(task_config=SHARED)
def sum_of(numbers: list[int], point: Point) -> int:
    return sum(numbers) + point.x


@task(task_config=SHARED)
def moved(point: Point) -> Point:
    return Point(point.x + 1, point.name + "!")


@task(task_config=SHARED)
def two(a: int) -> tuple[int, str]:
    return a * 2, GREETING


@task(task_config=SHARED)
def nothing(a: int) -> None:
    print("nothing comes of", a)


@task(task_config=SHARED)
def written(text: str) -> FlyteFile:
    path = Path("out.txt")
    path.write_text(text)
    return FlyteFile(str(path))


@task(task_config=SHARED)
def shouted(file: FlyteFile) -> str:
    return Path(file.download()).read_text().upper()


@task(task_config=SHARED)
def folder(names: list[str]) -> FlyteDirectory:
    made = Path("made")
    made.mkdir()
    for name in names:
        (made / name).write_text(name)
    return FlyteDirectory(str(made))


@task(task_config=SHARED)
def table(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"n": range(rows)})


@task(task_config=SHARED)
def total(frame: pd.DataFrame) -> int:
    return int(frame["n"].sum())


@workflow
def files(text: str) -> str:
    return shouted(file=written(text=text))


@workflow
def frames(rows: int) -> int:
    return total(frame=table(rows=rows))


@task(task_config=SHARED)
def square(n: int) -> int:
    return n * n


@dynamic
def squares(upto: int) -> list[int]:
    return [square(n=n) for n in range(upto)]


@workflow
def mapped(numbers: list[int]) -> list[int]:
    return map_task(square)(n=numbers)


@task(
    task_config=SkyPilot(
        cluster_name="kinds",
        resources={"infra": "local"},
        envs={"FROM_CONFIG": "c", "BOTH": "config"},
        secrets={"HIDDEN": "s3cret-of-the-test"},
        setup="echo from-setup > $HOME/setup-was-here",
    ),
    environment={"FROM_TASK": "t", "BOTH": "task"},
    requests=Resources(cpu="1", mem="200Mi"),
    secret_requests=[Secret(group="vault", key="token")],
)
def surroundings() -> dict[str, str]:
    found = {name: os.environ.get(name, "") for name in ("FROM_CONFIG", "FROM_TASK", "BOTH", "HIDDEN")}
    found["vault"] = current_context().secrets.get("vault", "token")
    found["setup"] = Path.home().joinpath("setup-was-here").read_text().strip()
    return found


@task(task_config=SkyPilot(resources={"infra": "local"}, num_nodes=2))
def rank() -> str:
    return f"{os.environ['SKYPILOT_NODE_RANK']} of {os.environ['SKYPILOT_NUM_NODES']}"


@task(task_config=SHARED)
def fails(a: int) -> int:
    if a > 0:
        raise RuntimeError(f"boom {a}")
    return a


@task(task_config=SHARED)
def exits() -> int:
    print("about to leave", flush=True)
    os._exit(7)
    return 1


@task(task_config=SHARED, timeout=timedelta(seconds=4))
def slow() -> int:
    time.sleep(600)
    return 1


@task(task_config=SkyPilot(cluster_name="kinds", resources={"infra": "local"}, setup="echo no compiler; exit 3"))
def bad_setup() -> int:
    return 1


@task(task_config=SkyPilot(cluster_name="huge", resources={"infra": "local", "cpus": "4000+"}))
def too_large() -> int:
    return 1


@task(task_config=SkyPilot(cluster_name="odd", resources={"infra": "local", "accelerators": "Q9000:1"}))
def odd_accelerator() -> int:
    return 1


@task(task_config=SkyPilot(cluster_name="odd", resources={"infra": "local"}), requests=Resources(gpu="1"))
def nameless_gpu() -> int:
    return 1


@task(task_config=SkyPilot(resources={"infra": "local"}))
def alone(a: int) -> int:
    return a + 1


@task(task_config=SkyPilot(resources={"infra": "local"}))
def alone_fails() -> int:
    if os.environ:
        raise ValueError("alone and wrong")
    return 1


@task(task_config=SkyPilot(resources={"infra": "local"}, managed=False))
def own_cluster(a: int) -> int:
    return a + 2


@task(task_config=SkyPilot(cluster_name="brief", resources={"infra": "local"}, idle_minutes_to_autostop=0))
def brief(mark: str) -> int:
    Path(mark).write_text(str(os.getpid()))
    time.sleep(5)
    return 5


@task(task_config=SHARED)
def waits(mark: str) -> int:
    Path(mark).write_text(str(os.getpid()))
    time.sleep(600)
    return 1


@task(task_config=SkyPilot(resources={"infra": "local"}))
def waits_alone(mark: str) -> int:
    Path(mark).write_text(str(os.getpid()))
    time.sleep(600)
    return 1


@task(task_config=SkyPilot(resources={"infra": "local"}))
def survives(mark: str) -> str:
    """The first try waits to be hit; the one after it ends."""
    path = Path(mark)
    if path.exists():
        return "recovered"
    path.write_text(str(os.getpid()))
    time.sleep(600)
    return "was never hit"


script = SkyPilotTask(
    name="script",
    run='echo "$WORD $COUNT" > "$PLACE"',
    inputs={"WORD": str, "COUNT": int, "PLACE": str},
    task_config=SHARED,
)

script_fails = SkyPilotTask(name="script_fails", run="echo what went wrong; exit 9", task_config=SHARED)

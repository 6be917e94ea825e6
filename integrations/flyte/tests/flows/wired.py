"""Tasks that reach the server through the connector's gRPC service."""

import os
import time

from flytekit import task
from flytekit.exceptions.user import FlyteRecoverableException

from flytekitplugins.skypilot import SkyPilot

WIRE = SkyPilot(cluster_name="wire", resources={"infra": "local"})


@task(task_config=WIRE)
def plus(a: int) -> int:
    return a + 3


@task(task_config=WIRE)
def nap(seconds: int) -> int:
    time.sleep(seconds)
    return seconds


@task(task_config=SkyPilot(resources={"infra": "local"}))
def nap_alone(seconds: int) -> int:
    time.sleep(seconds)
    return seconds


@task(task_config=WIRE)
def who() -> str:
    names = ("EXECUTION_PROJECT", "EXECUTION_DOMAIN", "EXECUTION_ID")
    told = [os.environ[f"FLYTE_INTERNAL_{name}"] for name in names]
    return "/".join([*told, os.environ["FLYTE_ATTEMPT_NUMBER"], os.environ["FROM_ENGINE"]])


@task(task_config=SkyPilot(cluster_name="wire", resources={"infra": "local"}, setup="sleep 60"))
def slowly_set_up() -> int:
    return 1


@task(task_config=WIRE)
def boom(a: int) -> int:
    if a > 0:
        raise RuntimeError(f"boom {a}")
    return a


@task(task_config=WIRE)
def try_again() -> int:
    if os.environ:
        raise FlyteRecoverableException("not this time")
    return 1


@task(task_config=SkyPilot(cluster_name="wire", resources={"infra": "local"}, file_mounts={"~/stolen": "/etc/passwd"}))
def mounts_a_path() -> int:
    return 1

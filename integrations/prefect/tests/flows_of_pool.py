"""Flows that tests deploy to a pool of type `sky`."""

import os
import time
from pathlib import Path

from prefect import flow, get_run_logger


@flow(name="pooled")
def pooled(marks: str, n: int = 1, seconds: float = 0.0, fail: bool = False) -> int:
    get_run_logger().info("n is %s", n)
    with Path(marks).open("a") as out:
        out.write(f"{n} {os.environ.get('SKYPILOT_TASK_ID', 'not on a node')} {os.environ.get('GREETING', '')}\n")
    time.sleep(seconds)
    if fail:
        raise ValueError("as asked")
    return n

"""A household of its own for all tests: fresh home, an instance of Dagster, and a Sky server on this machine."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Read by Dagster and the SDK when they are first imported. Short, since sockets lie in it.
HOME = Path(tempfile.mkdtemp(prefix="dgx-"))
for name in [each for each in os.environ if each.startswith(("DAGSTER_", "SKYPILOT_"))]:
    del os.environ[name]
(HOME / "dagster").mkdir()
(HOME / "dagster" / "dagster.yaml").write_text(
    "telemetry: {enabled: false}\n"
    "run_coordinator: {module: dagster.core.run_coordinator, class: QueuedRunCoordinator, "
    "config: {dequeue_interval_seconds: 1}}\n"
)
os.environ |= {
    "HOME": str(HOME),
    "DAGSTER_HOME": str(HOME / "dagster"),
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}

# A run that was put into the background ignores Ctrl-C, and every program that it starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def until(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What a question gives as soon as that is true; fails if it never is."""
    give_up = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < give_up, f"nothing came of it in {seconds:.0f} s"
        time.sleep(0.1)


class House:
    """What tests look at: the clusters of the Sky server, and programs that are to be interrupted."""

    home = HOME

    def clusters(self) -> list[str]:
        """Names of all clusters that there are, in whatever state; those of managed jobs, which are hidden, too."""
        import sky

        # A managed job is DONE when nothing is left of its machines.
        managed = [each for each in sky.get(sky.jobs.queue()) if each.schedule_state != "DONE"]
        return [each.name for each in sky.get(sky.status(all_users=True))] + [
            f"of job {each.job_id}" for each in managed
        ]

    def running(self, prefix: str) -> str | None:
        """The cluster of this prefix on which a job runs now."""
        import sky

        for each in sky.get(sky.status()):
            if each.name.startswith(prefix) and each.status.value == "UP":
                jobs = sky.get(sky.queue(each.name))
                if any(job.status.value == "RUNNING" for job in jobs):
                    return str(each.name)
        return None

    def program(self, *words: object, **env: str) -> subprocess.Popen[str]:
        """A program of this environment, in a process group of its own."""
        return subprocess.Popen(
            [str(each) for each in words],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end(self, program: subprocess.Popen[str], seconds: float = 90.0) -> str:
        """What the program has said, once it has ended."""
        try:
            return program.communicate(timeout=seconds)[0]
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
                program.communicate()


@pytest.fixture(scope="session")
def house_open() -> Iterator[House]:
    import sky

    house = House()
    yield house
    left = house.clusters()
    if left:
        # A test has failed: nothing of it may go on after the run.
        sky.get(sky.jobs.cancel(all=True))
        for each in sky.get(sky.status(all_users=True)):
            sky.get(sky.down(each.name))
    sky.api_stop()
    shutil.rmtree(HOME, ignore_errors=True)
    assert left == []


@pytest.fixture
def house(house_open: House) -> Iterator[House]:
    """The household; no test leaves a cluster."""
    yield house_open
    assert house_open.clusters() == []

"""NeMo-Run as its users run it: an experiment on a cluster, and one as a managed job; run by `../clients.sh`.

NeMo-Run mounts its code at `/nemo_run`, which on `infra: local` is a folder of this very machine: it must not be there
before, and is taken away afterwards.
"""

import os
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import nemo_run as run
from nemo_run.core.execution.skypilot import SkypilotExecutor
from nemo_run.core.execution.skypilot_jobs import SkypilotJobsExecutor
from torchx.specs import AppState

import sky

MOUNT = Path("/nemo_run")


def repository() -> Path:
    """A git repository with one program: NeMo-Run packs what is committed."""
    root = Path.cwd() / "project"
    root.mkdir()
    (root / "train.py").write_text("import os, sys\nprint('trained', os.environ['WHO'])\nsys.exit(int(sys.argv[1]))\n")
    git = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    return root


def done(experiment: run.Experiment, app: str, seconds: float = 120) -> AppState:
    """The state in which NeMo-Run sees its job end."""
    runner = experiment._runner
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        status = runner.status(app)
        if status is not None and status.is_terminal():
            return status.state
        time.sleep(0.3)
    raise TimeoutError(app)


def through(name: str, executor: object, code: int, wanted: AppState) -> str:
    """Run one experiment to its end, detached as its users do, and read its log; the app's handle."""
    with run.Experiment(name) as experiment:
        script = run.Script(path="train.py", args=[str(code)], entrypoint="python3", env={"WHO": name})
        experiment.add(script, executor=executor, name=name, tail_logs=False)
        experiment.run(detach=True)
        (job,) = experiment.jobs
        state = done(experiment, job.handle)
        assert state is wanted, (state, wanted)
    experiment.logs(name)
    return str(job.handle)


def main() -> None:
    """Everything, and nothing left afterwards."""
    if MOUNT.exists():
        sys.exit(f"{MOUNT} is there already; NeMo-Run would write into it")
    print("nemo_run", version("nemo_run"), "skypilot", version("skypilot"), "sky", sky.__version__)
    os.chdir(repository())
    try:
        good = SkypilotExecutor(infra="local", cpus=1, cluster_name="nemo", idle_minutes_to_autostop=30)
        through("good", good, 0, AppState.SUCCEEDED)
        through("bad", good.clone(), 3, AppState.FAILED)
        jobs = sky.get(sky.queue("nemo"))
        assert [job.status for job in jobs] == [sky.JobStatus.FAILED, sky.JobStatus.SUCCEEDED], jobs
        through("managed", SkypilotJobsExecutor(infra="local", cpus=1), 0, AppState.SUCCEEDED)
        sky.get(sky.down("nemo"))
        assert [each.name for each in sky.get(sky.status())] == []
    finally:
        shutil.rmtree(MOUNT, ignore_errors=True)
    print("main path: fine")


main()

"""Oumi's launcher, from a job's configuration to its end; run by `../clients.sh` beside AWS on the wire.

Oumi names clouds only, so the machines are those of AWS: test hosts here.
"""

import sys
import time
from importlib.metadata import version

from oumi.core.configs import JobConfig
from oumi.core.configs.job_config import JobResources
from oumi.core.launcher import JobState
from oumi.launcher.clouds.sky_cloud import SkyCloud
from oumi.mcp import preflight_service

import sky

NAME = "oumi-cluster"


def job(run: str) -> JobConfig:
    """What its users write as YAML."""
    resources = JobResources(cloud="aws", region="us-east-1", instance_type="m5.xlarge", disk_size=20)
    return JobConfig(name="trained", resources=resources, setup="echo prepared", run=run, envs={"WHO": "oumi"})


def ended(cluster: object, id: str, seconds: float = 120) -> object:
    """The job as Oumi sees it when it is done."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        status = cluster.get_job(id)
        if status is not None and status.done:
            return status
        time.sleep(0.3)
    raise TimeoutError(id)


def main() -> None:
    """Launch, a second and a bad job, logs, cancel, stop and down."""
    print("oumi", version("oumi"), "skypilot", version("skypilot"), "sky", sky.__version__)
    errors, warnings, ready = preflight_service.check_cloud_readiness("aws")
    print("preflight:", errors, warnings, ready)
    assert errors == [] and ready["target_cloud_ready"]

    cloud = SkyCloud("aws")
    first = cloud.up_cluster(job("echo hello $WHO"), NAME)
    cluster = cloud.get_cluster(NAME)
    assert cluster is not None and [each.name() for each in cloud.list_clusters()] == [NAME]
    good = ended(cluster, first.id)
    assert good.state is JobState.SUCCEEDED, good
    assert abs(good.cost_per_hour - 0.192) < 0.1, good
    (record,) = sky.get(sky.status(NAME))
    assert record.autostop == 60, "it asks whether the cloud can stop machines, and has them stop after an hour"

    bad = ended(cluster, cluster.run_job(job("exit 3")).id)
    assert bad.state is JobState.FAILED, bad
    stream = cluster.get_logs_stream(NAME, first.id)
    lines = []
    while line := stream.readline():
        lines.append(line)
    assert any("hello oumi" in line for line in lines), lines
    running = cluster.run_job(job("sleep 600"))
    assert running.state in (JobState.PENDING, JobState.RUNNING), running
    cluster.cancel_job(running.id)
    assert ended(cluster, running.id).state is JobState.CANCELLED

    cluster.down()
    until = time.monotonic() + 60
    while cloud.get_cluster(NAME) is not None:
        assert time.monotonic() < until
        time.sleep(0.3)
    print("main path: fine")


if __name__ == "__main__":
    sys.exit(main())

"""A datastore in a bucket: the node gets code and artifacts from there, as one without our file system does."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from household import until


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, str]]:
    """An S3-compatible store on this machine; the settings that lead Metaflow there."""
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def answers() -> bool:
        with socket.socket() as knock:
            return knock.connect_ex(("127.0.0.1", port)) == 0

    until(answers, 60)
    settings = {
        "METAFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "METAFLOW_DATASTORE_SYSROOT_S3": "s3://flows/metaflow",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client(
        "s3", endpoint_url=settings["METAFLOW_S3_ENDPOINT_URL"], aws_access_key_id="tests",
        aws_secret_access_key="secret-of-tests", region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket="flows")
    yield settings
    program.kill()
    program.wait()


def test_code_and_artifacts_travel_by_the_bucket(house: Any, bucket: dict[str, str]) -> None:
    program = house.start(
        "Far", "--datastore=s3", "--metadata=local", "run", **bucket, PYTHON_OF_TESTS=sys.executable,
    )  # fmt: skip
    said = house.end(program)
    assert program.returncode == 0, said
    assert "made in" in said
    assert "secret-of-tests" not in said
    run = house.latest("Far")
    assert run["start"].task.metadata_dict["sky-cluster"].startswith("start-")
    assert run["start"].task.metadata_dict["attempt_ok"] == "True"


def test_a_far_step_that_fails(house: Any, bucket: dict[str, str]) -> None:
    program = house.start(
        "Far", "--datastore=s3", "--metadata=local", "run", **bucket, PYTHON_OF_TESTS=sys.executable, FAR_FAILS="1"
    )
    said = house.end(program)
    assert program.returncode != 0
    assert "the disk is full" in said
    assert os.environ.get("AWS_ACCESS_KEY_ID") is None

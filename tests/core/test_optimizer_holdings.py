"""Which data a task brings along: sizes from the task, places from the address or from what the user says."""

import pytest

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.gravity import Holding
from sky.core.optimizer.holdings import holdings

TASK = TaskSpec.from_config(
    {
        "inputs": {"s3://in/part": 10, "r2://elsewhere": 5},
        "outputs": {"gs://out": 3},
        "file_mounts": {
            "/data": {"source": "s3://mounted"},
            "/other": {"source": "s3://not-sized"},
            "/b": "gs://plain",
        },
        "resources": {"image_id": "docker:me/big"},
    }
)


def test_the_address_tells_the_cloud_and_the_task_the_size():
    assert holdings(TASK, {}) == (
        Holding("aws", None, 10.0, "s3://in/part"),
        Holding("gcp", None, 3.0, "gs://out", outgoing=True),
    )


def test_the_user_tells_regions_and_sizes_of_buckets_folders_and_images():
    known = {
        "s3://in": {"region": "us-east-1", "size": "9TB"},
        "s3://mounted": {"region": "eu-west-1", "size": "1.2TB"},
        "gs://plain": {"size": 40},
        "docker:me/big": {"infra": "aws/us-west-2", "size": "25GB"},
    }
    assert holdings(TASK, known) == (
        Holding("aws", "us-east-1", 10.0, "s3://in/part"),
        Holding("gcp", None, 3.0, "gs://out", outgoing=True),
        Holding("gcp", None, 40.0, "gs://plain"),
        Holding("aws", "eu-west-1", 1200.0, "s3://mounted"),
        Holding("aws", "us-west-2", 25.0, "docker:me/big"),
    )


def test_the_longest_address_counts_and_a_name_that_only_begins_alike_does_not():
    known = {"s3://in": {"region": "a"}, "s3://in/part": {"region": "b"}, "s3://i": {"region": "c"}}
    assert holdings(TASK, known)[0] == Holding("aws", "b", 10.0, "s3://in/part")


@pytest.mark.parametrize(
    ("said", "words"),
    [("big", "found 'big'"), ({"size": "much"}, "found 'much'"), ({"infra": "nowhere/x"}, "found the cloud 'nowhere'")],
)
def test_what_makes_no_sense_is_refused_with_its_place(said, words):
    with pytest.raises(InvalidSkyPilotConfigError, match=words) as refused:
        holdings(TASK, {"s3://in": said})
    assert "data.buckets.s3://in" in str(refused.value)

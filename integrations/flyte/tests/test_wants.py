"""What a task asks for, in our words."""

from collections import OrderedDict
from typing import Any

import pytest
import sky
from flytekit import Resources, task
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.extras.accelerators import A100, T4, GPUAccelerator
from flytekit.models.task import TaskTemplate
from flytekit.tools.translator import get_serializable

import wired
from flytekitplugins.skypilot import SkyPilot, wants
from flytekitplugins.skypilot.config import refuse_local_paths
from flytekitplugins.skypilot.phases import ABORTED, FAILED, OVER, QUEUED, RETRYABLE, RUNNING, of_job, of_managed


def template(made: Any, image: str | None = None) -> TaskTemplate:
    config = ImageConfig(default_image=Image("default", *image.rsplit(":", 1)) if image else None)
    return get_serializable(OrderedDict(), SerializationSettings(config), made).template


def asked(config: SkyPilot | None = None, **words: Any) -> dict[str, Any]:
    @task(task_config=config or SkyPilot(), **words)
    def test_of() -> int:
        return 1

    return wants.resources(config or SkyPilot(), template(test_of))


def test_sizes_become_ours() -> None:
    assert asked(requests=Resources(cpu="2", mem="4Gi", ephemeral_storage="100Gi")) == {
        "cpus": "2+",
        "memory": "4.29+",
        "disk_size": 107,
    }
    assert asked(requests=Resources(cpu="500m")) == {"cpus": "0.5+"}
    assert asked(limits=Resources(mem="1G")) == {"memory": "1+"}


@pytest.mark.parametrize(
    ("accelerator", "ours"),
    [(A100, "A100"), (T4, "T4"), (GPUAccelerator("nvidia-h100"), "H100"), (GPUAccelerator("nvidia-b300"), "B300")],
)
def test_devices_become_ours(accelerator: Any, ours: str) -> None:
    assert asked(accelerator=accelerator) == {"accelerators": {ours: 1}}
    assert asked(accelerator=accelerator, requests=Resources(gpu="4")) == {"accelerators": {ours: 4}}
    sky.Resources(accelerators={ours: 4})


def test_a_gpu_without_a_name_is_refused_unless_the_configuration_has_one() -> None:
    with pytest.raises(ValueError, match="gpu=2 does not say which"):
        asked(requests=Resources(gpu="2"))
    own = SkyPilot(resources={"accelerators": "L4:2"})
    assert asked(own, requests=Resources(gpu="2")) == {"accelerators": "L4:2"}


def test_spot_is_what_is_interruptible() -> None:
    assert asked(interruptible=True) == {"use_spot": True}
    assert asked(SkyPilot(use_spot=False), interruptible=True) == {}
    assert asked(SkyPilot(use_spot=True)) == {"use_spot": True}


def test_the_configuration_wins() -> None:
    assert asked(SkyPilot(resources={"cpus": 8}), requests=Resources(cpu="2")) == {"cpus": 8}


def test_only_an_image_that_somebody_chose_is_one() -> None:
    flytekits = "cr.flyte.org/flyteorg/flytekit:py3.12-1.15.0"
    assert wants.image_of(SkyPilot(), template(wired.plus)) is None
    assert wants.image_of(SkyPilot(), template(wired.plus, flytekits)) is None
    assert wants.image_of(SkyPilot(), template(wired.plus, "me/mine:3")) == "me/mine:3"
    assert wants.image_of(SkyPilot(image="other:1"), template(wired.plus, "me/mine:3")) == "other:1"
    assert asked(container_image="me/mine:3") == {"image_id": "docker:me/mine:3"}


@pytest.mark.parametrize(("text", "number"), [("2", 2), ("500m", 0.5), ("4Gi", 2**32), ("1e3", 1000), ("1.5G", 1.5e9)])
def test_quantities(text: str, number: float) -> None:
    assert wants.quantity(text) == number


@pytest.mark.parametrize("text", ["", "x", "4 GiB", "1Zi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        wants.quantity(text)


def test_every_status_has_its_phase() -> None:
    assert of_job("FAILED_DRIVER") == RETRYABLE
    assert of_job(sky.JobStatus.CANCELLED) == ABORTED
    assert of_managed(sky.ManagedJobStatus.FAILED_NO_RESOURCE) == FAILED
    assert of_managed("PENDING") == QUEUED
    for job in sky.JobStatus:
        assert job.is_terminal() == (of_job(job) in OVER)
    for managed in sky.ManagedJobStatus:
        assert managed.is_terminal() == (of_managed(managed) in OVER)
        assert managed.is_failed() == (of_managed(managed) == FAILED)
    assert of_job("SOMETHING_NEW") == RUNNING
    assert of_managed("FAILED_IN_A_NEW_WAY") == FAILED


@pytest.mark.parametrize(
    ("config", "custom", "at"),
    [
        (SkyPilot(file_mounts={"~/a": "/etc/passwd"}), {}, "~/a"),
        (SkyPilot(file_mounts={"~/a": "file:///etc/passwd"}), {}, "~/a"),
        (SkyPilot(workdir="."), {}, "workdir of the task"),
        (SkyPilot(), {"task": {"file_mounts": {"/b": {"source": ["s3://x", "~/.aws"]}}}}, "/b"),
        (SkyPilot(), {"task": {"workdir": "/"}}, "workdir"),
        (SkyPilot(), {"source": {"root": "/", "file": "/etc/passwd"}}, "'source' belongs to local execution"),
    ],
)
def test_paths_of_another_machine_are_refused(config: SkyPilot, custom: dict[str, Any], at: str) -> None:
    with pytest.raises(ValueError) as raised:
        refuse_local_paths(config, custom)
    assert at in str(raised.value)


def test_what_the_connector_need_not_see_is_let_through() -> None:
    config = SkyPilot(file_mounts={"~/a": "s3://b/a"}, workdir={"url": "https://example.org/r.git", "ref": "main"})
    refuse_local_paths(config, {"task": {"file_mounts": {"/b": {"name": "bucket", "mode": "MOUNT"}}}})

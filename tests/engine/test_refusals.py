"""What cannot be done yet is said before anything runs; what merely has no effect is named."""

import pytest

from sky.core.errors import NotSupportedError
from sky.core.model.offers import Offer
from sky.core.model.tasks import TaskSpec
from sky.engine.refusals import refuse_unsupported, without_effect


def offer(*, shared):
    return Offer("somewhere", "r", None, "t", 4, 16, 0.0, shared=shared)


def task(**config):
    return TaskSpec.from_config({"run": "true", **config})


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"managed_secrets": ["global.TOKEN"]}, "managed_secrets"),
        ({"secrets": ["secrets:TOKEN"]}, "secrets by reference"),
        ({"event_callback": "echo hi"}, "event_callback"),
        ({"file_mounts": {"/data": "s3://bucket"}}, "s3://bucket"),
        ({"file_mounts": {"/data": {"name": "bucket", "store": "s3"}}}, "object stores"),
        ({"volumes": {"/data": "disk"}}, "volumes"),
        ({"service": {"readiness_probe": "/", "replicas": 1}, "resources": {"ports": 80}}, "service"),
    ],
)
def test_features_of_later_are_refused_by_name(config, named):
    with pytest.raises(NotSupportedError, match="not supported yet on") as refused:
        refuse_unsupported(task(**config))
    assert named in str(refused.value)


def test_a_pool_is_not_launched():
    with pytest.raises(NotSupportedError, match="sky jobs pool apply"):
        refuse_unsupported(task(pool={"workers": 1}))


def test_the_infra_is_named():
    with pytest.raises(NotSupportedError, match=r"on local$"):
        refuse_unsupported(task(resources={"infra": "local"}, volumes={"/data": "disk"}))


def test_what_works_is_not_refused():
    refuse_unsupported(task(workdir=".", setup="true", num_nodes=2, resources={"ports": 80, "autostop": 5}))
    refuse_unsupported(task(file_mounts={"/data/x": "https://example.com/x"}, resources={"image_id": "docker:ubuntu"}))


def test_what_has_no_effect_is_named_by_place():
    asks = task(resources={"disk_size": 512, "priority": 3}, inputs={"s3://b": 1})
    assert without_effect(asks, offer(shared=True)) == ["resources.disk_size", "resources.priority"]
    assert without_effect(asks, offer(shared=False)) == ["resources.priority"]
    assert without_effect(task(), offer(shared=True)) == []
    settings = {"provision": {"install_conda": True, "hedge": 2}, "nvidia_gpus": {"disable_ecc": True}, "aws": {}}
    said = ["provision.install_conda", "nvidia_gpus.disable_ecc"]
    assert without_effect(task(), offer(shared=True), settings) == said
    assert without_effect(task(), offer(shared=True), {"provision": {"install_conda": False}}) == []

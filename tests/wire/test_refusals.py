"""Arguments that cannot be obeyed are refused before anything is on record; none is ignored in silence."""

import json
from dataclasses import replace

import pytest

from sky.core.errors import ClientError, InvalidClusterNameError, InvalidSkyPilotConfigError, NotSupportedError
from sky.core.model.offers import Offer
from sky.wire.clusters import AutostopBody, LaunchBody, StartBody, StatusBody
from sky.wire.codec import decode
from sky.wire.infra import AcceleratorsBody, CheckBody, accelerator_offers
from sky.wire.plans import DagBody

H100 = Offer("aws", "us-east-1", None, "p5", 192, 2048, 98.0, {"H100": 8})


def body(kind, **fields):
    return decode(kind, json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("kind", "fields", "error", "says"),
    [
        (LaunchBody, {"task": {"rum": "x"}}, InvalidSkyPilotConfigError, "did you mean 'run'"),
        (LaunchBody, {"task": {"num_nodes": 0}}, InvalidSkyPilotConfigError, "num_nodes"),
        (LaunchBody, {"task": {}, "cluster_name": "No_!"}, InvalidClusterNameError, "No_!"),
        (LaunchBody, {"task": {}, "wait_for": "bogus"}, ClientError, "jobs_and_ssh, jobs, none"),
        (LaunchBody, {"task": {}, "optimize_target": "BEAUTY"}, ClientError, "COST, TIME, EXPECTED"),
        (StartBody, {"cluster_name": "a", "wait_for": ""}, ClientError, "wait_for"),
        (AutostopBody, {"cluster_name": "a", "idle_minutes": 5, "hook": "x"}, NotSupportedError, "hook"),
        (StatusBody, {"refresh": "SOON"}, ClientError, "NONE, AUTO, FORCE"),
        (DagBody, {"tasks": [], "minimize": "BEAUTY"}, ClientError, "COST, TIME, EXPECTED"),
    ],
)
def test_refused(kind, fields, error, says) -> None:
    with pytest.raises(error, match=says) as caught:
        body(kind, **fields)
    assert type(caught.value) is error


def test_what_can_be_obeyed_passes() -> None:
    assert body(LaunchBody, task={"run": "x"}, cluster_name="a", wait_for="jobs").wait_for == "jobs"
    assert body(StatusBody, refresh="auto").refresh == "auto"
    assert body(CheckBody, workspace="team").workspace == "team"


def test_gpus_only_leaves_out_what_is_no_gpu() -> None:
    offers = [H100, replace(H100, accelerators={"tpu-v5e-8": 1}), replace(H100, accelerators={"Trainium": 16})]
    assert list(accelerator_offers(offers, AcceleratorsBody())) == ["H100"]
    assert len(accelerator_offers(offers, AcceleratorsBody(gpus_only=False))) == 3


def test_each_instance_type_is_told_from_its_cheapest_region_unless_all_are_asked_for() -> None:
    offers = [H100, replace(H100, region="eu-west-1", price_hourly=97.0), replace(H100, instance_type="p5e")]

    def told(**asked: bool) -> list[tuple[str, str]]:
        return [
            (row.instance_type, row.region) for row in accelerator_offers(offers, AcceleratorsBody(**asked))["H100"]
        ]

    assert told() == [("p5", "eu-west-1"), ("p5e", "us-east-1")]
    assert told(all_regions=True) == [("p5", "eu-west-1"), ("p5", "us-east-1"), ("p5e", "us-east-1")]

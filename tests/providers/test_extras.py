"""What disks and addresses cost: the prices that are known, for the disks that are made, and nothing guessed."""

import pytest

from sky.core.model.machines import MachineSpec
from sky.core.model.offers import Offer

pytest.importorskip("botocore")
pytest.importorskip("google.auth")

from sky.providers.aws.extras import extras as of_aws
from sky.providers.gcp.extras import extras as of_gcp

AWS = Offer("aws", "us-east-1", None, "m5.large", 2, 8, 0.096)
GCP = Offer("gcp", "us-central1", None, "n2-standard-4", 4, 16, 0.19)


def test_a_disk_of_amazon_that_comes_as_it_is():
    told = of_aws(AWS, MachineSpec(disk_size_gb=100))
    assert told.disk_hourly == pytest.approx(100 * 0.08 / 730)
    assert told.address_hourly == 0.005
    assert of_aws(AWS, MachineSpec(disk_size_gb=1)).disk_hourly == pytest.approx(8 * 0.08 / 730), "the least there is"


@pytest.mark.parametrize(
    ("region", "tier"), [("us-east-1", "medium"), ("us-east-1", "ultra"), ("us-east-1", "best"), ("eu-west-1", None)]
)
def test_what_is_not_known_of_amazon_has_no_price(region, tier):
    offer = Offer("aws", region, None, "m5.large", 2, 8, 0.096)
    assert of_aws(offer, MachineSpec(disk_tier=tier)).disk_hourly is None
    assert of_aws(offer, MachineSpec(disk_tier=tier)).address_hourly == 0.005


def test_addresses_in_china_are_not_known():
    assert of_aws(Offer("aws", "cn-north-1", None, "m5.large", 2, 8, 0.1), MachineSpec()).address_hourly is None


@pytest.mark.parametrize(("tier", "rate"), [("low", 0.04), (None, 0.10), ("medium", 0.10), ("high", 0.17)])
def test_disks_of_google_by_their_tiers(tier, rate):
    told = of_gcp(GCP, MachineSpec(disk_size_gb=200, disk_tier=tier))
    assert told.disk_hourly == pytest.approx(200 * rate / 730)
    assert told.address_hourly is None


@pytest.mark.parametrize(
    ("region", "type", "tier"),
    [
        ("europe-west1", "n2-standard-4", None),
        ("us-central1", "n2-standard-4", "ultra"),
        ("us-central1", "e2-standard-4", "ultra"),
        ("us-central1", "c4-standard-4", None),
        ("us-central1", "tpu-v5e-8", None),
    ],
)
def test_what_is_not_known_of_google_has_no_price(region, type, tier):
    offer = Offer("gcp", region, None, type, 4, 16, 0.19)
    assert of_gcp(offer, MachineSpec(disk_tier=tier)) == (None, None)

"""The kit that every provider is held to, on both clouds' wires with real hosts behind them."""

import asyncio
import os
from pathlib import Path

import pytest

from sky.core.model.offers import Offer, Placement
from sky.core.ports import CreateAsk
from sky.providers.aws.compute import open_aws
from sky.providers.gcp.compute import open_gcp
from sky.providers.registry import Settings
from sky.remote.keys import KeyRing
from sky.sim.compute_contract import ComputeContract, Place

TAG = f"k{os.getpid()}"


def asks(offer):
    def ask(cluster_id, nodes):
        return CreateAsk(
            f"{cluster_id}:1", cluster_id, "contract", Placement(offer, nodes, offer.cpus, offer.memory_gb)
        )

    return ask


async def opened(factory, settings, offer, wire):
    compute = factory(settings)

    async def shut_down(machine):
        # To the wire a machine that is taken away and one that ends inside are the same.
        await asyncio.to_thread(wire.do, "preempt", machine.machine)

    yield Place(compute, asks(offer), tag=TAG, shut_down=shut_down)
    for each in {each.cluster_id for each in await compute.list()}:
        await compute.terminate(each)
    await compute.close()


def settings_of(folder: Path, config, environment) -> Settings:
    keys = KeyRing(folder / "keys")
    return Settings(folder, lambda: config, keys.installation, keys, environment, folder)


class TestAws(ComputeContract):
    """Amazon Web Services."""

    @pytest.fixture
    async def place(self, aws_wire, tmp_path):
        settings = settings_of(tmp_path, {}, {**aws_wire.environment, "PATH": os.environ["PATH"]})
        offer = Offer("aws", "us-east-1", "us-east-1a", "m5.xlarge", 4, 16, 0.19)
        async for place in opened(open_aws, settings, offer, aws_wire):
            yield place


class TestGcp(ComputeContract):
    """Google Cloud."""

    @pytest.fixture
    async def place(self, gcp_wire, tmp_path):
        settings = settings_of(tmp_path, {"project_id": "contract", "endpoint": gcp_wire.url}, {})
        offer = Offer("gcp", "us-central1", None, "e2-standard-4", 4, 16, 0.13)
        async for place in opened(open_gcp, settings, offer, gcp_wire):
            yield place

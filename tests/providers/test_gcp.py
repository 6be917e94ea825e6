"""Google Cloud on the wire, whose machines are real hosts: the whole life of clusters of one and of four nodes."""

import pytest
from gcp_bed import Bed

from sky.core.model.clusters import InstanceState


@pytest.fixture
def bed(gcp_wire, tmp_path):
    made = Bed(gcp_wire, tmp_path)
    gcp_wire.heal()
    yield made
    gcp_wire.heal()


async def test_a_machine_lives_its_whole_life(bed):
    compute = bed.compute
    (node,) = await compute.create(bed.ask("life-1"))
    assert node.id == "life-1-0" and node.state is InstanceState.RUNNING and node.rank == 0
    assert node.reach["kind"] == "ssh" and node.reach["power"] == "machine" and "notice" not in node.reach
    assert (await bed.reached(node, "sudo id -un; hostname")).split() == ["root", node.machine]
    assert [each.id for each in await compute.list("life-1", regions=["us-central1"])] == ["life-1-0"]
    assert await compute.list("life-1", regions=["us-east1"]) == []

    await bed.reached(node, "echo kept > note")
    (stopped,) = await compute.stop("life-1")
    assert stopped.state is InstanceState.STOPPED and stopped.machine == node.machine
    (started,) = await compute.start("life-1")
    assert started.state is InstanceState.RUNNING
    assert await bed.reached(started, "cat note") == "kept\n"

    await compute.terminate("life-1")
    await compute.terminate("life-1")
    assert await compute.list("life-1") == [] and bed.left() == []

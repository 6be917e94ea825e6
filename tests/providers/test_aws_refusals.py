"""What goes wrong at Amazon's: each refusal is the right typed failure, and leaves nothing; looked at from its side."""

import asyncio
import threading
from collections.abc import Mapping

import pytest
from aws_world import HOME, NO_MACHINES, Stage, World, ask, error_xml, machines_xml, offer, stage, staged, world

from sky.core.errors import (
    CapacityRefused,
    CredentialsRejected,
    ProviderDown,
    ProviderFailure,
    QuotaReached,
    RequestInvalid,
    Throttled,
)
from sky.core.model.clusters import InstanceState

__all__ = ["stage", "staged", "world"]

RUN, SPOT = "RunInstances", {"InstanceMarketOptions.MarketType": "spot"}

#: The call that fails, its code, and what becomes of it.
REFUSALS: list[tuple[str, str, type[ProviderFailure], str]] = [
    (RUN, "InsufficientInstanceCapacity", CapacityRefused, "zone"),
    (RUN, "InsufficientHostCapacity", CapacityRefused, "zone"),
    (RUN, "InsufficientReservedInstanceCapacity", CapacityRefused, "zone"),
    (RUN, "InsufficientFreeAddressesInSubnet", CapacityRefused, "zone"),
    (RUN, "ReservationCapacityExceeded", CapacityRefused, "zone"),
    (RUN, "Unsupported", CapacityRefused, "zone"),
    (RUN, "SpotMaxPriceTooLow", CapacityRefused, "capacity_type"),
    (RUN, "VcpuLimitExceeded", QuotaReached, "capacity_type"),
    (RUN, "InstanceLimitExceeded", QuotaReached, "capacity_type"),
    (RUN, "VolumeLimitExceeded", QuotaReached, "region"),
    (RUN, "RequestLimitExceeded", Throttled, "account"),
    (RUN, "InvalidInstanceType", RequestInvalid, "instance_type"),
    (RUN, "InvalidParameterValue", RequestInvalid, "request"),
    (RUN, "InvalidBlockDeviceMapping", RequestInvalid, "request"),
    (RUN, "InvalidAMIID.NotFound", RequestInvalid, "region"),
    (RUN, "UnauthorizedOperation", CredentialsRejected, "region"),
    (RUN, "OptInRequired", CredentialsRejected, "region"),
    (RUN, "RequestExpired", CredentialsRejected, "account"),
    (RUN, "AuthFailure", CredentialsRejected, "account"),
    (RUN, "InternalError", ProviderDown, "region"),
    (RUN, "Unavailable", ProviderDown, "region"),
    (RUN, "SomethingNewLimitExceeded", QuotaReached, "region"),
    (RUN, "InsufficientSomethingNew", CapacityRefused, "zone"),
    ("CreateSecurityGroup", "SecurityGroupLimitExceeded", QuotaReached, "region"),
    ("AuthorizeSecurityGroupIngress", "RulesPerSecurityGroupLimitExceeded", QuotaReached, "region"),
    ("DescribeSubnets", "Throttling", Throttled, "account"),
    ("DescribeVpcs", "InternalError", ProviderDown, "region"),
    ("DescribeImages", "UnauthorizedOperation", CredentialsRejected, "region"),
    ("ImportKeyPair", "InvalidKey.Format", RequestInvalid, "request"),
]


@pytest.mark.parametrize(
    ("operation", "code", "kind", "scope"), REFUSALS, ids=[f"{one[0]}-{one[1]}" for one in REFUSALS]
)
async def test_a_refusal_is_typed_and_leaves_nothing(
    world: World, operation: str, code: str, kind: type[ProviderFailure], scope: str
) -> None:
    wanted = ask(2)
    world.wire.fail(operation, code, message="Amazon says no")
    with pytest.raises(ProviderFailure) as refused:
        await world.compute.create(wanted)
    assert (type(refused.value), refused.value.scope) == (kind, scope)
    assert code in refused.value.reason
    assert "Amazon says no" in refused.value.reason
    assert world.left(wanted.cluster_id) == []


async def test_a_quota_of_spot_machines_is_no_quota_of_others(world: World) -> None:
    world.wire.fail(RUN, "MaxSpotInstanceCountExceeded", match=SPOT)
    wanted = ask(offer=offer(use_spot=True))
    with pytest.raises(QuotaReached) as refused:
        await world.compute.create(wanted)
    assert refused.value.scope == "capacity_type"
    assert len(await world.compute.create(ask())) == 1


async def test_a_full_zone_is_left_for_the_next(staged: World, stage: Stage) -> None:
    said: list[str] = []
    first = subnet_of(staged, f"{HOME}a")
    staged.wire.fail(RUN, "InsufficientInstanceCapacity", match={"NetworkInterface.1.SubnetId": first})
    wanted = ask(2, say=said.append)
    await staged.compute.create(wanted)
    assert {raw["Placement"]["AvailabilityZone"] for raw in staged.machines(wanted.cluster_id)} == {f"{HOME}b"}
    assert len(said) == 1 and said[0].startswith(f"{HOME}a: InsufficientInstanceCapacity")


async def test_a_region_that_is_full_everywhere_names_each_zone(world: World) -> None:
    world.wire.fail(RUN, "InsufficientInstanceCapacity")
    with pytest.raises(CapacityRefused) as refused:
        await world.compute.create(ask())
    assert all(f"{HOME}{letter}" in refused.value.reason for letter in "abcdef")


async def test_a_zone_that_was_named_is_the_only_one_tried(staged: World, stage: Stage) -> None:
    staged.wire.fail(RUN, "InsufficientInstanceCapacity")
    with pytest.raises(CapacityRefused):
        await staged.compute.create(ask(offer=offer(zone=f"{HOME}c")))
    assert [each["NetworkInterface.1.SubnetId"] for each in stage.calls(RUN)] == [subnet_of(staged, f"{HOME}c")]


async def test_throttling_that_passes_is_waited_out(world: World) -> None:
    world.wire.fail(RUN, "RequestLimitExceeded", times=2)
    assert len(await world.compute.create(ask(2))) == 2


async def test_machines_that_are_not_listed_at_once_are_waited_for(world: World) -> None:
    world.wire.fail("DescribeInstances", "InvalidInstanceID.NotFound", times=3, match={"InstanceId.1": "i-*"})
    assert len(await world.compute.create(ask())) == 1


async def test_a_list_that_lags_behind_is_waited_for(staged: World, stage: Stage) -> None:
    late = iter([None, NO_MACHINES, NO_MACHINES])
    stage.answers["DescribeInstances"] = lambda fields: None if "InstanceId.1" in fields else next(late, None)
    assert len(await staged.compute.create(ask(2))) == 2


@pytest.mark.parametrize(
    ("code", "kind", "scope"),
    [
        ("Server.InsufficientInstanceCapacity", CapacityRefused, "zone"),
        ("Client.VolumeLimitExceeded", QuotaReached, "region"),
        ("Client.InternalError", ProviderDown, "region"),
        ("Client.InvalidSnapshot.NotFound", RequestInvalid, "request"),
        ("Server.SpotInstanceTermination", CapacityRefused, "zone"),
    ],
)
async def test_half_of_a_gang_never_lingers(
    staged: World, stage: Stage, code: str, kind: type[ProviderFailure], scope: str
) -> None:
    def dying(fields: Mapping[str, str]) -> str | None:
        asked = [value for field, value in sorted(fields.items()) if field.startswith("InstanceId.")]
        if not asked:
            return None
        del stage.answers["DescribeInstances"]
        return machines_xml({asked[0]: "running", **dict.fromkeys(asked[1:], "terminated")}, code)

    stage.answers["DescribeInstances"] = dying
    wanted = ask(3, offer=offer(zone=f"{HOME}a"))
    with pytest.raises(ProviderFailure) as refused:
        await staged.compute.create(wanted)
    assert (type(refused.value), refused.value.scope) == (kind, scope)
    assert code in refused.value.reason
    assert staged.left(wanted.cluster_id) == []


async def test_a_gang_that_dies_in_one_zone_is_made_in_the_next(staged: World, stage: Stage) -> None:
    def dying(fields: Mapping[str, str]) -> str | None:
        if "InstanceId.1" not in fields:
            return None
        del stage.answers["DescribeInstances"]
        return machines_xml({fields["InstanceId.1"]: "terminated"}, "Server.InsufficientInstanceCapacity")

    stage.answers["DescribeInstances"] = dying
    wanted = ask()
    assert len(await staged.compute.create(wanted)) == 1
    (raw,) = staged.machines(wanted.cluster_id)
    assert raw["Placement"]["AvailabilityZone"] == f"{HOME}b"


async def test_an_answer_that_is_lost_does_not_make_machines_twice(staged: World, stage: Stage) -> None:
    stage.lost = [RUN]
    wanted = ask(2)
    await staged.compute.create(wanted)
    assert len(stage.calls(RUN)) == 2
    assert len(staged.machines(wanted.cluster_id)) == 2


async def test_an_api_that_is_away_for_a_moment_ends_no_machines(staged: World, stage: Stage) -> None:
    left = iter([error_xml("InternalError")] * 7 + [error_xml("RequestLimitExceeded")] * 5)
    stage.answers["DescribeInstances"] = lambda _: next(left, None) if stage.calls(RUN) else None
    assert len(await staged.compute.create(ask(2))) == 2
    assert len(stage.calls(RUN)) == 1


async def test_refused_launches_leave_no_groups_although_lists_lag_behind(staged: World, stage: Stage) -> None:
    """A list by tags may not have what was made a second ago; what was made is known by its id."""
    nothing = "<DescribeSecurityGroupsResponse><securityGroupInfo/></DescribeSecurityGroupsResponse>"
    before = len(staged.client().describe_security_groups()["SecurityGroups"])
    stage.answers["DescribeSecurityGroups"] = lambda _: nothing
    staged.wire.fail(RUN, "InsufficientInstanceCapacity")
    refused = await asyncio.gather(*(staged.compute.create(ask()) for _ in range(6)), return_exceptions=True)
    assert [type(each) for each in refused] == [CapacityRefused] * 6
    assert len(stage.calls("CreateSecurityGroup")) == 6
    assert len(staged.client().describe_security_groups()["SecurityGroups"]) == before


async def test_a_launch_that_is_called_off_while_its_group_is_made_leaves_none(staged: World, stage: Stage) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def late(fields: Mapping[str, str]) -> None:
        asked.set()
        go_on.wait(20)

    stage.answers["CreateSecurityGroup"] = late
    wanted = ask()
    launch = asyncio.ensure_future(staged.compute.create(wanted))
    await asyncio.to_thread(asked.wait, 20)
    launch.cancel()
    asyncio.get_running_loop().call_later(0.1, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await launch
    assert staged.left(wanted.cluster_id) == []


async def test_nothing_is_left_when_the_api_goes_down_in_the_middle(staged: World, stage: Stage) -> None:
    def down(fields: Mapping[str, str]) -> str | None:
        return error_xml("InternalError") if stage.calls(RUN) and not stage.calls("TerminateInstances") else None

    stage.answers["DescribeInstances"] = down
    wanted = ask(2)
    with pytest.raises(ProviderDown):
        await staged.compute.create(wanted)
    assert staged.left(wanted.cluster_id) == []


async def test_what_cannot_be_removed_is_said(staged: World, stage: Stage) -> None:
    stage.answers["DescribeInstances"] = lambda _: error_xml("InternalError") if stage.calls(RUN) else None
    stage.answers["TerminateInstances"] = lambda _: error_xml("InternalError")
    wanted = ask()
    with pytest.raises(ProviderDown) as refused:
        await staged.compute.create(wanted)
    assert any("could not be removed" in note for note in refused.value.__notes__)
    stage.answers.clear()
    await staged.compute.terminate(wanted.cluster_id, regions=[HOME])
    assert staged.left(wanted.cluster_id) == []


async def test_a_group_that_is_still_held_is_removed_when_it_is_free(world: World) -> None:
    wanted = ask()
    await world.compute.create(wanted)
    world.wire.fail("DeleteSecurityGroup", "DependencyViolation", times=4)
    await world.compute.terminate(wanted.cluster_id, regions=[HOME])
    assert world.left(wanted.cluster_id) == []


async def test_a_server_that_nobody_answers_for(world: World, unused_port: int) -> None:
    world.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{unused_port}"
    with pytest.raises(ProviderDown, match="could not be asked"):
        await world.compute.list(regions=[HOME])
    assert not (await world.compute.check()).enabled


async def test_a_region_that_is_not_switched_on_condemns_itself_alone(world: World) -> None:
    world.wire.fail("DescribeInstances", "AuthFailure")
    with pytest.raises(CredentialsRejected, match="switch the region eu-west-1 on") as refused:
        await world.compute.list(regions=["eu-west-1"])
    assert refused.value.scope == "region"


async def test_an_ill_formed_configuration_is_told_before_anything_is_asked(staged: World, stage: Stage) -> None:
    with pytest.raises(RequestInvalid, match="did you mean") as refused:
        await staged.compute.create(ask(config={"use_internal_ip": True}))
    assert refused.value.scope == "account", "it is as wrong everywhere else"
    assert stage.asked == []


async def test_no_permission_for_key_pairs_is_no_reason_to_fail(world: World) -> None:
    world.wire.fail("ImportKeyPair", "UnauthorizedOperation")
    (made,) = await world.compute.create(ask())
    assert world.login(made.reach, "echo in") == "in"


async def test_spot_machines_cannot_be_stopped(staged: World, stage: Stage) -> None:
    wanted = ask(offer=offer(use_spot=True))
    await staged.compute.create(wanted)
    stage.answers["StopInstances"] = lambda _: error_xml("UnsupportedOperation", "a spot instance cannot be stopped")
    with pytest.raises(RequestInvalid, match="cannot be stopped"):
        await staged.compute.stop(wanted.cluster_id, regions=[HOME])
    (seen,) = await staged.compute.list(wanted.cluster_id, regions=[HOME])
    assert seen.state is InstanceState.RUNNING


def subnet_of(world: World, zone: str) -> str:
    filters = [{"Name": "availability-zone", "Values": [zone]}, {"Name": "default-for-az", "Values": ["true"]}]
    return str(world.client().describe_subnets(Filters=filters)["Subnets"][0]["SubnetId"])

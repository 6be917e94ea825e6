"""Where machines stand: the network that the configuration names, and nothing changed of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from aws_world import HOME, World, ask, offer, world

from sky.core.errors import RequestInvalid

__all__ = ["world"]

ELSEWHERE = "eu-central-1"


@pytest.fixture
def net(world: World) -> Iterator[dict[str, str]]:
    """A network of the user's: `blue`, with a private and a public subnet in one zone, and one in another."""
    ec2 = world.client()
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16", TagSpecifications=named("vpc", "blue"))["Vpc"]["VpcId"]
    made = {"vpc": vpc}
    for number, (name, zone, public) in enumerate((("in", "a", False), ("out", "a", True), ("far", "b", True))):
        raw = ec2.create_subnet(
            VpcId=vpc,
            CidrBlock=f"10.7.{number}.0/24",
            AvailabilityZone=f"{HOME}{zone}",
            TagSpecifications=named("subnet", name),
        )["Subnet"]
        ec2.modify_subnet_attribute(SubnetId=raw["SubnetId"], MapPublicIpOnLaunch={"Value": public})
        made[name] = raw["SubnetId"]
    yield made
    for raw in world.machines():
        ec2.terminate_instances(InstanceIds=[raw["InstanceId"]])
    filters = [{"Name": "vpc-id", "Values": [vpc]}]
    for raw in ec2.describe_security_groups(Filters=filters)["SecurityGroups"]:
        if raw["GroupName"] != "default":
            ec2.delete_security_group(GroupId=raw["GroupId"])
    for name in ("in", "out", "far"):
        ec2.delete_subnet(SubnetId=made[name])
    ec2.delete_vpc(VpcId=vpc)


def named(kind: str, name: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": [{"Key": "Name", "Value": name}]}]


@pytest.mark.parametrize(
    ("config", "zone", "subnet"),
    [
        ({"vpc_name": "blue"}, None, "out"),
        ({"vpc_name": "blue", "use_internal_ips": True}, None, "in"),
        ({"vpc_names": ["green", "blue"]}, f"{HOME}b", "far"),
        ({"vpc_name": "blue", "subnet_names": ["far"]}, None, "far"),
        ({"vpc_name": "blue", "subnet_names": ["in"]}, f"{HOME}a", "in"),
    ],
)
async def test_the_subnet_that_the_configuration_means(
    world: World, net: dict[str, str], config: dict[str, object], zone: str | None, subnet: str
) -> None:
    world.config = config
    wanted = ask(offer=offer(zone=zone), config=config)
    await world.compute.create(wanted)
    (raw,) = world.machines(wanted.cluster_id)
    assert (raw["VpcId"], raw["SubnetId"]) == (net["vpc"], net[subnet])
    await world.compute.terminate(wanted.cluster_id, regions=[HOME])
    assert world.left(wanted.cluster_id) == []


@pytest.mark.parametrize(
    ("config", "zone", "words", "scope"),
    [
        ({"vpc_name": "green"}, None, "no VPC named green", "region"),
        ({"vpc_name": "blue"}, f"{HOME}f", f"no subnet in {HOME}f", "zone"),
        ({"vpc_name": "blue", "subnet_names": ["x", "y"]}, None, "no subnet named x, y", "region"),
    ],
)
async def test_a_network_that_is_not_there(
    world: World, net: dict[str, str], config: dict[str, object], zone: str | None, words: str, scope: str
) -> None:
    with pytest.raises(RequestInvalid, match=words) as refused:
        await world.compute.create(ask(offer=offer(zone=zone), config=config))
    assert refused.value.scope == scope


async def test_a_region_without_a_default_network_says_what_to_do(world: World) -> None:
    ec2 = world.client(region=ELSEWHERE)
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    for raw in ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [found[0]["VpcId"]]}])["Subnets"]:
        ec2.delete_subnet(SubnetId=raw["SubnetId"])
    ec2.delete_vpc(VpcId=found[0]["VpcId"])
    with pytest.raises(RequestInvalid, match=f"create-default-vpc --region {ELSEWHERE}.*aws.vpc_name") as refused:
        await world.compute.create(ask(offer=offer(region=ELSEWHERE)))
    assert refused.value.scope == "region"


async def test_the_way_to_a_machine_is_the_configured_one(world: World) -> None:
    world.config = {"use_internal_ips": True, "ssh_user": "ec2-user", "ssh_proxy_command": {HOME: "ssh -W %h:%p jump"}}
    (made,) = await world.compute.create(ask(config=world.config))
    assert made.reach["user"] == "ec2-user"
    assert made.reach["proxy_command"] == "ssh -W %h:%p jump"
    assert made.reach["host"] == made.ip
    world.config = {"use_ssm": True, "profile": None}
    (seen,) = await world.compute.list(made.cluster_id, regions=[HOME])
    assert seen.reach["proxy_command"].startswith(f"aws ssm start-session --target {made.machine} --region {HOME} ")
    assert seen.reach["user"] == "ec2-user", "who logs in was settled when the machine was made"


async def test_a_group_by_the_clusters_name(world: World) -> None:
    rules = {"security_group_name": [{"train-*": "trainers"}, {"serve-*": "servers"}]}
    named_one, other = ask(config=rules, cluster_name="train-1"), ask(config=rules, cluster_name="else")
    await world.compute.create(named_one)
    await world.compute.create(other)
    assert world.groups(named_one.cluster_id) == []
    assert len(world.groups(other.cluster_id)) == 1
    found = world.client().describe_security_groups(Filters=[{"Name": "group-name", "Values": ["trainers"]}])
    assert len(found["SecurityGroups"]) == 1

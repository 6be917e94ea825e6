"""Thirty and more ways in which a cloud says no: each ends in the right next try or in the right error, and leaves
nothing running, as the cloud itself sees it."""

from dataclasses import dataclass, field

import pytest
from cloud_household import landed, places

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

A, B, WEST, GCP = "aws/us-east-1/us-east-1a", "aws/us-east-1/us-east-1b", "aws/us-west-2", "gcp/us-central1"
ALL = ("aws/us-east-1", "aws/us-west-2", "gcp/us-central1")
GOOGLE = ("gcp/us-central1", "gcp/us-east1", "aws/us-east-1")
#: A look at machines by their ids: what a listing that lags does not know yet.
BY_ID = {"InstanceId.1": "i-*"}
RUN, LOOK, INSERT = "RunInstances", "DescribeInstances", "compute.instances.insert"
#: Which zone a machine is asked for in is told by its subnet: the wire is asked which one that is.
IN_A = {"zone": "us-east-1a"}


@dataclass(frozen=True)
class Case:
    """`rules` are operation, code, and what goes with them. The launch lands at `at`, or fails with `error`."""

    name: str
    cloud: str
    rules: tuple[tuple[str, str, dict], ...]
    at: str = ""
    error: str = ""
    order: tuple[str, ...] = ()
    task: dict = field(default_factory=dict)
    spot: bool = False


def rule(operation, code, **more):
    return (operation, code, more)


def http(status, **more):
    return {"http": status, **more}


CASES = [
    # --- AWS: capacity
    Case("sold out in a zone", "aws", (rule(RUN, "InsufficientInstanceCapacity", match=IN_A),), at=B),
    Case("sold out in a region", "aws",
         (rule(RUN, "InsufficientInstanceCapacity", match={"zone": "us-east-1*"}),), at=WEST),
    Case("sold out everywhere", "aws", (rule(RUN, "InsufficientInstanceCapacity"),), at=GCP),
    Case("no host left", "aws", (rule(RUN, "InsufficientHostCapacity", match=IN_A),), at=B),
    Case("a reservation is full", "aws", (rule(RUN, "ReservationCapacityExceeded", match=IN_A),), at=B),
    Case("no address left in a subnet", "aws", (rule(RUN, "InsufficientFreeAddressesInSubnet", match=IN_A),), at=B),
    Case("a type that a zone does not have", "aws", (rule(RUN, "Unsupported", match=IN_A),), at=B),
    Case("no spot machines", "aws",
         (rule(RUN, "InsufficientInstanceCapacity", match={"InstanceMarketOptions.MarketType": "spot"}),),
         error="no placement left", order=(A,), spot=True),
    Case("the spot price is too low", "aws", (rule(RUN, "SpotMaxPriceTooLow"),), error="SpotMaxPriceTooLow",
         order=(A,), spot=True),
    # --- AWS: quotas
    Case("no vCPUs left", "aws", (rule(RUN, "VcpuLimitExceeded", times=1),), at=WEST),
    Case("no instances left", "aws", (rule(RUN, "InstanceLimitExceeded", times=1),), at=WEST),
    Case("no spot requests left", "aws", (rule(RUN, "MaxSpotInstanceCountExceeded"),), error="quota", order=(A,),
         spot=True),
    Case("no volumes left", "aws", (rule(RUN, "VolumeLimitExceeded", times=1),), at=WEST),
    Case("no security groups left", "aws", (rule("CreateSecurityGroup", "SecurityGroupLimitExceeded", times=1),),
         at=WEST),
    # --- AWS: too much, too soon
    Case("throttled", "aws", (rule(RUN, "RequestLimitExceeded", times=2),), at=A),
    Case("throttled while looking", "aws", (rule("DescribeInstances", "RequestLimitExceeded", times=3),), at=A),
    Case("not listed yet", "aws", (rule(LOOK, "InvalidInstanceID.NotFound", times=3, match=BY_ID),), at=A),
    # --- AWS: who asks
    Case("not allowed", "aws", (rule(RUN, "UnauthorizedOperation"),), at=GCP),
    Case("expired credentials", "aws", (rule("*", "ExpiredToken"),), error="aws", order=("aws/us-east-1",)),
    Case("credentials that are wrong", "aws", (rule("*", "AuthFailure"),), error="aws", order=("aws/us-east-1",)),
    Case("a region that is not opted in", "aws", (rule(RUN, "OptInRequired", times=1),), at=WEST),
    Case("an account that is being verified", "aws", (rule(RUN, "PendingVerification"),), at=GCP),
    # --- AWS: what can never work, and what is broken
    Case("an invalid request", "aws", (rule(RUN, "InvalidParameterValue"),), error="InvalidParameterValue",
         order=(A,)),
    Case("an image that is gone", "aws", (rule(RUN, "InvalidAMIID.NotFound", times=1),), at=WEST),
    Case("broken for a moment", "aws", (rule(RUN, "InternalError", times=1),), at="aws"),
    Case("broken in the middle", "aws", (rule("DescribeInstances", "InternalError", times=2),), at="aws"),
    Case("out of service", "aws", (rule(RUN, "Unavailable"),), at=GCP),
    # --- Google Cloud: told by the operation
    Case("a stock-out in a zone", "gcp",
         (rule(INSERT, "ZONE_RESOURCE_POOL_EXHAUSTED", match={"zone": "us-central1-a"}),),
         at=GCP),
    Case("a stock-out in a region", "gcp",
         (rule(INSERT, "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", match={"zone": "us-central1-*"}),),
         at="gcp/us-east1"),
    Case("a stock-out everywhere", "gcp", (rule(INSERT, "ZONE_RESOURCE_POOL_EXHAUSTED"),), at="aws/us-east-1"),
    Case("half of a gang", "gcp",
         (rule(INSERT, "ZONE_RESOURCE_POOL_EXHAUSTED", match={"name": "*-1"}, times=1),),
         at="gcp", task={"num_nodes": 2}),
    Case("a quota told by the operation", "gcp",
         (rule(INSERT, "QUOTA_EXCEEDED", times=1),), at="gcp/us-east1"),
    # --- Google Cloud: told by the request
    Case("a quota", "gcp", (rule(INSERT, "quotaExceeded", times=1, **http(403)),), at="gcp/us-east1"),
    Case("too many calls", "gcp", (rule(INSERT, "rateLimitExceeded", times=2, **http(429)),), at=GCP),
    Case("forbidden", "gcp", (rule(INSERT, "forbidden", **http(403)),), at="aws/us-east-1"),
    Case("a token that is not taken", "gcp", (rule(INSERT, "authError", **http(401)),), at="aws/us-east-1"),
    Case("a request that is wrong", "gcp", (rule(INSERT, "invalid", **http(400)),), error="invalid",
         order=("gcp/us-central1",)),
    Case("a back end that fails", "gcp", (rule(INSERT, "backendError", times=1, **http(503)),), at="gcp"),
    Case("no network to be made", "gcp", (rule("compute.firewalls.insert", "quotaExceeded", times=1, **http(403)),),
         at=""),
]  # fmt: skip


def matches(world, match):
    """The fields of a request that a rule is for, once for each subnet of the zones that it names."""
    if "zone" not in match or not match["zone"].startswith("us-east-1"):
        return [match]
    ec2 = world.ec2()
    zones = [{"Name": "availability-zone", "Values": [match["zone"]]}]
    return [
        {"NetworkInterface.1.SubnetId": subnet["SubnetId"]} for subnet in ec2.describe_subnets(Filters=zones)["Subnets"]
    ]


@pytest.fixture
def world(clouds):
    yield clouds
    clouds.clean()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.cloud}: {case.name}".replace(" ", "-"))
def test_a_refusal_ends_in_the_right_next_try_or_the_right_error(world, case):
    for operation, code, more in case.rules:
        for match in matches(world, more.get("match", {})):
            world.wires[case.cloud].fail(operation, code, **{**more, "match": match})
    order = case.order or (ALL if case.cloud == "aws" else GOOGLE)
    done = world.launch("c", places(*order, spot=case.spot), **case.task)
    said = done.stdout + done.stderr
    if case.error:
        assert done.returncode != 0 and case.error.lower() in said.lower(), said
        # What was refused has left nothing, although nobody took anything down.
        assert world.running() == [], said
    else:
        assert done.returncode == 0, said
        assert landed(done.stdout).startswith(case.at), said
        assert len(world.running()) == case.task.get("num_nodes", 1), said
    world.heal()
    if any(operation == "*" for operation, _, _ in case.rules):
        # What a place said of its credentials is believed for minutes.
        world.sky.good("check", case.cloud)
    # Beside a cluster that came up nothing is left of the places that refused it, and at once.
    groups = world.groups_of_aws()
    assert len(groups) == sum(each.startswith("aws:") for each in world.running()[:1]), (groups, said)

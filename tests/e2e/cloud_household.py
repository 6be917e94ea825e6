"""The product beside two clouds on the wire, whose instances are test hosts. Used by the tests of clouds here."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from botocore import session

from sky.remote.keys import KeyRing

#: What the seed has no price for: spot machines, a second region of AWS, machines with the best network.
OFFERS = """
[[offer]]
infra = "aws/us-east-1/us-east-1a"
instance_type = "c5n.18xlarge"
cpus = 72
memory = 192
price = 3.888

[[offer]]
infra = "aws/us-east-1/us-east-1a"
instance_type = "m5.xlarge"
cpus = 4
memory = 16
spot_price = 0.05

[[offer]]
infra = "aws/us-west-2"
instance_type = "m5.xlarge"
cpus = 4
memory = 16
price = 0.25

[[offer]]
infra = "gcp/us-central1/us-central1-a"
instance_type = "e2-standard-4"
cpus = 4
memory = 16
spot_price = 0.04
"""


class Clouds:
    """The command with credentials for both clouds, and the clouds' own view of what runs there."""

    def __init__(self, sky: Any, aws: Any, gcp: Any) -> None:
        self.sky, self.aws, self.gcp = sky, aws, gcp
        self.wires = {"aws": aws, "gcp": gcp}
        self._session = session.Session()
        self._session.set_credentials("test", "test")
        self._clients: dict[tuple[str, str], Any] = {}

    def launch(self, name: str, resources: Mapping[str, Any], *words: str, run: str = "true", **task: Any) -> Any:
        path = self.sky.root / f"{name}.yaml"
        path.write_text(
            json.dumps({"resources": dict(resources), "run": f'{run}\necho "at=$SKYPILOT_CLUSTER_INFO"', **task})
        )
        return self.sky("launch", "-y", "-c", name, str(path), *words, timeout=200)

    def running(self) -> list[str]:
        """Machines of both clouds that exist, stopped ones too."""
        return [f"{cloud}:{host['name']}" for cloud, wire in self.wires.items() for host in wire.hosts()]

    def client(self, service: str, region: str = "us-east-1") -> Any:
        """A client of our own for AWS: the cloud's side."""
        if (service, region) not in self._clients:
            made = self._session.create_client(service, region_name=region, endpoint_url=self.aws.url)
            self._clients[service, region] = made
        return self._clients[service, region]

    def ec2(self) -> Any:
        return self.client("ec2")

    def instances(self, ids: Sequence[str]) -> list[Any]:
        """Machines of AWS as it has them, those that ended lately too."""
        found = self.ec2().describe_instances(InstanceIds=list(ids))["Reservations"]
        return [raw for each in found for raw in each["Instances"]]

    def on_shutdown(self, machine: str) -> str:
        """What becomes of a machine of AWS that shuts itself down: `stop` or `terminate`."""
        asked = {"InstanceId": machine, "Attribute": "instanceInitiatedShutdownBehavior"}
        return str(self.ec2().describe_instance_attribute(**asked)["InstanceInitiatedShutdownBehavior"]["Value"])

    def installation(self) -> str:
        """The mark of all that this household makes."""
        return KeyRing(self.sky.state / "keys").installation()

    def left_of_aws(self, cluster_id: str = "*") -> list[str]:
        """All that AWS still has of a cluster and that costs or blocks something: groups, images, snapshots."""
        ec2 = self.ec2()
        # Other tests have the same wire before us, and leave things of theirs there.
        ours = [{"Name": "tag:sky-installation", "Values": [self.installation()]}]
        if cluster_id != "*":
            ours.append({"Name": "tag:sky-cluster-id", "Values": [cluster_id]})
        found = [each["GroupId"] for each in ec2.describe_security_groups(Filters=ours)["SecurityGroups"]]
        found += [each["GroupName"] for each in self.placement_groups() if cluster_id in ("*", *tags_of(each).values())]
        found += [each["ImageId"] for each in ec2.describe_images(Owners=["self"], Filters=ours)["Images"]]
        return found + [each["SnapshotId"] for each in ec2.describe_snapshots(Filters=ours)["Snapshots"]]

    def placement_groups(self) -> list[Any]:
        """Of this household's clusters."""
        found = self.ec2().describe_placement_groups()["PlacementGroups"]
        return [each for each in found if tags_of(each).get("sky-installation") == self.installation()]

    def groups_of_aws(self) -> list[str]:
        """Security groups of this household's clusters, in all regions that are used here."""
        ours = [{"Name": "tag:sky-installation", "Values": [self.installation()]}]
        found = []
        for region in ("us-east-1", "us-west-2"):
            told = self.client("ec2", region).describe_security_groups(Filters=ours)["SecurityGroups"]
            found += [f"{region}/{each['GroupName']}" for each in told]
        return found

    def heal(self) -> None:
        """No failures to come."""
        for wire in self.wires.values():
            wire.heal()

    def clean(self) -> None:
        """No failures to come, no clusters, no machines."""
        self.heal()
        if self.running():
            self.sky("down", "-a", "-y")
        until = time.monotonic() + 60
        while left := self.running():
            assert time.monotonic() < until, f"left running: {left}"
            time.sleep(0.1)


def tags_of(raw: Any) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in raw.get("Tags", ())}


def landed(output: str) -> str:
    """Where a job says that it ran: cloud/region/zone."""
    found = re.search(r"at=(\{.*\})", output)
    assert found, output
    info = json.loads(found[1])
    return "/".join(str(info.get(key) or "") for key in ("cloud", "region", "zone")).rstrip("/")


def move_in(sky: Any, aws: Any, gcp: Any) -> Clouds:
    """Give a fresh home what both clouds take."""
    sky.env |= aws.environment
    settings = Path(sky.root / ".sky")
    (settings / "catalog.d").mkdir(parents=True)
    (settings / "catalog.d" / "offers.toml").write_text(OFFERS)
    # Prices are those that are there: nothing is asked of the world outside.
    told = {"gcp": {"project_id": "proj", "endpoint": gcp.url}, "catalog": {"refresh": False}}
    (settings / "config.yaml").write_text(json.dumps(told))
    return Clouds(sky, aws, gcp)


def places(*wanted: str, spot: bool = False) -> dict[str, Any]:
    """Places in the order in which they are to be tried, each with the type it has there."""
    types: Mapping[str, str] = {"aws": "m5.xlarge", "gcp": "e2-standard-4"}
    listed: Sequence[dict[str, Any]] = [
        {"infra": each, "instance_type": types[each.partition("/")[0]], **({"use_spot": True} if spot else {})}
        for each in wanted
    ]
    return {"ordered": list(listed)}

"""AWS and Google Cloud as a user has them: their APIs on the wire, their instances real hosts with disks and sshd."""

import json
import os
import signal
import time
import urllib.request
from pathlib import Path

import pytest
from cloud_household import landed, places, tags_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

PLACE = {"aws": "aws/us-east-1", "gcp": "gcp/us-central1"}


@pytest.fixture(params=["aws", "gcp"])
def cloud(request):
    return request.param


@pytest.fixture
def world(clouds):
    yield clouds
    clouds.clean()


def status(world, name):
    found = world.sky.json("status", name)
    return found[0]["status"] if found else None


def states(world, cloud):
    return sorted(host["state"] for host in world.wires[cloud].hosts())


#: A job that ends when it is let go.
HELD = "until [ -e /tmp/go ]; do sleep 0.1; done"


def let_go(world, cloud):
    for host in world.wires[cloud].hosts():
        world.wires[cloud].host(host["name"]).exec("touch", "/tmp/go")


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 4])
def test_a_whole_life(world, cloud, nodes, eventually):
    ran = world.launch(
        "c", places(PLACE[cloud]), run="echo rank $SKYPILOT_NODE_RANK; echo kept > ~/kept", num_nodes=nodes
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert all(f"rank {rank}" in ran.stdout for rank in range(nodes))
    assert landed(ran.stdout).startswith(PLACE[cloud])
    assert states(world, cloud) == ["running"] * nodes

    world.sky.good("stop", "-y", "c")
    assert (status(world, "c"), states(world, cloud)) == ("STOPPED", ["stopped"] * nodes)
    world.sky.good("start", "-y", "c")
    again = world.sky("exec", "c", "--num-nodes", str(nodes), "cat ~/kept")
    assert again.stdout.count("kept") == nodes, again.stdout + again.stderr

    world.sky.good("autostop", "-y", "c", "-i", "0")
    eventually(lambda: states(world, cloud) == ["stopped"] * nodes, 60)
    eventually(lambda: status(world, "c") == "STOPPED", 60)
    world.sky.good("start", "-y", "c")
    assert world.sky("exec", "c", "cat ~/kept").stdout.count("kept") == 1
    world.sky.good("autostop", "-y", "c", "-i", "0", "--down")
    eventually(lambda: world.running() == [], 60)
    eventually(lambda: status(world, "c") is None, 60)


def test_the_machines_stop_themselves_when_the_server_is_away(world, cloud, eventually):
    world.launch("c", places(PLACE[cloud]), "-d", "-i", "0", run=HELD, num_nodes=2)
    world.sky.good("api", "stop")
    assert states(world, cloud) == ["running"] * 2
    let_go(world, cloud)
    eventually(lambda: states(world, cloud) == ["stopped"] * 2, 90)
    eventually(lambda: status(world, "c") == "STOPPED", 60)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["down", "stop after down", "off after down"])
def test_what_becomes_of_idle_machines_is_the_clouds_doing(world, wanted, eventually):
    """AWS ends machines whose cluster is to go down when idle, also where no server lives to see to it."""
    down = wanted == "down"
    world.launch("c", places(PLACE["aws"]), "-d", "-i", "0", "--down", run=HELD, num_nodes=2)
    if not down:
        again = ("-i", "0") if wanted.startswith("stop") else ("--cancel",)
        world.sky.good("autostop", "-y", "c", *again)
    ids = [host["name"] for host in world.aws.hosts()]
    (mark,) = {tag["Value"] for each in world.instances(ids) for tag in each["Tags"] if tag["Key"] == "sky-cluster-id"}
    eventually(lambda: {world.on_shutdown(id) for id in ids} == {"terminate" if down else "stop"})
    os.kill(world.sky.server_pid(), signal.SIGKILL)
    let_go(world, "aws")
    if wanted.startswith("off"):
        world.aws.do("preempt", ids[1])
        eventually(lambda: states(world, "aws") == ["running", "stopped"])
        return
    at_the_end = {"terminated"} if down else {"stopped"}
    eventually(lambda: {each["State"]["Name"] for each in world.instances(ids)} == at_the_end, 90)
    assert not Path(f"/proc/{world.sky.server_pid()}").exists(), "no server helped"
    eventually(lambda: status(world, "c") == (None if down else "STOPPED"), 60)
    if down:
        assert world.left_of_aws(mark) == []


def test_spot_machines_that_are_taken_away_are_noticed_and_told(world, cloud, eventually):
    where = {"aws": "aws/us-east-1/us-east-1a", "gcp": "gcp/us-central1/us-central1-a"}[cloud]
    ran = world.launch("c", places(where, spot=True), num_nodes=2)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    taken = world.wires[cloud].hosts()[0]["name"]
    begun = time.monotonic()
    world.wires[cloud].do("preempt", taken)
    eventually(lambda: status(world, "c") != "UP", 30)
    noticed = time.monotonic() - begun
    story = world.sky.good("events", "c").stdout
    assert "1 of 2 nodes run" in story or "agent" in story
    assert noticed < 30
    down = world.sky("down", "-y", "c")
    assert down.returncode == 0 and world.running() == []


def test_the_cheaper_cloud_is_taken_and_the_other_when_it_refuses_everywhere(world):
    either = {"any_of": [{"infra": "aws/us-east-1"}, {"infra": "gcp/us-central1"}], "cpus": 4, "memory": 16}
    ran = world.launch("cheap", either)
    assert landed(ran.stdout).startswith("gcp/us-central1")
    world.gcp.fail("compute.instances.insert", "ZONE_RESOURCE_POOL_EXHAUSTED")
    moved = world.launch("moved", either)
    assert landed(moved.stdout).startswith("aws/us-east-1"), moved.stdout + moved.stderr
    assert "gcp/us-central1 refused" in moved.stderr and "trying" in moved.stderr
    told = world.sky.good("logs", "--provision", "--no-follow", "moved").stdout
    assert "gcp/us-central1 refused" in told and "aws/us-east-1" in told
    assert [name.partition(":")[0] for name in world.running()] == ["aws", "gcp"]


def test_a_hedged_launch_leaves_one_set_of_machines(world, eventually):
    ran = world.launch("c", places("aws/us-east-1", "gcp/us-central1"), "--config", "provision.hedge=2")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    # What cannot be ended within some seconds is ended after the launch.
    eventually(lambda: len(world.running()) == 1)


def test_a_cluster_grows_and_shrinks(world, cloud):
    world.launch("c", places(PLACE[cloud]))
    grown = world.launch("c", places(PLACE[cloud]), "--resize", run="echo rank $SKYPILOT_NODE_RANK", num_nodes=3)
    assert all(f"rank {rank}" in grown.stdout for rank in range(3)), grown.stdout + grown.stderr
    assert states(world, cloud) == ["running"] * 3
    shrunk = world.launch("c", places(PLACE[cloud]), "--resize", run="echo rank $SKYPILOT_NODE_RANK", num_nodes=2)
    assert "rank 1" in shrunk.stdout and states(world, cloud) == ["running"] * 2


def test_a_disk_is_cloned(world, cloud):
    world.launch("c", places(PLACE[cloud]), run="echo precious > ~/precious")
    world.sky.good("stop", "-y", "c")
    cloned = world.launch("d", places(PLACE[cloud]), "--clone-disk-from", "c")
    # The wire knows images by name and keeps no disks: that the image was made and asked for is what can be seen.
    assert cloned.returncode == 0, cloned.stdout + cloned.stderr
    assert "making an image of the disk of c" in cloned.stderr
    assert images_left(world, cloud) == [], "the machines are there"
    call = {"aws": "RunInstances", "gcp": "compute.instances.insert"}[cloud]
    world.wires[cloud].fail(call, {"aws": "InsufficientInstanceCapacity", "gcp": "ZONE_RESOURCE_POOL_EXHAUSTED"}[cloud])
    failed = world.launch("e", places(PLACE[cloud]), "--clone-disk-from", "c")
    assert failed.returncode != 0 and "making an image" in failed.stderr
    assert images_left(world, cloud) == [], "there will be no machines"


def test_nodes_that_want_the_best_network_stand_in_a_group_of_their_own(world):
    fast = {"infra": "aws/us-east-1", "instance_type": "c5n.18xlarge", "network_tier": "best"}
    ran = world.launch("c", fast, run="echo rank $SKYPILOT_NODE_RANK", num_nodes=2)
    assert ran.returncode == 0 and "rank 1" in ran.stdout, ran.stdout + ran.stderr
    (group,) = world.placement_groups()
    tags = tags_of(group)
    assert tags["sky-cluster-id"] and tags["sky-installation"] in group["GroupName"]
    ids = [host["name"] for host in world.aws.hosts()]
    assert {each["Placement"]["GroupName"] for each in world.instances(ids)} == {group["GroupName"]}
    world.sky.good("down", "-y", "c")
    assert world.left_of_aws(tags["sky-cluster-id"]) == []


def test_a_quota_that_is_too_small_is_known_before_machines_are_asked_for(world):
    quotas = world.client("service-quotas")
    # Of another family than all other tests here: what a quota leaves is believed for a minute.
    gpus = {"ServiceCode": "ec2", "QuotaCode": "L-417A185B"}
    quotas.request_service_quota_increase(**gpus, DesiredValue=192)
    order = [{"infra": "aws/us-east-1", "instance_type": "p4d.24xlarge"}, *places("gcp/us-central1")["ordered"]]
    try:
        ran = world.launch("c", {"ordered": order}, num_nodes=3)
    finally:
        quotas.request_service_quota_increase(**gpus, DesiredValue=1e6)
    assert landed(ran.stdout).startswith("gcp/us-central1"), ran.stdout + ran.stderr
    assert "the quota leaves 2 on-demand p4d.24xlarge in us-east-1" in ran.stderr


def test_capacity_that_is_paid_for_is_used(world):
    asked = {"InstanceType": "m5.2xlarge", "InstancePlatform": "Linux/UNIX", "AvailabilityZone": "us-east-1d"}
    made = world.ec2().create_capacity_reservation(**asked, InstanceCount=2, InstanceMatchCriteria="targeted")
    id = made["CapacityReservation"]["CapacityReservationId"]
    settings = world.sky.root / ".sky" / "config.yaml"
    mine = settings.read_text()
    settings.write_text(json.dumps({**json.loads(mine), "aws": {"specific_reservations": [id]}}))
    try:
        ran = world.launch("c", {"infra": "aws/us-east-1/us-east-1d", "instance_type": "m5.2xlarge"}, num_nodes=2)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        (left,) = world.ec2().describe_capacity_reservations(CapacityReservationIds=[id])["CapacityReservations"]
        assert left["AvailableInstanceCount"] == 0
    finally:
        settings.write_text(mine)
        world.ec2().cancel_capacity_reservation(CapacityReservationId=id)


#: Speaks as the metadata service of a machine of Amazon's that is to be taken away does.
NOTICE = """
sudo ip addr add 169.254.169.254/32 dev lo
cat > /tmp/notice.py <<'END'
import http.server, json, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        self.say(200, "token")
    def do_GET(self):
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 170))
        known = self.path.endswith("/spot/instance-action")
        self.say(200 if known else 404, json.dumps({"action": "terminate", "time": at}))
    def say(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
http.server.ThreadingHTTPServer(("169.254.169.254", 80), Handler).serve_forever()
END
sudo python3 /tmp/notice.py
"""


def test_a_spot_machines_notice_is_in_the_clusters_story(world, eventually):
    ran = world.launch("c", places("aws/us-east-1/us-east-1a", spot=True), "-d", run=NOTICE)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    # In 170 s, less what it took to hear of it: in a hundred and some.
    eventually(lambda: "the machine of rank 0 is taken away in 1" in world.sky.good("events", "c").stdout, 90)
    assert status(world, "c") == "UP", "nothing is ended by it"


def images_left(world, cloud):
    """Images and snapshots that a cloud keeps for us."""
    if cloud == "aws":
        return [each for each in world.left_of_aws() if each.startswith(("ami-", "snap-"))]
    with urllib.request.urlopen(f"{world.gcp.url}/compute/v1/projects/proj/global/images") as answer:
        return [each["name"] for each in json.load(answer)["items"] if each["name"].startswith("sky-")]


def test_who_asks_is_on_record_and_nobody_else_touches_it(world):
    world.launch("c", places("gcp/us-central1"))
    settings = world.sky.root / ".sky" / "config.yaml"
    mine = settings.read_text()
    another = {**json.loads(mine), "gcp": {"project_id": "another", "endpoint": world.gcp.url}}
    settings.write_text(json.dumps(another))
    try:
        done = world.sky("down", "-y", "c")
        assert done.returncode != 0 and "Nothing was touched" in done.stdout + done.stderr
        assert len(world.running()) == 1
    finally:
        settings.write_text(mine)
    world.sky.good("down", "-y", "c")

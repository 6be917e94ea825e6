"""Which container a job runs in: its own, its cluster's, or none."""

from dataclasses import replace

import pytest

from sky.core.model.clusters import Cluster, Phase
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.offers import Offer, Placement
from sky.core.model.statuses import JobStatus
from sky.core.model.tasks import TaskSpec
from sky.engine.containers import container
from sky.engine.jobs import specification

LOGIN = {
    "SKYPILOT_DOCKER_USERNAME": "me",
    "SKYPILOT_DOCKER_PASSWORD": "hidden",
    "SKYPILOT_DOCKER_SERVER": "registry.example",
}
OFFER = Offer("aws", "us-east-1", "us-east-1a", "p5", 8, 64, 1.0, accelerators={"H100": 8.0})


def cluster(offer=OFFER, **task):
    placement = Placement(offer, 1, 8, 64)
    made = Cluster("c1", "one", "u", "default", Phase.UP, 0, 1.0, 1.0, 1, placement=placement)
    return replace(made, task_config=task)


def read(**task):
    return TaskSpec.from_config(task)


def test_the_tasks_own_image_with_its_options():
    task = read(
        resources={"image_id": "docker:a/b:1"},
        config={"docker": {"run_options": ["--shm-size 1g", "-v '/my data:/data'"]}},
    )
    options = ["--shm-size", "1g", "-v", "/my data:/data"]
    assert container(task, cluster()) == {
        "image": "a/b:1",
        "run_options": options,
        "login": None,
        "mounts": [],
    }


def test_files_outside_of_the_home_are_seen_inside():
    launched = cluster(resources={"image_id": "docker:a"}, file_mounts={"/data/x": "./x", "~/y": "./y", "z": "./z"})
    assert container(read(run="true"), launched)["mounts"] == ["/data/x"]
    assert container(read(file_mounts={"/more": "./m"}), launched)["mounts"] == ["/data/x", "/more"]


def test_no_image_is_no_container():
    assert container(read(run="true"), cluster(run="true")) is None
    assert container(read(resources={"infra": "aws/us-east-1", "image_id": "ami-1"}), cluster()) is None


def test_a_job_without_an_image_runs_in_its_clusters():
    launched = {"resources": {"image_id": "docker:a:1"}, "config": {"docker": {"run_options": "--privileged"}}}
    given = container(read(run="true"), cluster(**launched, secrets=LOGIN))
    assert given["image"] == "registry.example/a:1" and given["run_options"] == ["--privileged"]
    assert given["login"]["password"] == "hidden"
    assert container(read(resources={"image_id": "docker:b"}), cluster(**launched))["image"] == "b"


def test_the_entry_that_fits_the_machines_is_read():
    entries = [
        {"infra": "gcp", "image_id": "docker:for-gcp"},
        {"infra": "aws", "accelerators": "A100:1", "image_id": "docker:for-a100"},
        {"infra": "aws", "accelerators": "H100:1", "image_id": "docker:for-h100"},
    ]
    assert container(read(resources={"any_of": entries}), cluster())["image"] == "for-h100"
    regions = {"us-west-2": "docker:west", "us-east-1": "docker:east"}
    assert container(read(resources={"infra": "aws", "image_id": regions}), cluster())["image"] == "east"


def test_options_come_from_the_task_the_launch_and_the_server_in_that_order():
    image = {"image_id": "docker:a"}
    here = {"run_options": ["--shm-size", "1g"]}

    def options(made, settings=here, **task):
        return container(read(**task), made, settings)["run_options"]

    launched = cluster(resources=image)
    told = replace(launched, layers={"docker": {"run_options": "--hostname laid"}})
    assert options(launched, None) == []
    assert options(launched) == ["--shm-size", "1g"]
    assert options(told) == ["--hostname", "laid"], "a list replaces, as everywhere in the layers"
    assert options(told, resources={"image_id": "docker:b"}) == ["--hostname", "laid"]
    by_task = cluster(resources=image, config={"docker": {"run_options": "--init"}})
    assert options(replace(by_task, layers=told.layers)) == ["--init"]
    assert options(told, resources=image, config={"docker": {"run_options": "--privileged"}}) == ["--privileged"]


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("a/b", "registry.example/a/b"),
        ("registry.example/a", "registry.example/a"),
        ("localhost/a", "localhost/a"),
        ("other:5000/a", "other:5000/a"),
    ],
)
def test_an_image_lies_in_the_registry_of_the_login(image, found):
    assert container(read(resources={"image_id": f"docker:{image}"}, envs=LOGIN), cluster())["image"] == found


def test_the_login_is_no_variable_of_the_job():
    config = {
        "resources": {"image_id": "docker:a"},
        "secrets": {**LOGIN, "TOKEN": "t"},
        "envs": {"X": "1"},
        "run": "true",
    }
    job = Job("j1", "c1", "one", "r", "u", JobPhase.SUBMITTING, JobStatus.INIT, 0, 1.0, task_config=config)
    sent = specification(job, cluster())
    assert sent["envs"] == {"X": "1"} and sent["secrets"] == {"TOKEN": "t"}
    assert sent["container"]["login"] == {"server": "registry.example", "username": "me", "password": "hidden"}

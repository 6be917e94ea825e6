"""The configuration: what it refuses, and that it comes through gRPC as it was."""

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from flytekitplugins.skypilot import JobLaunchType, SkyPilot

FULL = SkyPilot(
    cluster_name="c",
    resources={"infra": "aws", "accelerators": {"A100": 8}, "ports": [80, 81], "any_of": [{"cpus": 2}]},
    setup="make",
    envs={"N": "1"},
    secrets=["TOKEN"],
    file_mounts={"~/d": "s3://b/d"},
    workdir={"url": "https://example.org/r.git"},
    num_nodes=2,
    use_spot=False,
    idle_minutes_to_autostop=3,
    down=False,
    retry_until_up=True,
    image="repo/image:1",
)


def through_grpc(custom: dict[str, object]) -> dict[str, object]:
    struct = Struct()
    json_format.ParseDict(custom, struct)
    return json_format.MessageToDict(Struct.FromString(struct.SerializeToString()))


def test_it_comes_through_grpc_as_it_was() -> None:
    back = SkyPilot.from_custom(through_grpc(FULL.to_custom(in_process=False)))
    assert back == FULL
    assert repr(back.num_nodes) == "2", "a float of a Struct is a whole number again"
    assert back.resources is not None
    assert repr(back.resources["ports"]) == "[80, 81]"
    assert SkyPilot.from_custom(through_grpc(SkyPilot().to_custom(in_process=False))) == SkyPilot()


def test_words_of_other_versions_are_left_out() -> None:
    assert SkyPilot.from_custom({"cluster_name": "c", "gravity": 3.0, "setup": None}) == SkyPilot("c")


def test_values_of_secrets_do_not_leave_the_process() -> None:
    config = SkyPilot(secrets={"TOKEN": "value"})
    assert config.to_custom(in_process=True) == {"secrets": {"TOKEN": "value"}}
    assert config.to_custom(in_process=False) == {"secrets": ["TOKEN"]}
    assert "value" not in repr(config)


def test_older_words() -> None:
    assert SkyPilot(resource_config={"cpus": 2}).resources == {"cpus": 2}
    assert SkyPilot(job_launch_type=JobLaunchType.MANAGED).is_managed
    assert not SkyPilot(job_launch_type=JobLaunchType.NORMAL).is_managed
    assert SkyPilot().is_managed
    assert not SkyPilot("c").is_managed


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"cluster_name": "c", "managed": True}, "cannot share 'c'"),
        ({"num_nodes": 0}, "num_nodes is at least 1"),
        ({"idle_minutes_to_autostop": -1}, "would stay for ever"),
        ({"resources": {}, "resource_config": {}}, "older word for resources"),
        ({"managed": False, "job_launch_type": JobLaunchType.MANAGED}, "contradict"),
    ],
)
def test_contradictions_are_refused_where_they_are_written(said: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SkyPilot(**said)  # type: ignore[arg-type]

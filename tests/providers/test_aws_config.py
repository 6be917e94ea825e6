"""The `aws` section: its keys, their forms, and what is wrong with others."""

import pytest

from sky.core.errors import InvalidSkyPilotConfigError
from sky.providers.aws.config import SERVICE_ROLE, AwsConfig, read


def test_nothing_said_is_the_default() -> None:
    assert read({}) == AwsConfig()
    assert read({"vpc_name": None, "labels": None}) == AwsConfig()
    assert read({}).role("any") is None
    assert read({}).security_group("any") is None


def test_all_keys_are_read() -> None:
    config = read(
        {
            "profile": "research",
            "disabled": False,
            "capabilities": ["compute", "storage"],
            "vpc_names": ["first", "second"],
            "subnet_names": ["left"],
            "use_internal_ips": True,
            "ssh_proxy_command": {"us-east-1": "ssh -W %h:%p jump", "us-west-2": None},
            "use_ssm": False,
            "security_group_name": [{"train-*": "trainers"}, {"*": "others"}],
            "disk_encrypted": True,
            "ssh_user": "ec2-user",
            "prioritize_reservations": True,
            "specific_reservations": ["cr-1"],
            "labels": {"team": "blue"},
            "enforce_tags": True,
            "remote_identity": [{"train-*": "trainer-role"}, {"*": "NO_UPLOAD"}],
            "post_provision_runcmd": ["echo one", ["echo", "two words"]],
        }
    )
    assert (config.profile, config.vpc_names, config.subnet_names) == ("research", ("first", "second"), ("left",))
    assert (config.proxy("us-east-1"), config.proxy("us-west-2")) == ("ssh -W %h:%p jump", None)
    assert (config.security_group("train-1"), config.security_group("x")) == ("trainers", "others")
    assert (config.role("train-1"), config.role("x")) == ("trainer-role", None)
    assert config.first_commands == ("echo one", ("echo", "two words"))
    assert (config.private, config.disk_encrypted, config.ssh_user) == (True, True, "ec2-user")


def test_short_forms() -> None:
    config = read({"vpc_name": "v", "security_group_name": "g", "ssh_proxy_command": "p", "subnet_names": "s"})
    assert (config.vpc_names, config.security_group("c"), config.proxy("r")) == (("v",), "g", "p")
    assert config.subnet_names == ("s",)


@pytest.mark.parametrize(
    ("identity", "role"),
    [
        ("SERVICE_ACCOUNT", SERVICE_ROLE),
        ("service_account", SERVICE_ROLE),
        ("LOCAL_CREDENTIALS", None),
        ("no_upload", None),
        ("none", None),
        ("my-role", "my-role"),
    ],
)
def test_machines_have_credentials_only_when_asked_for(identity: str, role: str | None) -> None:
    assert read({"remote_identity": identity}).role("c") == role


def test_an_unknown_key_is_told_with_the_nearest() -> None:
    with pytest.raises(InvalidSkyPilotConfigError, match=r"aws.*did you mean 'use_internal_ips'"):
        read({"use_internal_ip": True})
    with pytest.raises(InvalidSkyPilotConfigError, match="infra: aws/<region>"):
        read({"region": "us-east-1"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"use_internal_ips": "yes"},
        {"security_group_name": [["a", "b"]]},
        {"labels": {"a": {}}},
        {"post_provision_runcmd": "echo"},
        {"vpc_names": [1]},
        {"capabilities": ["fly"]},
        {"ssh_proxy_command": ["a"]},
    ],
)
def test_wrong_kinds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidSkyPilotConfigError):
        read(wrong)

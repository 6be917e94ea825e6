"""Who asks Google Cloud, and by which settings: credentials as Google's own tools keep them, and the `gcp` section."""

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcp_bed import Bed
from gcp_front import front

from sky.core.errors import CredentialsRejected, InvalidSkyPilotConfigError
from sky.providers.gcp import access, rest
from sky.providers.gcp.access import Accounts
from sky.providers.gcp.compute import open_gcp
from sky.providers.gcp.config import SECTION, Queue, read_config
from sky.providers.registry import Registry, Settings

WHO = "robot@own-project.iam.gserviceaccount.com"
INTERFACE = [
    "vpc_name",
    "subnet_names",
    "use_internal_ips",
    "force_enable_external_ips",
    "ssh_proxy_command",
    "prioritize_reservations",
    "specific_reservations",
    "managed_instance_group",
    "placement_policy",
    "enable_gvnic",
    "enable_gpu_direct",
    "labels",
    "capabilities",
    "remote_identity",
]


def settings(home, config=None, **environment):
    return Settings(home, lambda: config or {}, lambda: "inst", None, environment, home)


def service_account(home, **more):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(encoding, kind, serialization.NoEncryption()).decode()
    told = {"type": "service_account", "client_email": WHO, "project_id": "own-project", "private_key": secret}
    path = home / "key.json"
    path.write_text(json.dumps({**told, "private_key_id": "1", "token_uri": "http://127.0.0.1:1/token", **more}))
    return str(path)


def test_who_logs_in_anew_is_seen_by_a_server_that_runs_on(tmp_path):
    named = service_account(tmp_path)
    accounts = Accounts(settings(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=named))
    before = accounts.account(read_config({}))
    assert accounts.account(read_config({})) is before
    service_account(tmp_path, client_email="other@own-project.iam.gserviceaccount.com")
    assert accounts.account(read_config({})).principal == "other@own-project.iam.gserviceaccount.com"


def test_a_service_account_brings_its_project(tmp_path):
    named = service_account(tmp_path)
    found = Accounts(settings(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=named)).account(read_config({}))
    assert (found.project, found.principal) == ("own-project", WHO)
    assert found.compute == "https://compute.googleapis.com" and "PRIVATE" not in repr(found)
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": named, "GOOGLE_CLOUD_PROJECT": "other"}
    accounts = Accounts(settings(tmp_path, **environment))
    assert accounts.account(read_config({})).project == "other"
    assert accounts.account(read_config({"project_id": "chosen"})).project == "chosen"


def test_the_command_lines_project_is_read_from_its_file(tmp_path):
    folder = tmp_path / ".config" / "gcloud"
    (folder / "configurations").mkdir(parents=True)
    (folder / "active_config").write_text("work\n")
    (folder / "configurations" / "config_work").write_text("[core]\nproject = of-gcloud\n")
    named = service_account(tmp_path, project_id="")
    found = Accounts(settings(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=named)).account(read_config({}))
    assert found.project == "of-gcloud"


async def test_nobody_is_told_what_to_do(tmp_path):
    told = await open_gcp(settings(tmp_path)).check()
    assert not told.enabled and told.credentials is False and "1. Install" in told.hint
    assert "gcloud auth application-default login" in told.reason
    named = service_account(tmp_path, project_id="")
    told = await open_gcp(settings(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=named)).check()
    assert not told.enabled and "gcloud config set project" in told.reason
    told = await open_gcp(settings(tmp_path, {"vpc": "x"})).check()
    assert not told.enabled and "did you mean 'vpc_name'?" in told.reason


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"type": "service_account"}', '{"type": "odd", "private_key": "s3cret"}']
)
def test_a_file_that_is_not_usable_is_named_and_not_shown(tmp_path, content):
    (tmp_path / "key.json").write_text(content)
    accounts = Accounts(settings(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "key.json")))
    with pytest.raises(CredentialsRejected) as told:
        accounts.account(read_config({}))
    assert "key.json" in told.value.reason and "s3cret" not in told.value.reason
    with pytest.raises(CredentialsRejected, match="cannot be read"):
        Accounts(settings(tmp_path, GOOGLE_APPLICATION_CREDENTIALS="/no/such/file")).account(read_config({}))


async def test_requests_are_signed_and_a_login_that_ended_is_told(tmp_path, gcp_wire, monkeypatch):
    monkeypatch.setattr(rest, "_FIRST_DELAY_S", 0.01)
    with front(gcp_wire.url) as ahead:
        monkeypatch.setattr(access, "_COMPUTE", ahead.url)
        named = service_account(tmp_path, token_uri=f"{ahead.url}/token")
        compute = open_gcp(settings(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=named))
        told = await compute.check()
        assert told.enabled, told.reason
        assert told.account == f"{WHO} [project own-project]" and "Bearer token-1" in ahead.bearers
        assert await compute.identity() == f"own-project/{WHO}"
        ahead.token = (400, {"error": "invalid_grant", "error_description": "account not found"})
        told = await open_gcp(settings(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=named)).check()
        assert not told.enabled and "application-default login" in told.reason and told.credentials


async def test_whose_a_users_login_is_is_asked(tmp_path, gcp_wire, monkeypatch):
    folder = tmp_path / ".config" / "gcloud"
    folder.mkdir(parents=True)
    login = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    (folder / "application_default_credentials.json").write_text(json.dumps({**login, "quota_project_id": "pays"}))
    with front(gcp_wire.url) as ahead:
        monkeypatch.setattr(access, "_WHO", f"{ahead.url}/tokeninfo")
        monkeypatch.setattr(access.user, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{ahead.url}/token")
        assert await open_gcp(settings(tmp_path)).identity() == "pays/me@example.com"
        ahead.token = (400, {"error": "invalid_grant"})
        with pytest.raises(CredentialsRejected, match="application-default login"):
            await open_gcp(settings(tmp_path)).identity()


async def test_the_endpoint_of_the_environment_takes_no_credentials(tmp_path, gcp_wire):
    made = open_gcp(settings(tmp_path, SKY_GCP_ENDPOINT=gcp_wire.url, GOOGLE_CLOUD_PROJECT="p"))
    assert await made.identity() == "p/anonymous" and await made.list() == []


async def test_the_registry_opens_it(tmp_path, gcp_wire):
    bed = Bed(gcp_wire, tmp_path)
    registry = Registry(tmp_path, lambda cloud: bed.config, {}, tmp_path)
    assert "gcp" in registry.names() and (await registry.check("gcp")).enabled


# --- settings ------------------------------------------------------------------------------------------------------


def test_all_keys_of_the_interface_are_known():
    assert set(INTERFACE) <= set(SECTION.fields)
    made = read_config(
        {
            "vpc_name": "host-project/net",
            "subnet_names": "one",
            "ssh_proxy_command": "nc %h %p",
            "managed_instance_group": {"run_duration": 60},
            "placement_policy": "COMPACT",
            "labels": {"a": "b"},
            "specific_reservations": ["r"],
            "use_internal_ips": None,
        }
    )
    assert (made.vpc_project, made.vpc, made.network, made.subnets) == ("host-project", "net", "net", ("one",))
    assert made.proxy_command("anywhere") == "nc %h %p" and made.compact and made.queue == Queue(60.0, 900.0)
    assert made.internal_ips is False and read_config({}).proxy_command("x") == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"vpc_nam": "x"}, "did you mean 'vpc_name'?"),
        ({"use_internal_ips": "yes"}, "use_internal_ips"),
        ({"vpc_name": "a/b/c"}, "PROJECT/NAME"),
        ({"vpc_name": "Net"}, "PROJECT/NAME"),
        ({"subnet_names": ["../x"]}, "names of subnets"),
        ({"labels": {"Team": "x"}}, "gcp.labels.Team"),
        ({"labels": {"team": "X y"}}, "gcp.labels.team"),
        ({"placement_policy": "spread"}, "compact"),
        ({"managed_instance_group": {"run_durations": 1}}, "did you mean 'run_duration'?"),
        ({"managed_instance_group": {"provision_timeout": -1}}, "at least 0"),
        ({"project_id": "a b"}, "id of a project"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(given, said):
    with pytest.raises(InvalidSkyPilotConfigError) as told:
        read_config(given)
    assert said in str(told.value) and "gcp" in str(told.value)

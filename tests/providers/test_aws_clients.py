"""Who asks: credentials as Amazon's other tools find them, from this provider's environment and home alone."""

import asyncio
from pathlib import Path

import pytest
from aws_world import HOME, Stage, World, ask, stage, staged, world

from sky.core.errors import CredentialsRejected
from sky.providers.aws import clients
from sky.providers.aws.compute import open_aws
from sky.providers.registry import Registry, Settings

__all__ = ["stage", "staged", "world"]

SECRET = "AKIAVERYSECRETINDEED"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def without_keys(world: World) -> None:
    for key in KEYS:
        world.environment.pop(key)


def write_profiles(folder: Path) -> None:
    (folder / ".aws").mkdir()
    (folder / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = s\n"
        "[research]\naws_access_key_id = AKIARESEARCH\naws_secret_access_key = s\n"
    )


def key_used(stage: Stage) -> str:
    """The access key that signed the last call."""
    return stage.signed[-1].partition("Credential=")[2].partition("/")[0]


async def test_whose_account_it_is(world: World) -> None:
    access = await world.compute.check()
    assert (access.enabled, access.credentials) == (True, True)
    assert "123456789012" in (access.account or "")
    assert await world.compute.identity() == await world.compute.identity() == "123456789012:AKIAIOSFODNN7EXAMPLE"


async def test_no_credentials_are_told_with_what_to_do(world: World) -> None:
    without_keys(world)
    access = await world.compute.check()
    assert (access.enabled, access.credentials) == (False, False)
    assert access.reason.startswith("no credentials: looked in $AWS_ACCESS_KEY_ID, $AWS_PROFILE, ")
    assert "aws configure" in access.hint
    with pytest.raises(CredentialsRejected):
        await world.compute.identity()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("credentials", f"[default]\naws_access_key_id = {SECRET}\n", "aws_secret_access_key"),
        ("credentials", f"[other]\naws_access_key_id = {SECRET}\n", "not for the profile that is used"),
        ("config", "[sso-session x]\nsso_start_url = https://x\n", "~/.aws/config"),
        ("config", "[default]\nsso_session = gone\n", "~/.aws/config"),
    ],
)
async def test_credentials_that_are_no_use_are_named_and_never_told(
    world: World, name: str, content: str, words: str
) -> None:
    without_keys(world)
    (world.folder / ".aws").mkdir()
    (world.folder / ".aws" / name).write_text(content)
    access = await world.compute.check()
    assert (access.enabled, access.credentials) == (False, True)
    assert words in access.reason
    assert SECRET not in repr(access)


async def test_credentials_that_expired(world: World) -> None:
    world.wire.fail("GetCallerIdentity", "ExpiredToken", message="The security token included is expired")
    access = await world.compute.check()
    assert (access.enabled, access.credentials) == (False, True)
    assert "expired" in access.reason and access.hint


async def test_a_wrong_section_disables_with_its_reason(world: World) -> None:
    world.config = {"vpcname": "x"}
    access = await world.compute.check()
    assert not access.enabled
    assert "did you mean 'vpc_name'" in access.reason


async def test_the_environment_comes_first_then_files(staged: World, stage: Stage) -> None:
    write_profiles(staged.folder)
    await staged.compute.identity()
    assert key_used(stage) == "test"
    without_keys(staged)
    files = staged.other(staged.ring)
    await files.identity()
    assert key_used(stage) == "AKIADEFAULT"
    staged.environment["AWS_PROFILE"] = "research"
    await files.identity()
    assert key_used(stage) == "AKIARESEARCH"


async def test_the_profile_of_the_configuration_wins(staged: World, stage: Stage) -> None:
    write_profiles(staged.folder)
    await staged.compute.identity()
    staged.config = {"profile": "research"}
    await staged.compute.identity()
    assert key_used(stage) == "AKIARESEARCH"
    staged.config = {"profile": "nobody"}
    access = await staged.compute.check()
    assert not access.enabled and "nobody" in access.reason


async def test_who_logs_in_anew_is_seen_by_a_server_that_runs_on(staged: World, stage: Stage) -> None:
    without_keys(staged)
    write_profiles(staged.folder)
    await staged.compute.identity()
    path = staged.folder / ".aws" / "credentials"
    path.write_text(path.read_text().replace("AKIADEFAULT", "AKIALATER"))
    await staged.compute.identity()
    assert key_used(stage) == "AKIALATER"


async def test_a_file_that_a_variable_names(staged: World, stage: Stage) -> None:
    without_keys(staged)
    path = staged.folder / "elsewhere"
    path.write_text("[default]\naws_access_key_id = AKIAELSEWHERE\naws_secret_access_key = s\n")
    staged.environment["AWS_SHARED_CREDENTIALS_FILE"] = str(path)
    await staged.compute.identity()
    assert key_used(stage) == "AKIAELSEWHERE"


async def test_all_regions_that_are_switched_on_are_looked_at(staged: World, stage: Stage) -> None:
    assert await staged.compute.list() == []
    regions = {each.split("/")[2] for each in stage.signed if "/ec2/" in each}
    listed = {raw["RegionName"] for raw in staged.client().describe_regions()["Regions"]}
    assert regions == listed and HOME in regions


async def test_it_is_found_by_name(tmp_path: Path) -> None:
    registry = Registry(tmp_path, lambda _: {}, {}, tmp_path)
    assert "aws" in registry.names()
    assert type(registry.compute("aws")) is type(open_aws(Settings(tmp_path, dict, environment={}, home=tmp_path)))


async def test_long_lists_come_in_pages(staged: World, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = ask(), ask()
    await asyncio.gather(staged.compute.create(one), staged.compute.create(other))
    before = len(stage.calls("DescribeInstances"))
    monkeypatch.setattr(clients, "_ON_PAGE", 1)
    assert len(await staged.compute.list(regions=[HOME])) == 2
    pages = stage.calls("DescribeInstances")[before:]
    assert [each["MaxResults"] for each in pages] == ["1", "1"] and "NextToken" in pages[1]

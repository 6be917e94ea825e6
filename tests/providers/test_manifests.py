"""Places known by their manifest alone: what they say, and how the registry finds credentials without taking them."""

import importlib.util
from pathlib import Path

import pytest

from sky.core.errors import NotSupportedError
from sky.core.model.clouds import CLOUD_NAMES
from sky.providers.credentials import found
from sky.providers.registry import FEATURES, Manifest, Registry

SECRET = "do-not-tell-9c41"
FOLDERS = sorted(
    path.name for path in (Path(__file__).parents[2] / "src/sky/providers").iterdir() if (path / "manifest.py").exists()
)


def manifest_of(folder: str) -> Manifest:
    return importlib.import_module(f"sky.providers.{folder}.manifest").MANIFEST


def registry(home: Path, **environment: str) -> Registry:
    return Registry(home / "state", lambda cloud: {}, environment, home)


def put(home: Path, name: str, text: str) -> None:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_manifest_is_whole(folder: str) -> None:
    made = manifest_of(folder)
    assert made.name in CLOUD_NAMES
    assert made.offered is None or made.offered <= FEATURES
    if made.factory:
        return
    assert made.credentials and made.fix and not made.capabilities
    assert all(each.partition(":")[0] in ("env", "env-file", "file") for each in made.credentials)
    assert all(each.endswith(".") for each in made.fix)
    readme = importlib.util.find_spec(f"sky.providers.{folder}").submodule_search_locations[0] + "/README.md"
    assert f"`infra: {made.name}`" in Path(readme).read_text()


@pytest.mark.parametrize("folder", FOLDERS)
def test_prices_are_promised_where_there_are_some(folder: str) -> None:
    has = importlib.util.find_spec(f"sky.providers.{folder}.prices") is not None
    source = manifest_of(folder).price_source()
    assert callable(source) if has else source is None


def test_every_manifest_is_found_by_its_entry_point(tmp_path: Path) -> None:
    known = registry(tmp_path)
    assert set(known.places()) == {manifest_of(folder).name for folder in FOLDERS}
    assert set(known.names()) == {made.name for made in map(manifest_of, FOLDERS) if made.factory}
    assert known.offered("runpod") == {"autodown", "spot", "ports", "docker", "image", "controllers"}
    assert known.offered("hyperbolic") == frozenset()
    assert known.offered("vultr") is None
    with pytest.raises(NotSupportedError, match="nowhere"):
        known.offered("nowhere")


async def test_without_credentials_the_steps_are_told(tmp_path: Path) -> None:
    access = await registry(tmp_path).check("lambda")
    assert (access.enabled, access.credentials) == (False, False)
    assert access.reason == "no credentials: looked in $LAMBDA_API_KEY, ~/.lambda_cloud/lambda_keys"
    assert [line[:2] for line in access.hint.splitlines()] == ["1.", "2."]


@pytest.mark.parametrize(
    ("cloud", "environment", "files", "where"),
    [
        ("verda", {}, {".verda/config.json": f'{{"a": 1, "client_id": "{SECRET}"}}'}, "~/.verda/config.json"),
        ("hetzner", {}, {".config/hcloud/cli.toml": f"[[contexts]]\n  token = '{SECRET}'\n"}, "cli.toml"),
        ("do", {}, {".config/doctl/config.yaml": f"context: x\naccess-token: {SECRET}\n"}, "doctl/config.yaml"),
        ("fluidstack", {}, {".fluidstack/api_key": SECRET}, "~/.fluidstack/api_key"),
    ],
)
async def test_found_credentials_are_named_and_never_told(tmp_path, cloud, environment, files, where) -> None:
    for name, text in files.items():
        put(tmp_path, name, text)
    access = await registry(tmp_path, **environment).check(cloud)
    assert (access.enabled, access.credentials) == (False, True)
    assert access.reason.startswith("credentials found in ") and where in access.reason
    assert "cannot rent machines there yet" in access.reason
    assert SECRET not in repr(access)


@pytest.mark.parametrize(
    ("cloud", "environment", "files"),
    [
        ("aws", {}, {".aws/config": "[default]\nregion = us-east-1\n"}),
        ("aws", {"AWS_ACCESS_KEY_ID": " "}, {".aws/credentials": ""}),
        ("gcp", {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere/key.json"}, {}),
        ("do", {}, {".config/doctl/config.yaml": 'access-token: ""\ncontext: access-token\n'}),
        ("primeintellect", {}, {".prime/config.json": '{\n  "api_key": null,\n  "team_id": "api_key"\n}'}),
        ("vultr", {}, {".vultr-cli.yaml/inside": "api-key: x"}),
    ],
)
async def test_what_holds_no_credentials_counts_for_nothing(tmp_path, cloud, environment, files) -> None:
    for name, text in files.items():
        put(tmp_path, name, text)
    assert (await registry(tmp_path, **environment).check(cloud)).credentials is False


def test_a_file_that_cannot_be_read_is_not_a_crash(tmp_path: Path) -> None:
    put(tmp_path, "loop/x", "")
    (tmp_path / "link").symlink_to(tmp_path / "link")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00token = x" * 100_000)
    assert found(["file:~/link#token", "file:~/link", "file:~/binary#token"], {}, tmp_path) is None


async def test_this_machine_and_a_stranger(tmp_path: Path) -> None:
    known = registry(tmp_path)
    assert (await known.check("local")).enabled
    refused = await known.check("nowhere")
    assert not refused.enabled and refused.credentials is None and "nowhere" in refused.reason


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"disabled": True}, "gcp.disabled is set in the configuration"),
        ({"capabilities": []}, "gcp.capabilities of the configuration does not name 'compute'"),
        ({"capabilities": ["storage"]}, "gcp.capabilities of the configuration does not name 'compute'"),
    ],
)
async def test_a_place_that_is_left_out_says_by_which_setting(
    tmp_path: Path, settings: dict[str, object], reason: str
) -> None:
    said = {"gcp": settings}
    known = Registry(tmp_path / "state", lambda cloud: said.get(cloud, {}), {}, tmp_path)
    access = await known.check("gcp")
    assert (access.enabled, access.reason) == (False, reason)
    assert "gcp." in access.hint
    for allowed in ({"disabled": False}, {"capabilities": ["compute"]}, {}):
        said["gcp"] = allowed
        assert (await known.check("gcp")).reason not in (reason, "")

"""What a task mounts: storage, services' neighbours volumes, and what does not fit together."""

import pytest

from sky.core.errors import (
    StorageModeError,
    StorageNameError,
    StorageSourceError,
    StorageSpecError,
    VolumeTopologyConflictError,
)
from sky.core.model.infra import Infra
from sky.core.model.storage import StorageMode, StorageSpec, is_cloud_uri, is_remote_source
from sky.core.model.volumes import VolumeKind, VolumeSpec, check_topology


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({}, StorageSpecError, "neither name nor source"),
        ({"name": "ab"}, StorageNameError, "3 to 63"),
        ({"name": "Upper"}, StorageNameError, "lower-case"),
        ({"source": "~/x"}, StorageNameError, "without a name for its bucket"),
        ({"source": "~/x/", "name": "bucket"}, StorageSourceError, "without a '/' at its end"),
        ({"source": "s3://b", "name": "bucket"}, StorageSpecError, "allowed: one of them"),
        ({"source": "gss://b"}, StorageSourceError, "did you mean 'gs://'"),
        ({"source": ["a/x", "b/x"], "name": "bucket"}, StorageSourceError, "two sources called 'x'"),
        ({"source": ["s3://x"], "name": "bucket"}, StorageSourceError, "local paths in a list"),
        ({"source": [], "name": "bucket"}, StorageSourceError, "an empty list"),
        ({"source": "s3://b", "mode": "COPY", "type": "DATASET_RO"}, StorageModeError, "MOUNT_CACHED with a type"),
        ({"source": "s3://b", "config": {"mount_cached": {"transfers": 1}}}, StorageModeError, "MOUNT_CACHED with it"),
    ],
)
def test_what_does_not_fit_together(config: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        StorageSpec.from_config(config)


def test_defaults() -> None:
    spec = StorageSpec.from_config({"name": "bucket"})
    assert (spec.mode, spec.persistent, spec.source) == (StorageMode.MOUNT, True, None)
    assert StorageSpec.from_config({"source": "s3://b", "type": "DATASET_RW"}).mode is StorageMode.MOUNT_CACHED


@pytest.mark.parametrize("scheme", ["s3", "gs", "r2", "cos", "oci", "nebius", "cw", "vastdata", "hf"])
def test_addresses_of_object_stores(scheme: str) -> None:
    assert is_cloud_uri(f"{scheme}://bucket/path")
    assert StorageSpec.from_config({"source": f"{scheme}://bucket/path"}).source == f"{scheme}://bucket/path"


def test_azure_is_told_by_its_host() -> None:
    assert is_cloud_uri("https://account.blob.core.windows.net/container")
    assert not is_cloud_uri("https://example.com/x")
    assert is_remote_source("https://example.com/x")
    assert not is_remote_source("~/x")


@pytest.mark.parametrize(
    ("value", "kind"),
    [("v", VolumeKind.NAMED), ({"size": 5}, VolumeKind.EPHEMERAL), ({"host_path": "/x"}, VolumeKind.HOST_PATH)],
)
def test_forms_of_volumes(value: str | dict[str, object], kind: VolumeKind) -> None:
    assert VolumeSpec.from_config(value).kind is kind


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "an empty text"),
        ({}, "none of them"),
        ({"host_path": "/x", "sub_path": "y"}, "sub_path beside host_path; allowed with it: nothing"),
        ({"name": "v", "labels": {}}, "labels beside name; allowed with it: sub_path"),
        ({"size": "tiny"}, "a size in whole GB"),
    ],
)
def test_volumes_that_are_refused(value: str | dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VolumeSpec.from_config(value)


def test_volumes_agree_on_a_place() -> None:
    places = {"a": Infra("aws"), "b": Infra("aws", "us-east-1"), "c": Infra()}
    assert check_topology(places) == Infra("aws", "us-east-1")
    with pytest.raises(VolumeTopologyConflictError, match="Volume b lies in gcp, but a in aws"):
        check_topology({"a": Infra("aws"), "b": Infra("gcp")})

"""``sky.Storage``: a full description, and a plain word about what is not built."""

import pytest

import sky
from sky.core.errors import InvalidSkyPilotConfigError, NotSupportedError, StorageNameError
from sky.sdk.storage import Storage


def test_a_description_is_read_back() -> None:
    made = Storage("bucket", ["a/x", "b/y"], stores=[sky.StoreType.S3], persistent=False, mode=sky.StorageMode.COPY)
    assert made.to_yaml_config() == {
        "name": "bucket",
        "source": ["a/x", "b/y"],
        "store": "S3",
        "persistent": False,
        "mode": "COPY",
    }
    again = Storage.from_yaml_config(made.to_yaml_config())
    assert again.to_spec() == made.to_spec()
    assert (again.name, again.source, again.mode, again.persistent) == (
        "bucket",
        ["a/x", "b/y"],
        sky.StorageMode.COPY,
        False,
    )
    assert "bucket" in repr(again)


def test_stores_are_added_by_word() -> None:
    made = Storage("bucket")
    made.add_store("s3")
    assert made.stores == {sky.StoreType.S3: None}
    assert made.to_spec().store is sky.StoreType.S3
    with pytest.raises(ValueError, match="Unknown object store 'floppy'; allowed: S3"):
        made.add_store("floppy")


def test_settings_of_cached_mounts() -> None:
    made = Storage(
        source="s3://b", mode="MOUNT_CACHED", mount_cached_config={"transfers": 4}, file_mount_type="DATASET_RO"
    )
    assert made.to_yaml_config()["config"] == {"mount_cached": {"transfers": 4}}


def test_what_is_refused() -> None:
    with pytest.raises(StorageNameError):
        Storage("X")
    with pytest.raises(InvalidSkyPilotConfigError, match=r"Invalid storage YAML: .*did you mean 'source'"):
        Storage.from_yaml_config({"sorce": "x"})
    with pytest.raises(InvalidSkyPilotConfigError, match="is a mapping"):
        Storage.from_yaml_config("s3://b")  # type: ignore[arg-type]


def test_what_needs_an_object_store_says_so() -> None:
    made = Storage("bucket")
    for call in (made.construct, made.sync_all_stores, made.delete):
        with pytest.raises(NotSupportedError, match="is not supported yet"):
            call()

"""Messages: strict in what they take, plain in what they tell."""

import json

import pytest

from sky.core.errors import ClientError
from sky.wire.clusters import LaunchBody, StatusBody, accelerators_text, creation_text, user_hash
from sky.wire.codec import decode, encode, plain
from sky.wire.jobs import Frame, frame, line
from sky.wire.uploads import read_manifest


def test_empty_body_means_defaults() -> None:
    assert plain(decode(StatusBody, b"")) == {
        "cluster_names": None,
        "refresh": "NONE",
        "all_users": False,
        "include_credentials": False,
        "summary": False,
        "include_managed": False,
    }


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"task": {}, "dryrun": "yes"}', r"\$\.dryrun"),
        (b"{}", "`task`"),
        (b'{"task": []}', r"\$\.task"),
        (b'{"task": {}, "uploads": {"a": 1}}', "uploads"),
        (b"nonsense", "not JSON"),
    ],
)
def test_bad_bodies_name_the_field(data: bytes, says: str) -> None:
    with pytest.raises(ClientError, match=says):
        decode(LaunchBody, data)


def test_bodies_do_not_share_their_defaults() -> None:
    first, second = decode(LaunchBody, b'{"task":{}}'), decode(LaunchBody, b'{"task":{}}')
    first.uploads["a"] = "b"
    assert second.uploads == {}


def test_frames_carry_text_as_text_and_bytes_as_bytes() -> None:
    assert json.loads(frame("é".encode(), 2)) == {"t": "é", "o": 2}
    assert json.loads(frame(b"\xff", 1)) == {"b": "/w==", "o": 1}
    assert line(Frame(end="SUCCEEDED", code=0)) == b'{"end":"SUCCEEDED","code":0}\n'


def test_secrets_stay_out_of_the_creation_text() -> None:
    told = creation_text({"run": "x", "secrets": {"K": "value"}})
    assert "value" not in told
    assert json.loads(told)["secrets"] == {"K": "<redacted>"}
    assert json.loads(creation_text({"run": "x"})) == {"run": "x"}


def test_small_texts() -> None:
    assert accelerators_text({"H100": 8.0, "A100": 0.5}) == "H100:8, A100:0.5"
    assert accelerators_text({}) is None
    assert len(user_hash("somebody")) == 8


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../b", "a//b", "a/"])
def test_manifest_with_a_path_outside_is_refused(path: str) -> None:
    with pytest.raises(ClientError, match="outside"):
        read_manifest(encode([{"path": path, "type": "file"}]))


def test_no_text_may_hold_a_nul() -> None:
    with pytest.raises(ClientError, match="NUL"):
        read_manifest(encode([{"path": "a\0b", "type": "file"}]))


def test_manifest_is_read() -> None:
    entries = read_manifest(encode([{"path": "", "type": "file", "size": 3}, {"path": "a/b", "type": "link"}]))
    assert [entry.path for entry in entries] == ["", "a/b"]
    with pytest.raises(ClientError):
        read_manifest(b'[{"path": "a", "type": "device"}]')

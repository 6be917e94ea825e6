"""The keys that records are sealed with: made once, private, rotated, and wrapped by a KMS where one is named."""

import base64
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sky.server.assembly import build
from sky.server.settings import Settings
from sky.server.vault import KeyFile, hook_of

KMS = """
import base64, sys
given = base64.b64decode(sys.stdin.read())
sys.stdout.write(base64.b64encode(bytes(each ^ 0x55 for each in given)).decode())
"""


def flipped(verb, given):
    """Stands in for a KMS."""
    return bytes(each ^ 0x55 for each in given)


def test_made_at_the_first_use_for_its_owner_only(tmp_path):
    path = tmp_path / "keys" / "sealing.keys"
    id, key = KeyFile(path).current()
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyFile(path).current() == (id, key)
    path.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        KeyFile(path).current()


def test_of_servers_that_start_at_once_one_makes_it(tmp_path):
    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(lambda _: KeyFile(tmp_path / "k").current(), range(12)))) == 1


def test_rotation_keeps_earlier_keys_and_is_seen_by_others(tmp_path):
    one, two = KeyFile(tmp_path / "k"), KeyFile(tmp_path / "k")
    old, key = one.current()
    assert two.current() == (old, key)
    new = one.rotate()
    assert one.current()[0] == new != old
    assert KeyFile(tmp_path / "k").current()[0] == new, "who looks for the first time; others see it within a second"
    assert two.key(old) == key
    assert two.key("none") is None


@pytest.mark.parametrize("how", ["command", "function"])
def test_a_kms_wraps_what_is_on_disk(tmp_path, how):
    section = {"command": [sys.executable, "-c", KMS]} if how == "command" else {}
    hook = hook_of(section) if section else flipped
    id, key = KeyFile(tmp_path / "k", hook).current()
    text = (tmp_path / "k").read_text()
    assert base64.b64encode(key).decode() not in text
    assert text.split()[1] == "wrapped"
    assert KeyFile(tmp_path / "k", hook).current() == (id, key)
    with pytest.raises(ValueError, match=r"encryption\.command"):
        KeyFile(tmp_path / "k").current()


def test_a_kms_that_refuses_is_told_of_and_one_that_is_missing(tmp_path):
    with pytest.raises(ValueError, match="ended with 3: no access"):
        KeyFile(
            tmp_path / "k",
            hook_of(
                {"command": [sys.executable, "-c", "import sys; print('no access', file=sys.stderr); sys.exit(3)"]}
            ),
        ).current()
    with pytest.raises(ValueError, match=r"encryption\.function"):
        hook_of({"function": "nowhere:at_all"})
    assert hook_of({"function": "os.path:join"})
    assert hook_of({}) is None


@pytest.mark.parametrize("line", ["x", "a plain AA==", "a plain %%", "a other QQ=="])
def test_a_file_that_is_none_of_ours_is_refused(tmp_path, line):
    (tmp_path / "k").touch(mode=0o600)
    (tmp_path / "k").write_text(line)
    with pytest.raises(ValueError, match=str(tmp_path)):
        KeyFile(tmp_path / "k").current()


async def test_the_server_seals_with_them(tmp_path: Path):
    plane = build(Settings(tmp_path))
    await plane.store.connect()
    await plane.submit("launch", {"task": {"secrets": {"A": "open-sesame"}}, "cluster_name": "c"}, user="u")
    found = [path for path in tmp_path.rglob("*") if path.is_file() and b"open-sesame" in path.read_bytes()]
    assert found == []
    await plane.store.close()

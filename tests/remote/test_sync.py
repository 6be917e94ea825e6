"""Sync by content against a real agent: only what changed travels, only what was synced is removed, nothing escapes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from sky.remote.errors import AgentError, SyncFailed
from sky.remote.sync import HashCache, sync_tree


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "project"
    (root / "pkg" / "empty").mkdir(parents=True)
    (root / "main.py").write_text("print('main')\n")
    (root / "pkg" / "mod.py").write_text("x = 1\n")
    (root / "pkg" / "copy.py").write_text("x = 1\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("main.py")
    (root / "ünï ©ode\n.txt").write_bytes(b"\xff\x00")
    return root


def listing(root: Path):
    found = {}
    for folder, dirs, files in os.walk(root):
        for name in dirs + files:
            path = Path(folder, name)
            if path.is_symlink():
                found[str(path.relative_to(root))] = ("link", str(path.readlink()))
            elif path.is_dir():
                found[str(path.relative_to(root))] = ("dir",)
            else:
                found[str(path.relative_to(root))] = (path.stat().st_mode & 0o777, path.read_bytes())
    return found


async def test_a_tree_arrives_as_it_is_and_again_costs_nothing(client, place, tree):
    report = await sync_tree(client, tree, "~/sky_workdir")
    assert listing(place.home / "sky_workdir") == listing(tree)
    assert report.files == 5 and report.written == 6 and report.bytes_total == 14 + 6 + 6 + 10 + 2
    assert report.bytes_sent == report.bytes_total - 6  # equal contents travel once
    again = await sync_tree(client, tree, "~/sky_workdir")
    assert (again.bytes_sent, again.written, again.removed) == (0, 0, 0)


async def test_only_what_changed_travels_and_only_what_was_synced_is_removed(client, place, tree):
    dest = place.home / "sky_workdir"
    await sync_tree(client, tree, "~/sky_workdir")
    (dest / "results.csv").write_text("mine")
    (dest / "pkg" / "empty" / "mine").write_text("mine")
    (dest / "run.sh").write_text("changed on the node")
    (tree / "main.py").write_text("print('new')\n")
    (tree / "pkg" / "mod.py").unlink()
    (tree / "run.sh").unlink()
    (tree / "link").unlink()
    (tree / "pkg" / "empty").rmdir()
    report = await sync_tree(client, tree, "~/sky_workdir")
    assert (report.bytes_sent, report.written, report.removed) == (13, 1, 2)
    assert (dest / "main.py").read_text() == "print('new')\n"
    assert (dest / "results.csv").read_text() == (dest / "pkg/empty/mine").read_text() == "mine"
    assert (dest / "run.sh").read_text() == "changed on the node"
    assert not (dest / "pkg" / "mod.py").exists() and not (dest / "link").is_symlink()


async def test_without_delete_nothing_is_removed(client, place, tree):
    await sync_tree(client, tree, "~/sky_workdir")
    (tree / "main.py").unlink()
    assert (await sync_tree(client, tree, "~/sky_workdir", delete=False)).removed == 0
    assert (place.home / "sky_workdir" / "main.py").exists()
    assert (await sync_tree(client, tree, "~/sky_workdir")).removed == 1


async def test_a_file_changed_on_the_node_is_put_right(client, place, tree):
    await sync_tree(client, tree, "~/sky_workdir")
    (place.home / "sky_workdir" / "main.py").write_text("print('maim')\n")
    assert (await sync_tree(client, tree, "~/sky_workdir")).written == 1
    assert (place.home / "sky_workdir" / "main.py").read_text() == "print('main')\n"


async def test_ignored_paths_stay_away(client, place, tree):
    asked = []

    def ignore(path, is_dir):
        asked.append((path, is_dir))
        return path in ("pkg", "link")

    await sync_tree(client, tree, "~/sky_workdir", ignore=ignore)
    assert set(listing(place.home / "sky_workdir")) == {"main.py", "run.sh", "ünï ©ode\n.txt"}
    assert ("pkg", True) in asked and not [path for path, _ in asked if path.startswith("pkg/")]


async def test_single_files_and_absolute_and_home_destinations(client, place, tree, tmp_path):
    await sync_tree(client, tree / "run.sh", "~/deep/er/tool", root="mount")
    assert (place.home / "deep/er/tool").stat().st_mode & 0o777 == 0o755
    await sync_tree(client, tree / "pkg", str(tmp_path / "abs" / "olute"), root="mount")
    assert (tmp_path / "abs/olute/mod.py").read_text() == "x = 1\n"
    await sync_tree(client, tree / "pkg", "plain/", root="mount")
    assert (place.home / "plain/mod.py").exists()


async def test_large_files_go_in_parts_and_resume(client, place, tmp_path):
    source = tmp_path / "big"
    source.mkdir()
    content = os.urandom(1 << 20) * 10 + b"tail"
    (source / "big.bin").write_bytes(content)
    name = hashlib.sha256(content).hexdigest()
    entry = {"path": "big.bin", "type": "file", "mode": 0o644, "size": len(content), "hash": name}
    reply, missing = await client.call("sync_begin", {"root": "workdir", "delete": True}, json.dumps([entry]).encode())
    assert json.loads(missing) == [name]
    part = {"session": reply["session"], "hash": name}
    await client.call("sync_part", {**part, "offset": 0}, content[: 5 << 20])
    with pytest.raises(AgentError, match="the node has 5242880 bytes"):
        await client.call("sync_part", {**part, "offset": 0}, b"again")
    os.kill((await client.hello())["pid"], 9)
    told = []
    report = await sync_tree(client, source, "~/sky_workdir", progress=lambda sent, total: told.append((sent, total)))
    assert report.bytes_sent == len(content) - (5 << 20)
    assert (place.home / "sky_workdir/big.bin").read_bytes() == content
    assert told[-1] == (report.bytes_sent, len(content))


async def test_many_small_files(client, place, tmp_path):
    source = tmp_path / "many"
    for number in range(3000):
        path = source / str(number % 50) / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {number}")
    cache = HashCache()
    assert (await sync_tree(client, source, "~/sky_workdir", cache=cache)).written == 3000
    assert (await sync_tree(client, source, "~/sky_workdir", cache=cache)).written == 0
    assert (place.home / "sky_workdir/7/1007.txt").read_text() == "file 1007"
    assert not list((place.home / ".sky/agent/sync/blobs").glob("*/*"))


async def begin(client, entries, dest="~/sky_workdir", root="workdir"):
    return await client.call("sync_begin", {"root": root, "dest": dest, "delete": True}, json.dumps(entries).encode())


def file_entry(path, content=b"x"):
    return {"path": path, "type": "file", "mode": 0o644, "size": 1, "hash": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize(
    "entries",
    [
        [file_entry("../out")],
        [file_entry("/etc/out")],
        [file_entry("a/../../out")],
        [file_entry("a//b")],
        [file_entry("./a")],
        [{"path": "a", "type": "link", "target": "/etc"}, file_entry("a/passwd")],
        [file_entry("a"), file_entry("a/b")],
        [file_entry("a"), file_entry("a")],
        [{**file_entry("a"), "hash": "../../x"}],
        [{"path": "a", "type": "device"}],
        ["a"],
        {"a": 1},
    ],
    ids=str,
)
async def test_lists_that_would_escape_are_refused(client, entries):
    with pytest.raises(AgentError) as caught:
        await begin(client, entries)
    assert caught.value.type == "InvalidRequest"


@pytest.mark.parametrize("dest", ["~", "/", "", "../up", "a/../../b", "/a/../b", "~/../x"])
async def test_destinations_that_would_escape_are_refused(client, dest):
    with pytest.raises(AgentError) as caught:
        await begin(client, [], dest=dest, root="mount")
    assert caught.value.type == "InvalidRequest"


async def test_nothing_is_written_through_a_link_on_the_node(client, place, tmp_path):
    outside, dest = tmp_path / "outside", place.home / "sky_workdir"
    outside.mkdir()
    dest.mkdir()
    (dest / "pkg").symlink_to(outside)
    source = tmp_path / "source"
    (source / "pkg").mkdir(parents=True)
    (source / "pkg" / "mod.py").write_text("x")
    try:
        await sync_tree(client, source, "~/sky_workdir")
    except SyncFailed as error:
        assert "symbolic link" in str(error)
    assert list(outside.iterdir()) == []


async def test_a_link_in_place_of_a_file_is_replaced_not_followed(client, place, tree, tmp_path):
    target = tmp_path / "precious"
    target.write_text("precious")
    (place.home / "sky_workdir").mkdir()
    (place.home / "sky_workdir" / "main.py").symlink_to(target)
    await sync_tree(client, tree, "~/sky_workdir")
    assert target.read_text() == "precious"
    assert not (place.home / "sky_workdir" / "main.py").is_symlink()


async def test_contents_are_checked(client):
    reply, _ = await begin(client, [file_entry("a")])
    session = {"session": reply["session"]}
    with pytest.raises(AgentError, match="another hash"):
        await client.call("sync_put", {**session, "hashes": [file_entry("a")["hash"]], "sizes": [1]}, b"y")
    with pytest.raises(AgentError, match="byte for byte"):
        await client.call("sync_put", {**session, "hashes": [file_entry("a")["hash"]], "sizes": [2]}, b"y")
    with pytest.raises(AgentError, match="never sent"):
        await client.call("sync_commit", session)


async def test_a_source_that_is_not_there_is_told(client, tmp_path):
    with pytest.raises(SyncFailed, match=r"cannot read .*nowhere"):
        await sync_tree(client, tmp_path / "nowhere", "~/sky_workdir")


async def test_syncs_side_by_side_do_not_disturb_each_other(client, place, tree):
    await asyncio.gather(*(sync_tree(client, tree, f"~/d{number}", root="mount") for number in range(4)))
    assert all(listing(place.home / f"d{number}") == listing(tree) for number in range(4))


# --- A tree that is not there yet --------------------------------------------------------------------------------


async def listed(client, files, dest="~/sky_workdir"):
    """Begin a session with files by path: its number and what is missing."""
    entries = [{**file_entry(path, content), "size": len(content)} for path, content in files.items()]
    reply, missing = await begin(client, entries, dest)
    return {"session": reply["session"]}, json.loads(missing)


async def put(client, session, *contents):
    hashes = [hashlib.sha256(content).hexdigest() for content in contents]
    args = {**session, "hashes": hashes, "sizes": [len(content) for content in contents]}
    await client.call("sync_put", args, b"".join(contents))


def stages(place):
    return list((place.home / ".sky/agent/sync/stages").iterdir())


async def test_nothing_is_in_place_before_all_is_and_a_restart_loses_none_of_it(client, place):
    files = {"a": b"one", "d/b": b"two", "d/e/c": b"three"}
    session, missing = await listed(client, files)
    assert len(missing) == 3
    await put(client, session, b"one", b"three")
    assert not (place.home / "sky_workdir").exists() and len(stages(place)) == 1
    os.kill((await client.hello())["pid"], 9)
    session, missing = await listed(client, files)
    assert missing == [hashlib.sha256(b"two").hexdigest()]
    await put(client, session, b"two")
    reply, _ = await client.call("sync_commit", {**session, "entries": 3})
    assert reply == {"written": 3, "removed": 0} and stages(place) == []
    assert {path: data for path, (_, data) in listing_of_files(place.home / "sky_workdir").items()} == files
    session, missing = await listed(client, files)
    assert missing == []


def listing_of_files(root):
    return {path: found for path, found in listing(root).items() if len(found) == 2}


async def test_what_an_attempt_left_is_not_taken_for_what_is_wanted(client, place, tmp_path):
    session, _ = await listed(client, {"gone/x": b"one", "a": b"two", "b/c": b"three"})
    await put(client, session, b"one", b"two", b"three")
    (tree,) = [each / "tree" for each in stages(place)]
    (tree / "a").write_bytes(b"owt")
    (tree / "b" / "c").unlink()
    (tree / "b").rmdir()
    (tree / "b").symlink_to(tmp_path)
    os.kill((await client.hello())["pid"], 9)
    session, missing = await listed(client, {"a": b"two", "b/c": b"three"})
    assert len(missing) == 2
    await put(client, session, b"two", b"three")
    await client.call("sync_commit", session)
    assert listing_of_files(place.home / "sky_workdir").keys() == {"a", "b/c"}
    assert set(listing(place.home / "sky_workdir")) == {"a", "b", "b/c"}
    assert (place.home / "sky_workdir" / "a").read_bytes() == b"two" and not (tmp_path / "c").exists()


async def test_what_came_to_the_place_meanwhile_stays(client, place):
    session, _ = await listed(client, {"a": b"one", "d/b": b"two", "d/c": b"one"})
    await put(client, session, b"one", b"two")
    (place.home / "sky_workdir" / "d").mkdir(parents=True)
    (place.home / "sky_workdir" / "d" / "mine").write_text("mine")
    reply, _ = await client.call("sync_commit", session)
    assert reply["written"] == 3 and stages(place) == []
    found = listing_of_files(place.home / "sky_workdir")
    assert {path: data for path, (_, data) in found.items()} == {
        "a": b"one",
        "d/b": b"two",
        "d/c": b"one",
        "d/mine": b"mine",
    }


async def test_two_syncs_to_a_place_that_is_not_there(client, place, tree, tmp_path):
    first, _ = await listed(client, {"a": b"one", "b": b"two"})
    second, missing = await listed(client, {"a": b"one", "c": b"three"})
    assert len(missing) == 2
    await put(client, first, b"one", b"two")
    await put(client, second, b"three")
    await client.call("sync_commit", first)
    assert listing_of_files(place.home / "sky_workdir").keys() == {"a", "b"}
    with pytest.raises(AgentError, match="NoSuchSession"):
        await client.call("sync_commit", second)
    # Which a client answers by beginning again.
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").write_text("x" * 100)
    await asyncio.gather(*(sync_tree(client, each, "~/both", delete=False) for each in (tree, other)))
    assert (place.home / "both" / "x").exists() and (place.home / "both" / "main.py").exists()
    await sync_tree(client, other, "~/both")
    assert listing_of_files(place.home / "both").keys() == {"x"}


async def test_a_destination_on_another_file_system(client, place, tree):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == place.home.stat().st_dev:
        pytest.skip("there is but one file system here")
    dest = elsewhere / place.home.parent.name
    try:
        await sync_tree(client, tree, str(dest), root="mount")
        assert listing(dest) == listing(tree)
        assert (await sync_tree(client, tree, str(dest), root="mount")).written == 0
    finally:
        shutil.rmtree(dest)


async def test_a_commit_of_another_number_of_entries_is_refused(client):
    session, _ = await listed(client, {"a": b"one"})
    with pytest.raises(AgentError, match="1 entries were listed here, not 2"):
        await client.call("sync_commit", {**session, "entries": 2})


async def test_pages_are_one_list(client):
    session, _ = await listed(client, {"d/a": b"one", "l": b"two"})
    for wrong in (
        [file_entry("l")],
        [{"path": "d", "type": "link", "target": "/etc"}],
        [file_entry("l/x")],
        [file_entry("")],
    ):
        with pytest.raises(AgentError, match="InvalidRequest"):
            await client.call("sync_entries", session, json.dumps(wrong).encode())

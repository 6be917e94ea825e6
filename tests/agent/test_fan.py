"""What the head was given it hands on: the same trees on all nodes, and for each node what came of it."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from sky.remote.errors import AgentError


def listed(tree):
    """Entries of a tree of bytes, folders (None) and links (text)."""
    for path, content in tree.items():
        if content is None:
            yield {"path": path, "type": "dir", "mode": 0o755}
        elif isinstance(content, str):
            yield {"path": path, "type": "link", "target": content, "mode": 0o777}
        else:
            digest = hashlib.sha256(content).hexdigest()
            yield {"path": path, "type": "file", "mode": 0o640, "size": len(content), "hash": digest}


async def sync(client, tree, dest="~/sky_workdir"):
    """Bring a tree to one node by the plain verbs; the session's number."""
    args = {"root": "workdir", "dest": dest, "delete": True}
    reply, missing = await client.call("sync_begin", args, json.dumps(list(listed(tree))).encode())
    contents = {hashlib.sha256(data).hexdigest(): data for data in tree.values() if isinstance(data, bytes)}
    for name in json.loads(missing):
        session, data, at = {"session": reply["session"], "hash": name}, contents[name], 0
        while at == 0 or at < len(data):
            piece = data[at : at + (4 << 20)]
            last = at + len(piece) >= len(data)
            await client.call("sync_part", {**session, "offset": at, "last": last}, piece)
            at += len(piece) or 1
    await client.call("sync_commit", {"session": reply["session"]})
    return reply["session"]


def found(node):
    """The tree that a node has."""
    root, tree = node.home / "sky_workdir", {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        tree[name] = str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return tree


async def fan(cluster, session, *ranks):
    reply, _ = await cluster.head.call("sync_fan", {"session": session, "ranks": list(ranks)})
    return {int(rank): outcome for rank, outcome in reply["ranks"].items()}


async def test_all_nodes_get_what_the_head_got_and_then_only_the_change(start_cluster):
    cluster = await start_cluster(3)
    tree = {"a": None, "a/b": b"one", "a/same": b"one", "empty": b"", "l": "a/b", "large": os.urandom(9 << 20)}
    session = await sync(cluster.head, tree)
    assert await fan(cluster, session, 1, 2) == {rank: {"written": 5, "removed": 0} for rank in (1, 2)}
    assert [found(node) for node in cluster.nodes] == [tree] * 3
    assert (cluster.nodes[2].home / "sky_workdir/a/b").stat().st_mode & 0o777 == 0o640
    del tree["large"]
    tree["a/b"] = b"two"
    session = await sync(cluster.head, tree)
    assert await fan(cluster, session, 1) == {1: {"written": 1, "removed": 1}}
    assert found(cluster.nodes[1]) == tree != found(cluster.nodes[2])


async def test_a_node_that_cannot_be_fed_is_named_and_the_others_are_fed(start_cluster):
    cluster = await start_cluster(3)
    session = await sync(cluster.head, {"x": b"1"})
    await cluster.nodes[1].client.close()
    await cluster.nodes[1].end()
    outcome = await fan(cluster, session, 1, 2)
    assert "cannot connect" in outcome[1]["error"] and outcome[2] == {"written": 1, "removed": 0}


async def test_what_changed_on_the_head_since_is_not_handed_on(start_cluster):
    cluster = await start_cluster(2)
    session = await sync(cluster.head, {"x": b"before"})
    (cluster.nodes[0].home / "sky_workdir/x").write_bytes(b"behind")
    assert "has another hash" in (await fan(cluster, session, 1))[1]["error"]
    assert not (cluster.nodes[1].home / "sky_workdir/x").exists()


async def test_wrong_questions_are_refused(start_cluster):
    cluster = await start_cluster(2)
    session = await sync(cluster.head, {"x": b"1"})
    for args in (
        {"session": 999, "ranks": [1]},
        {"session": session, "ranks": [0]},
        {"session": session, "ranks": [2]},
    ):
        with pytest.raises(AgentError):
            await cluster.head.call("sync_fan", args)
    with pytest.raises(AgentError, match="no verb"):
        await cluster.nodes[1].client.call("sync_fan", {"session": 1, "ranks": []})

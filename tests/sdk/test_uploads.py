"""Uploads: what travels, what stays behind, what is refused."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from serving import Served

from sky.core.errors import StorageSourceError
from sky.sdk import clusters, requests, uploads
from sky.sdk.uploads import local_sources, upload_sources
from sky.wire.packs import unpack


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "work"
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "a.txt").write_text("a")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    (top / "sub" / "b.txt").write_text("b")
    (top / "link").symlink_to("a.txt")
    (top / "dangling").symlink_to("./nowhere/../x")
    (top / "out").symlink_to("/etc/passwd")
    return top


@pytest.fixture
def sent(served: Served, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the content that travelled, alone or in a pack."""
    found: list[str] = []
    real = uploads.call

    def noting(method: str, target: str, *args: Any, **kwargs: Any) -> Any:
        if method == "PUT":
            found.append(target.rpartition("/")[2])
        if target == "/api/uploads/pack":
            found.extend(name for name, _ in unpack(kwargs["raw"]))
        return real(method, target, *args, **kwargs)

    monkeypatch.setattr(uploads, "call", noting)
    return found


def manifest(served: Served, name: str) -> dict[str, dict[str, Any]]:
    path = served.settings.state_dir / "blobs" / name[:2] / name
    return {entry["path"]: entry for entry in json.loads(path.read_bytes())}


def test_tree_arrives_with_modes_links_and_empty_folders(served: Served, tree: Path) -> None:
    (name,) = upload_sources([str(tree)]).values()
    found = manifest(served, name)
    assert set(found) == {"a.txt", "run.sh", "sub", "sub/b.txt", "sub/empty", "link", "dangling", "out"}
    assert found["run.sh"]["mode"] == 0o755
    assert found["sub/empty"]["type"] == "dir"
    assert found["link"] == {"path": "link", "type": "link", "target": "a.txt"}
    assert found["dangling"]["target"] == "./nowhere/../x"
    assert found["out"]["target"] == "/etc/passwd"
    blob = served.settings.state_dir / "blobs" / found["a.txt"]["hash"][:2] / found["a.txt"]["hash"]
    assert blob.read_text() == "a"


def test_only_what_changed_travels(served: Served, tree: Path, sent: list[str]) -> None:
    first = upload_sources([str(tree)])
    assert len(sent) == 4
    sent.clear()
    assert upload_sources([str(tree)]) == first
    assert sent == []
    (tree / "a.txt").write_text("changed")
    assert upload_sources([str(tree)]) != first
    assert len(sent) == 2


def test_many_small_files_travel_in_few_calls_and_large_ones_alone(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real = uploads.call
    monkeypatch.setattr(
        uploads, "call", lambda method, target, *a, **k: calls.append(target) or real(method, target, *a, **k)
    )
    for number in range(300):
        (tmp_path / f"f{number}").write_text(str(number))
    (tmp_path / "large").write_bytes(b"x" * (uploads.MOST_PACKED + 1))
    upload_sources([str(tmp_path)])
    large = hashlib.sha256((tmp_path / "large").read_bytes()).hexdigest()
    assert calls == ["/api/uploads/missing", f"/api/uploads/{large}", "/api/uploads/pack"]


def test_same_content_travels_once(served: Served, tmp_path: Path, sent: list[str]) -> None:
    for number in range(20):
        (tmp_path / f"f{number}").write_text("same")
    upload_sources([str(tmp_path)])
    assert len(sent) == 2


def test_hashes_are_remembered_but_not_of_fresh_files(
    served: Served, tree: Path, monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    upload_sources([str(tree)])
    book = state / "client" / "hashes.json"
    assert not book.exists() or str(tree / "a.txt") not in book.read_text()
    monkeypatch.setattr(uploads, "_TOO_FRESH_NS", -10_000_000_000)
    upload_sources([str(tree)])
    assert str(tree / "a.txt") in book.read_text()
    known = json.loads(book.read_text())
    known[str(tree / "a.txt")][-1] = "f" * 64
    book.write_text(json.dumps(known))
    with uploads.HashBook(book) as again:
        assert again.hash_of(tree / "a.txt", (tree / "a.txt").stat()) == "f" * 64
        os.utime(tree / "a.txt", ns=(1, 1))
        assert again.hash_of(tree / "a.txt", (tree / "a.txt").stat()) != "f" * 64


@pytest.mark.parametrize("junk", ["", "[]", "{", '{"x": 1}'])
def test_damaged_book_is_forgotten(served: Served, tree: Path, state: Path, junk: str) -> None:
    (state / "client").mkdir(mode=0o700)
    (state / "client" / "hashes.json").write_text(junk)
    assert len(upload_sources([str(tree)])) == 1


def test_single_file(served: Served, tree: Path) -> None:
    (name,) = upload_sources([str(tree / "run.sh")]).values()
    found = manifest(served, name)
    assert list(found) == [""]
    assert found[""]["mode"] == 0o755


def test_launch_carries_manifests_of_local_sources(served: Served, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    task = {"run": "x", "workdir": ".", "file_mounts": {"/data": "./sub", "/b": "s3://bucket", "/c": "https://h/f"}}
    id = clusters.launch(task, "one")
    requests.get(id)
    assert set(served.plane.rows[str(id)].body["uploads"]) == {".", "./sub"}
    id = clusters.exec(task, "one")
    assert set(served.plane.rows[str(id)].body["uploads"]) == {"."}
    id = clusters.launch(task, "one", dryrun=True)
    assert served.plane.rows[str(id)].body["uploads"] == {}


def test_sources_of_a_task() -> None:
    assert local_sources({"workdir": {"url": "https://x"}}, mounts=True) == []
    config = {"workdir": "w", "file_mounts": {"/a": "w", "/b": {"source": "s"}, "/c": "gs://b"}}
    assert local_sources(config, mounts=True) == ["w"]
    assert local_sources({}, mounts=True) == []


def test_a_workdir_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageSourceError, match="is a file; allowed: a folder"):
        local_sources({"workdir": str(tmp_path / "file")}, mounts=True)


def test_missing_source(served: Served) -> None:
    with pytest.raises(StorageSourceError, match="does not exist"):
        upload_sources(["/no/such/folder"])


def test_too_much_is_refused_before_it_travels(
    served: Served, tree: Path, monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    monkeypatch.setenv("SKYPILOT_MAX_UPLOAD_TOTAL_BYTES", "5")
    with pytest.raises(StorageSourceError, match=r"more than 5 bytes.*skyignore"):
        upload_sources([str(tree)])
    assert sent == []
    monkeypatch.setenv("SKYPILOT_MAX_UPLOAD_TOTAL_BYTES", "many")
    with pytest.raises(ValueError, match="not a number"):
        upload_sources([str(tree)])


def test_unreadable_file_is_named(served: Served, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def closed(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name == "b.txt":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    # Root, who runs these tests in containers, can read everything.
    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(StorageSourceError, match=r"b\.txt.*Permission denied"):
        upload_sources([str(tree)])


def test_file_that_changes_meanwhile_is_named(served: Served, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = uploads.HashBook.hash_of

    def then_grow(self: uploads.HashBook, path: Path, found: os.stat_result) -> str:
        name = real(self, path, found)
        if path.name == "a.txt":
            path.write_text("something else")
        return name

    monkeypatch.setattr(uploads.HashBook, "hash_of", then_grow)
    with pytest.raises(StorageSourceError, match=r"a\.txt changed while"):
        upload_sources([str(tree)])


def test_pipes_and_sockets_stay_and_odd_names_are_refused(served: Served, tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    (name,) = upload_sources([str(tree)]).values()
    assert "pipe" not in manifest(served, name)
    (Path(os.fsdecode(os.fsencode(tree) + b"/b\xff"))).write_text("")
    with pytest.raises(StorageSourceError, match="not UTF-8"):
        upload_sources([str(tree)])


def test_ignored_files_stay(served: Served, tree: Path) -> None:
    (tree / ".gitignore").write_text("*.txt\n!b.txt\nempty/\n")
    (name,) = upload_sources([str(tree)]).values()
    assert set(manifest(served, name)) == {".gitignore", "run.sh", "sub", "sub/b.txt", "link", "dangling", "out"}
    (tree / ".skyignore").write_text("sub\n")
    (name,) = upload_sources([str(tree)]).values()
    assert "a.txt" in manifest(served, name)
    assert "sub" not in manifest(served, name)


def test_git_folder_is_kept_unless_ignored(served: Served, tree: Path) -> None:
    (tree / ".git" / "info").mkdir(parents=True)
    (tree / ".git" / "HEAD").write_text("ref: x")
    (tree / ".git" / "info" / "exclude").write_text("a.txt\n")
    (name,) = upload_sources([str(tree)]).values()
    found = manifest(served, name)
    assert ".git/HEAD" in found
    assert "a.txt" not in found
    (tree / ".skyignore").write_text(".git\n")
    (name,) = upload_sources([str(tree)]).values()
    assert not any(path.startswith(".git/") for path in manifest(served, name))

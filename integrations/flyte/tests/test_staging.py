"""What travels to a node and back, and what a hostile node may not do."""

import base64
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from flytekit.models.core.types import BlobType
from flytekit.models.literals import Blob, BlobMetadata, Literal, LiteralCollection, LiteralMap, Scalar

import kinds
from flytekitplugins.skypilot import node, staging


def test_the_source_of_a_task_is_what_it_imports(tmp_path: Path) -> None:
    source = staging.source_of(kinds.two.task_function)
    assert source == {"root": str(Path(kinds.__file__).parent), "file": kinds.__file__}
    staging.lay_out_source(source, tmp_path)
    assert {"kinds.py", "words.py"} <= {each.name for each in tmp_path.iterdir()}


def test_local_files_that_inputs_name_travel_under_their_paths(tmp_path: Path) -> None:
    prefix, far = tmp_path / "prefix", tmp_path / "data.csv"
    prefix.mkdir()
    (prefix / "inputs.pb").write_bytes(b"inputs")
    far.write_text("1,2")
    kind = BlobMetadata(BlobType("csv", BlobType.BlobDimensionality.SINGLE))
    near, remote = (Literal(Scalar(blob=Blob(kind, uri))) for uri in (str(far), "s3://b/k"))
    inputs = LiteralMap({"many": Literal(collection=LiteralCollection([near, remote]))})
    staging.lay_out_inputs(str(prefix), inputs, tmp_path / "in")
    laid = {str(each.relative_to(tmp_path / "in")) for each in (tmp_path / "in").rglob("*") if each.is_file()}
    assert laid == {str(each.relative_to("/")) for each in (prefix / "inputs.pb", far)}


def packed(*members: tuple[str, bytes | str]) -> list[str]:
    """Lines of a log with files of these contents, and symbolic links to these places."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members:
            told = tarfile.TarInfo(name)
            if isinstance(content, str):
                told.type, told.linkname = tarfile.SYMTYPE, content
                archive.addfile(told)
            else:
                told.size = len(content)
                archive.addfile(told, io.BytesIO(content))
    text = base64.b64encode(out.getvalue()).decode()
    return [f"(task, pid=3) {node.MARK} {text[at : at + 60]}" for at in range(0, len(text), 60)]


def test_files_come_back_by_the_log(tmp_path: Path) -> None:
    lines = ["said before", *packed(("./outputs.pb", b"x" * 500), ("raw/a", b"a")), "said after"]
    assert staging.unpack(lines, tmp_path)
    assert (tmp_path / "outputs.pb").read_bytes() == b"x" * 500
    assert (tmp_path / "raw/a").read_bytes() == b"a"
    assert not staging.unpack(["nothing", "here"], tmp_path)


def test_links_among_the_files_come_back(tmp_path: Path) -> None:
    assert staging.unpack(packed(("blobs/1", b"x"), ("snapshots/a/model", "../../blobs/1"), ("new", "blobs")), tmp_path)
    assert (tmp_path / "snapshots/a/model").read_bytes() == (tmp_path / "new/1").read_bytes() == b"x"


@pytest.mark.parametrize(
    "members",
    [
        [("../out", b"x")],
        [("a/../../out", b"x")],
        [("/tmp/flyte-out-of-place", b"x")],
        [("l", "..")],
        [("a/l", "../../out")],
        [("l", "/tmp")],
        # Each of the links stays within; the second, as the first one leads it, does not.
        [("a/b/x", b""), ("a/b/l", "../.."), ("m", "a/b/l/..")],
        [("a/b/x", b""), ("l", "a"), ("l/b/m", "../../..")],
        [("a/x", b""), ("l", "a"), ("l/out", b"x")],
    ],
)
def test_a_hostile_node_writes_nowhere_else(tmp_path: Path, members: list[tuple[str, bytes | str]]) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ValueError, match="lies elsewhere"):
        staging.unpack(packed(*members), into)
    assert list(tmp_path.iterdir()) == [into]
    assert not Path("/tmp/flyte-out-of-place").exists()


def test_a_hostile_node_makes_nothing_but_files(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        told = tarfile.TarInfo("pipe")
        told.type = tarfile.FIFOTYPE
        archive.addfile(told)
    with pytest.raises(ValueError, match="is none"):
        staging.unpack([f"{node.MARK} {base64.b64encode(out.getvalue()).decode()}"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_does_not_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "MOST_PACKED", 100)
    with pytest.raises(ValueError, match="carries more than"):
        staging.unpack(packed(("a", bytes(range(256)) * 4)), tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(staging, "_MOST_UNPACKED", 100)
    with pytest.raises(ValueError, match="the files of the task are more than"):
        staging.unpack(packed(("a", b"0" * 5000)), tmp_path)


def far_run(prefix: Path, *args: str, timeout_s: float | None = None) -> node.Run:
    return node.Run("key", args, str(prefix), True, False, timeout_s, own_image=False)


def sh(script: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script], env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )


def test_a_node_elsewhere_gets_inputs_and_its_files_come_back(tmp_path: Path) -> None:
    prefix, home, back = tmp_path / "prefix", tmp_path / "home", tmp_path / "back"
    laid = home / ".flyte-sky/key/in" / prefix.relative_to("/")
    laid.mkdir(parents=True)
    (laid / "inputs.pb").write_text("given")
    args = ("bash", "-c", f'cat {prefix}/inputs.pb > "$0/outputs.pb"; echo "$PWD"', str(prefix))
    done = sh(node.run_script(far_run(prefix, *args), "1.16.31"), home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(home / ".flyte-sky/key.work")
    assert staging.unpack(done.stdout.splitlines(), back)
    assert (back / "outputs.pb").read_text() == "given"
    assert not prefix.exists(), "the node is left as it was"
    assert not list(home.glob(".flyte-sky/key*"))


def test_a_node_that_shares_the_disk_leaves_the_files_where_they_are(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    (prefix / node.here_file("key")).touch()
    done = sh(node.run_script(far_run(prefix, "touch", f"{prefix}/outputs.pb"), "1.16.31"), tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert (prefix / "outputs.pb").exists()


def test_a_task_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    done = sh(node.run_script(far_run(tmp_path / "p", "sleep", "60", timeout_s=0.2), "1.16.31"), tmp_path)
    assert done.returncode == 124
    assert "the task was ended after 0.2 s, its timeout" in done.stderr


def test_what_more_than_a_log_can_carry_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "MOST_PACKED", 10)
    prefix = tmp_path / "p"
    done = sh(
        node.run_script(far_run(prefix, "bash", "-c", f"mkdir {prefix}; echo x > {prefix}/o"), "1.16.31"), tmp_path
    )
    assert done.returncode == 1
    assert "use --raw-output-data-prefix with an object store" in done.stderr


def test_a_setup_is_done_once_and_a_failed_one_again(tmp_path: Path) -> None:
    good = node.once("echo done >> $HOME/times\nfalse\ntrue")
    assert sh(good, tmp_path).returncode == 0
    assert sh(good, tmp_path).returncode == 0
    assert (tmp_path / "times").read_text() == "done\n"
    bad = node.once("echo tried >> $HOME/tries; exit 3")
    assert [sh(bad, tmp_path).returncode for _ in range(2)] == [3, 3]
    assert (tmp_path / "tries").read_text() == "tried\n" * 2
    assert node.once(" ") == ""

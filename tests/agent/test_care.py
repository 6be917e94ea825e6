"""What a node sees of a job: its checkpoints, its progress, and that it ran out of memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sky.agent import care, checkpoints, memory, progress
from sky.agent.fields import Refused

CGROUPS = Path("/sys/fs/cgroup")


# --- checkpoints -----------------------------------------------------------------------------------------------------


def old(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


def test_a_checkpoint_counts_once_it_has_stopped_changing(tmp_path):
    folder = checkpoints.Folder(str(tmp_path))
    assert folder.newest(time.time()) is None
    step = tmp_path / "step-1"
    step.mkdir()
    (step / "model").write_bytes(b"x" * 100)
    for each in (step / "model", step):
        old(each, 60)
    assert folder.newest(time.time()) is None and folder.unsettled
    found = folder.newest(time.time())
    assert (found.name, found.bytes, found.whole) == ("step-1", 100, True) and not folder.unsettled
    (step / "model").write_bytes(b"x" * 200)
    assert folder.newest(time.time()) is None, "it changes again"


def test_a_marker_or_a_name_of_passage_says_what_is_complete(tmp_path):
    folder = checkpoints.Folder(str(tmp_path))
    for name in ("step-1", "step-2.tmp", ".step-3", "step-4"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model").write_bytes(b"xyz")
    (tmp_path / "step-4" / "shard.partial").write_bytes(b"more")
    (tmp_path / "step-1" / "_SUCCESS").touch()
    assert folder.newest(time.time()).name == "step-1"


def test_a_single_file_that_is_renamed_into_place_is_a_checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"abc")
    old(path, 30)
    folder = checkpoints.Folder(str(path))
    assert [folder.newest(time.time()) for _ in range(2)][1][0::2] == ("model.pt", 3)


def test_a_large_tree_is_counted_as_far_as_it_is_bearable(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_FILES", 10)
    (tmp_path / "big").mkdir()
    for number in range(50):
        (tmp_path / "big" / str(number)).write_bytes(b"x")
    (tmp_path / "big" / "COMPLETE").touch()
    found = checkpoints.Folder(str(tmp_path)).newest(time.time())
    assert not found.whole and found.bytes <= 10


async def test_the_checkpoint_of_a_job_is_told_while_it_runs(cluster):
    script = (
        "d=$SKYPILOT_CHECKPOINT_DIR/s1; mkdir -p $d.tmp; echo weights >$d.tmp/m; touch $d.tmp/_SUCCESS; mv $d.tmp $d"
    )
    wanted = {"path": "~/ck", "every": 0.2, "max_bytes": 4}
    job_id = await cluster.submit(f"mkfifo ~/go; {script}; read x <~/go", care=wanted)
    job = await cluster.seen(job_id, lambda facts: "large" in facts.get("concerns", ()))
    found = job["facts"]["checkpoint"]
    assert (found["name"], found["bytes"]) == ("s1", 8) and abs(found["at"] - time.time()) < 60
    await cluster.seen(job_id, lambda facts: facts.get("concerns") == ["late", "large"])
    (cluster.nodes[0].home / "go").write_text("x\n")
    assert (await cluster.until(job_id))["facts"]["checkpoint"] == found


# --- progress --------------------------------------------------------------------------------------------------------


async def test_a_job_says_how_far_it_is(cluster):
    job_id = await cluster.submit("mkfifo ~/go; sky progress 0.42; read x <~/go; sky progress 75%; read x <~/go")
    job = await cluster.seen(job_id, lambda facts: facts.get("progress") == 0.42)
    assert abs(job["facts"]["progress_at"] - time.time()) < 60
    cluster.kill_agent(await cluster.nodes[0].pid())
    (cluster.nodes[0].home / "go").write_text("x\n")
    await cluster.seen(job_id, lambda facts: facts.get("progress") == 0.75)
    (cluster.nodes[0].home / "go").write_text("x\n")
    assert (await cluster.until(job_id))["status"] == "SUCCEEDED"


@pytest.mark.parametrize("share", ["", "1.01", "-1", "half", "1.2.3", ".", "1e-3"])
async def test_what_is_no_share_is_refused_in_the_job(cluster, share):
    job = await cluster.until(await cluster.submit(f"sky progress '{share}'"))
    assert job["exit_codes"] == [2] and "progress" not in job["facts"]


@pytest.mark.parametrize(("words", "share"), [("0", 0.0), ("1", 1.0), ("1.0", 1.0), (".5", 0.5), ("100%", 1.0)])
async def test_shares_at_the_ends(cluster, words, share):
    job = await cluster.until(await cluster.submit(f"sky progress {words}"))
    assert job["facts"]["progress"] == share


async def test_other_words_go_to_the_program_behind(cluster):
    script = """
        PATH=${PATH%%:*}:$HOME/b:/usr/bin:/bin
        mkdir -p ~/b; printf '#!/bin/sh\\necho real "$@"\\n' >~/b/sky; chmod +x ~/b/sky
        sky status -a
    """
    assert "real status -a" in (await cluster.result(await cluster.submit(script)))[1]


async def test_progress_is_read_in_the_log(cluster):
    job_id = await cluster.submit(
        "echo step 1/8; echo step 2/8; mkfifo ~/go; read x <~/go; echo loss step 6/8 done; echo step 9/8",
        care={"pattern": r"step (\d+)/(\d+)"},
    )
    await cluster.seen(job_id, lambda facts: facts.get("progress") == 0.25)
    (cluster.nodes[0].home / "go").write_text("x\n")
    assert (await cluster.until(job_id))["facts"]["progress"] == 0.75


def test_of_a_long_log_the_newest_part_counts(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"at 0.1\n" + b"x" * (1 << 19) + b"\nat 0.2\nat 0.9")
    pattern = progress.LogPattern(r"at (0\.\d+)", str(log))
    assert (pattern.latest(), pattern.latest()) == (0.2, None)


@pytest.mark.parametrize(
    "wrong", [{"pattern": "("}, {"pattern": "none"}, {"path": "../x"}, {"farewell": {"grace": -1}}]
)
def test_care_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(Refused):
        care.parse(wrong)


def test_care_survives_the_record():
    wanted = {
        "path": "~/ck",
        "every": 3.0,
        "farewell": {"signal": "TERM", "grace": 9.0, "scripts": [{"run": "x", "timeout": 1.0}]},
    }
    assert care.stored(care.parse(wanted)) == wanted and care.parse({}) is None


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_group():
    """A control group of 64 MB; its name and the file into which a process is put."""
    root = next((each for each in (CGROUPS / "memory", CGROUPS) if (each / "cgroup.procs").exists()), None)
    made = root / f"e_node-{os.getpid()}" if root is not None else None
    try:
        made.mkdir()
        limit = made / "memory.max" if (made / "memory.max").exists() else made / "memory.limit_in_bytes"
        limit.write_text(str(64 << 20))
    except (OSError, AttributeError):
        pytest.skip("no memory control group can be made here")
    yield made / "cgroup.procs"
    deadline = time.monotonic() + 20
    while made.exists() and time.monotonic() < deadline:
        try:
            made.rmdir()
        except OSError:
            time.sleep(0.05)  # the kernel is still taking its processes away


async def test_a_job_that_the_kernel_kills_for_want_of_memory_says_so(cluster, small_group):
    small_group.write_text(str(await cluster.nodes[0].pid()))
    hog = 'python3 -c "x = bytearray(500 << 20)"'
    job = await cluster.until(await cluster.submit(hog))
    assert job["exit_codes"] == [137] and job["facts"]["cause"] == "out_of_memory"
    assert "out of memory" in job["reason"]
    killed = await cluster.until(await cluster.submit("kill -9 $$"))
    assert killed["exit_codes"] == [137] and "cause" not in killed["facts"], "killed, but not by want of memory"
    hidden = await cluster.until(await cluster.submit(f"{hog} || {{ echo rank 3: SIGKILL; exit 1; }}"))
    assert hidden["exit_codes"] == [1] and hidden["facts"]["cause"] == "out_of_memory"
    for node in cluster.nodes:
        await node.end()


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "cuda_out_of_memory"),
        ("jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while", "cuda_out_of_memory"),
        ("numpy.core._exceptions.MemoryError: Unable to allocate", "out_of_memory"),
        ("MemoryError", "out_of_memory"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "out_of_memory"),
        ("ValueError: wrong", None),
    ],
)
async def test_last_words_tell_a_want_of_memory(cluster, words, cause):
    job = await cluster.until(await cluster.submit(f'echo "{words}"; exit 1'))
    assert job["facts"].get("cause") == cause
    fine = await cluster.until(await cluster.submit(f'echo "{words}"'))
    assert fine["status"] == "SUCCEEDED" and "cause" not in fine["facts"]


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/job/x", "job/x/memory.events"),
        ("0::/job/x", "unified/job/x/memory.events"),
        ("4:cpu,memory:/job/x", "memory/job/x/memory.oom_control"),
        ("4:memory:/docker/abc", "memory/memory.oom_control"),
    ],
)
def test_the_count_is_found_in_groups_of_either_version(tmp_path, line, file):
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "7").mkdir(parents=True)
    (proc / "7" / "cgroup").write_text(f"1:name=systemd:/\n{line}\n")
    (proc / "vmstat").write_text("nr_free 3\noom_kill 9\n")
    assert memory.count(7, str(proc), str(groups)) == (str(proc / "vmstat"), 9)
    (groups / file).parent.mkdir(parents=True)
    (groups / file).write_text("oom 5\noom_kill 2\n")
    assert memory.count(7, str(proc), str(groups)) == (str(groups / file), 2)

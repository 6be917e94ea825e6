"""One node of a managed job's gang is lost, and replaced: real nodes, real processes, real losses, on this machine."""

import contextlib
import os
import re
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

#: Each node counts to twelve, writing each number down, and goes on behind what was written by an attempt before.
GANG = """
name: gang
num_nodes: 2
resources: {{infra: local}}
checkpoint: {{path: '{root}/checkpoints', every: 1h}}
setup: echo $SKYPILOT_SETUP_NODE_RANK >> {root}/setups; touch ~/prepared
run: |
  set -e
  test -e ~/prepared
  mkdir {root}/runs-$SKYPILOT_NODE_RANK || exit 99
  trap 'rmdir {root}/runs-$SKYPILOT_NODE_RANK' EXIT
  echo $SKYPILOT_NODE_RANK >> {root}/begun
  kept=$SKYPILOT_CHECKPOINT_DIR/$SKYPILOT_NODE_RANK
  at=$(cat $kept 2>/dev/null || echo 0)
  while [ $at -lt 12 ]; do
    at=$((at + 1)); echo $at >> {root}/counted-$SKYPILOT_NODE_RANK
    echo $at > $kept.tmp; mv $kept.tmp $kept
    while [ $at -ge 6 ] && [ ! -e {root}/go ]; do sleep 0.1; done
    sleep 0.05
  done
  echo ended at $at
"""


def job(sky):
    return sky.json("jobs", "queue", "-a")[0]


def lines(path):
    return path.read_text().split() if path.exists() else []


def launch(sky, eventually):
    (sky.root / "gang.yaml").write_text(GANG.format(root=sky.root))
    done = sky.good("jobs", "launch", "-y", "-d", "gang.yaml")
    assert re.search(r"Managed Job ID: 1", done.stdout)
    eventually(lambda: all("6" in lines(sky.root / f"counted-{rank}") for rank in range(2)))


def lose(sky, rank):
    """What a power cut of one machine does: nothing on it sees the others end."""
    pids = [pid for pid in sky.node_processes() if node_of(pid).endswith(f"-{rank}")]
    assert pids
    for how in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
    with contextlib.suppress(FileNotFoundError):
        # Of a machine that is gone nothing is held.
        (sky.root / f"runs-{rank}").rmdir()


def node_of(pid):
    with contextlib.suppress(OSError):
        for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if each.startswith(b"SKY_NODE_ID="):
                return each.decode().partition("=")[2]
    return ""


def ended_well(sky, eventually, rank):
    eventually(lambda: job(sky)["schedule_state"] == "DONE", 60)
    told, why = job(sky), sky.good("jobs", "queue", "--why", "1").stdout
    assert (told["status"], told["recovery_count"]) == ("SUCCEEDED", 1), why
    assert f"replacing 1 of 2 nodes (rank {rank}) on local" in why
    assert lines(sky.root / "setups") == ["0", "1", str(rank)] or lines(sky.root / "setups") == ["1", "0", str(rank)]
    assert sorted(lines(sky.root / "begun")) == ["0", "0", "1", "1"], "begun anew on all nodes"
    for each in range(2):
        counted = [int(line) for line in lines(sky.root / f"counted-{each}")]
        assert counted == list(range(1, 13)), "nothing is done twice, nothing is left out"
    eventually(lambda: not sky.node_processes() and sky.json("status") == [])


@pytest.mark.parametrize("rank", [1, 0])
def test_one_lost_node_is_replaced_and_the_others_are_kept(sky, eventually, rank):
    launch(sky, eventually)
    lose(sky, rank)
    (sky.root / "go").touch()
    ended_well(sky, eventually, rank)

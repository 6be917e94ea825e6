"""Turns at a file: one at a time over processes, and a process that stands still keeps nobody waiting for long."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sky.kit.turns import TurnLost, turn

HOLDER = """
import sys
from pathlib import Path
from sky.kit.turns import TurnLost, turn
path = Path(sys.argv[1])
with turn(path) as taken:
    print("taken", flush=True)
    sys.stdin.readline()
    try:
        taken.check()
    except TurnLost as lost:
        print(f"lost: {lost}", flush=True)
    else:
        print("mine", flush=True)
"""

ADDER = """
import sys
from pathlib import Path
from sky.kit.turns import turn
path = Path(sys.argv[1])
for _ in range(200):
    with turn(path.with_name("lock")) as taken:
        found = int(path.read_text())
        taken.check()
        path.write_text(str(found + 1))
"""


def started(script: str, path: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_no_addition_of_several_processes_is_lost(tmp_path):
    path = tmp_path / "sum"
    path.write_text("0")
    adders = [started(ADDER, path) for _ in range(3)]
    for adder in adders:
        adder.communicate(timeout=60)
    assert [adder.returncode for adder in adders] == [0, 0, 0]
    assert path.read_text() == "600"


def test_a_stopped_process_loses_its_turn_and_is_told(tmp_path):
    path = tmp_path / "lock"
    with started(HOLDER, path) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "taken\n"
        holder.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        with turn(path, patience=0.2) as taken:
            taken.check()
            assert time.monotonic() - begun >= 0.2
            holder.send_signal(signal.SIGCONT)
            holder.stdin.write("\n")
            holder.stdin.flush()
            assert holder.stdout.readline().startswith("lost: ")
            # The other one gave up a lock of a file without a name: the turn is still this one's.
            taken.check()
        assert holder.wait(20) == 0
    with turn(path, patience=0.2) as taken:
        taken.check()


def test_who_waits_gets_the_turn_as_soon_as_it_is_free(tmp_path):
    path = tmp_path / "lock"
    with started(HOLDER, path) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "taken\n"
        holder.stdin.write("\n")
        holder.stdin.flush()
        with turn(path, patience=60) as taken:
            taken.check()
        assert holder.stdout.readline() == "mine\n"
        assert holder.wait(20) == 0


def test_a_dead_process_has_no_turn(tmp_path):
    path = tmp_path / "lock"
    with started(HOLDER, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "taken\n"
        inode = path.stat().st_ino
        holder.kill()
        with turn(path, patience=60):
            assert path.stat().st_ino == inode


def test_a_lock_file_that_was_removed_is_a_turn_lost(tmp_path):
    with turn(tmp_path / "lock") as taken:
        (tmp_path / "lock").unlink()
        with pytest.raises(TurnLost):
            taken.check()
    assert not list(tmp_path.iterdir())

"""Processes of a node on this machine: found by a mark in their environment, started apart from us, ended for good.

Every process that belongs to a node carries `SKY_NODE_ID=<id>`; its children inherit it, whatever sessions or groups
they move to. A node's keeper is the process whose life stands for the machine's.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

MARK = "SKY_NODE_ID"
_PROC = Path("/proc")
#: Rounds of killing: a process that forks while it is being ended is caught in the next one.
_ROUNDS = 50


def start_keeper(node_id: str, home: Path) -> tuple[int, str]:
    """Start a node's keeper as a child of nobody; its pid and its time of birth (to tell it from a later namesake)."""
    script = "sleep 2147483647 </dev/null >/dev/null 2>&1 & echo $!"
    started = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": os.environ.get("PATH", os.defpath), MARK: node_id},
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    )
    pid = int(started.stdout)
    return pid, birth(pid)


def birth(pid: int) -> str:
    """When a process began, in a form only good for comparing; empty if it does not exist or is a zombie."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _birth_without_proc(pid)
    return "" if fields[0] in ("Z", "X") else fields[19]


def _birth_without_proc(pid: int) -> str:
    if _PROC.exists() and (_PROC / "self").exists():
        return ""
    asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


def of_node(node_id: str) -> list[int]:
    """Pids of all living processes that carry the node's mark."""
    mark = f"{MARK}={node_id}".encode()
    found = []
    for entry in _PROC.iterdir() if _PROC.exists() else ():
        if not entry.name.isdigit():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0") and birth(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue  # it ended meanwhile, or is not ours to read
    return found


def end_all(node_id: str, keeper: int | None) -> bool:
    """Kill everything of a node; whether nothing is left. Blocks for milliseconds, at most about a second."""
    for _ in range(_ROUNDS):
        left = of_node(node_id)
        if not left:
            break
        for pid in left:
            _kill(pid)
        time.sleep(0.01)
    if keeper is not None and not _PROC.exists():
        _kill(keeper)
    return not of_node(node_id)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return

"""Processes of a node on this machine: found by a mark in their environment, started apart from us, ended for good.

Every process that belongs to a node carries `SKY_NODE_ID=<id>`; its children inherit it, whatever sessions or groups
they move to. A node's keeper is the process whose life stands for the machine's.

Finding them needs Linux's /proc. Elsewhere only keepers and their process groups can be ended: tasks that run there
are ended by the agent, when it is asked to before its node is stopped.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

MARK = "SKY_NODE_ID"
_PROC = Path("/proc")
#: Rounds of killing: a process that forks while it is being ended is caught in the next one, and one that the disk or
#: a busy machine keeps from ending is waited for, about ten seconds in all.
_ROUNDS, _PAUSE = 50, (0.01, 0.3)


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
    return _marked(f"{MARK}={node_id}".encode(), whole=True)


def of_cluster(cluster_id: str) -> list[int]:
    """Pids of all living processes that carry the mark of any node of the cluster, known or not."""
    return _marked(f"{MARK}={cluster_id}-".encode(), whole=False)


def _marked(mark: bytes, *, whole: bool) -> list[int]:
    found = []
    for entry in _PROC.iterdir() if _PROC.exists() else ():
        if not entry.name.isdigit():
            continue
        try:
            environ = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile, or is not ours to read
        # Behind a cluster's mark there is a rank; one tried beside it has a mark that begins alike.
        if any(
            each == mark if whole else each.startswith(mark) and each[len(mark) :].isdigit() for each in environ
        ) and birth(int(entry.name)):
            found.append(int(entry.name))
    return found


def end_all(node_id: str, keeper: int | None, born: str = "") -> bool:
    """Kill everything of a node; whether nothing is left. Blocks for milliseconds, at most some ten seconds."""
    return _end(lambda: of_node(node_id), [(keeper, born)] if keeper else [])


def end_cluster(cluster_id: str, keepers: Sequence[tuple[int, str]] = ()) -> bool:
    """Kill everything of all nodes of a cluster, whether or not their folders still tell of them.

    `keepers` (pid and birth) are for machines without /proc, where only they and their groups can be found.
    """
    return _end(lambda: of_cluster(cluster_id), keepers)


def _end(find: Callable[[], list[int]], keepers: Sequence[tuple[int, str]]) -> bool:
    if not _PROC.exists():
        for keeper, born in keepers:
            # A pid may have been given to somebody else since: only the process that was born then is ours.
            if keeper > 0 and born and birth(keeper) == born:
                _kill_group(keeper)
        return all(not born or birth(keeper) != born for keeper, born in keepers)
    pause, most = _PAUSE
    for _ in range(_ROUNDS):
        left = find()
        if not left:
            return True
        for pid in left:
            _kill(pid)
        time.sleep(pause)
        pause = min(pause * 1.2, most)
    return not find()


def _kill_group(pid: int) -> None:
    try:
        os.killpg(os.getpgid(pid), signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        _kill(pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return

"""Runs the processes of tasks on this node, so that they outlive the agent and are found again by the next one.

A task process is a small shell wrapper in a session of its own. It claims its pid file exclusively before it runs the
script and writes the exit code when the script is done; both are plain files named for the job and the phase. So a
start may be repeated after a crash: only the wrapper that wins the claim runs anything. Output goes straight into the
node's log file: the agent is in the path of no byte. Called by the server's task verbs and, on the head, by
`gang.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
from contextlib import suppress
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import care as cares
from . import memory, notices, processes, progress
from .container import FAILED
from .containers import Containers, Image
from .fields import Refused, relative_path
from .logs import exists, read_chunk, size, tail_offset
from .node import Node
from .signals import Signal, wait_any
from .watch import FileWatch, watch_exit

PHASES = ("setup", "run")
KILLED = 137
_KILLED = ".killed"
_ENDINGS = (".sh", ".pid", ".exit", ".json", ".container", ".why", ".progress", ".memory", ".oom", ".care", ".told")

# $1 pid file, $2 exit file, $3 shell, $4 script, $5 folder. The traps keep the wrapper alive through a SIGTERM meant
# for the whole tree, so that it still writes the exit code; children get the default actions back.
_WRAPPER = (
    'trap : TERM INT HUP; set -C; { echo "$$" >"$1"; } 2>/dev/null || exit 125; set +C; '
    'if cd "$5"; then "$3" "$4"; else (exit 126); fi; echo "$?" >"$2"'
)


class Task:
    """One phase of a job on this node. `code` is None while it runs, and for ever if it is `lost`: nobody knows it."""

    def __init__(self, stem: str, mark: str) -> None:
        self.stem = stem
        """Where its files lie, but for their endings."""
        self.mark = mark
        self.pid = 0
        self.code: Optional[int] = None
        self.lost = False
        self.child = False
        self.ended = Signal()
        self.watched: Optional[cares.Watched] = None
        self.cause: Optional[str] = None
        """Why it failed, where the kernel or its last words tell."""

    @property
    def over(self) -> bool:
        """True when the process is gone."""
        return self.code is not None or self.lost

    @property
    def status(self) -> str:
        """As task_wait reports it."""
        return "lost" if self.lost else "running" if self.code is None else "exited"


class Tasks:
    """All task processes of this node."""

    def __init__(self, node: Node, environ: Dict[str, str], clock: Callable[[], float]) -> None:
        self._node = node
        self._root = os.path.join(node.root, "tasks")
        self._environ = environ
        self._shell = _which("bash", environ) or "/bin/sh"
        self._tasks: Dict[Tuple[str, str], Task] = {}
        self._files = FileWatch()
        self._containers = Containers(node, self._has_gpus)
        self._clock = clock
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        self._notice = os.path.join(node.home, notices.FILE)
        self._programs = progress.install(node.home)
        os.makedirs(node.logs, exist_ok=True)

    def start(
        self,
        key: str,
        phase: str,
        script: str,
        env: Dict[str, str],
        folder: str,
        log: str,
        devices: Optional[List[int]],
        *,
        image: Optional[Image] = None,
        care: Optional[cares.Care] = None,
    ) -> int:
        """Start a phase once: repeating the call finds the same process. Its pid, or 0 if the job was killed before.

        With an image, the process is the way into a container of it, and the script runs there.
        """
        task = self._find(key, phase)
        if task is not None:
            return task.pid
        task = self._new(key, phase)
        if os.path.exists(self._barrier(key)):
            task.code = KILLED
            self._tasks[key, phase] = task
            return 0
        inside, place = self._environment(task, env, devices, care), self._folder(folder)
        values = dict(self._environ, **inside)
        values["PATH"] = "%s:%s" % (self._programs, values.get("PATH", os.defpath))
        if image is not None:
            script = 'PATH=%s:"$PATH"\n%s' % (shlex.quote(self._programs), script)
            script = self._containers.script(task.stem, image, script, inside, place)
            # What runs outside is ours: the task's variables are for what runs inside.
            values = dict(self._environ, **{name: inside[name] for name in ("HOME", "SKY_NODE_ID", processes.MARK)})
        _write(task.stem + ".sh", script, 0o700)
        _write(task.stem + ".progress", "", 0o600)
        if care is not None:
            _write(task.stem + ".care", json.dumps(cares.stored(care)), 0o600)
        target = self._log_path(log)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        self._spawn(task, target, values, place)
        self._tasks[key, phase] = task
        return task.pid

    def _new(self, key: str, phase: str) -> Task:
        # One folder for all: making and removing a folder per job costs more than the rest of its files together.
        stem = os.path.join(self._root, "%s.%s" % (key, phase))
        return Task(stem, "%s/%s/%s" % (self._node.node_id, key, phase))

    def _barrier(self, key: str) -> str:
        return os.path.join(self._root, key + _KILLED)

    def _environment(
        self, task: Task, env: Dict[str, str], devices: Optional[List[int]], care: Optional[cares.Care]
    ) -> Dict[str, str]:
        values = {
            progress.VARIABLE: task.stem + ".progress",
            "SKYPILOT_PREEMPTION_NOTICE": self._notice,
        }
        if care is not None and care.path is not None:
            values["SKYPILOT_CHECKPOINT_DIR"] = place = cares.folder(care.path, self._node.home)
            with suppress(OSError):  # a disk that is mounted later, or that somebody else has to make
                os.makedirs(place, exist_ok=True)
        values.update(env)
        values.update({"HOME": self._node.home, "SKY_NODE_ID": self._node.node_id, processes.MARK: task.mark})
        known = self._node.devices
        if devices:
            if known is None or max(devices) >= len(known.indices):
                raise Refused("NoSuchDevice", "%s has no devices %s" % (self._node.label(), devices))
            values["CUDA_VISIBLE_DEVICES"] = ",".join(str(known.indices[index]) for index in devices)
        return values

    def _has_gpus(self) -> bool:
        return self._node.devices is not None and _which("nvidia-smi", self._environ) is not None

    def _folder(self, folder: str) -> str:
        path = self._node.workdir if folder == "workdir" else self._node.home
        os.makedirs(path, exist_ok=True)
        return path

    def _log_path(self, log: str) -> str:
        return os.path.join(self._node.logs, *relative_path(log))

    def _spawn(self, task: Task, log: str, env: Dict[str, str], folder: str) -> None:
        stem = task.stem
        argv = ["sh", "-c", _WRAPPER, "sky-task", stem + ".pid", stem + ".exit", self._shell, stem + ".sh", folder]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        # Python ignores the first two, a background shell the others; a task must not inherit that.
        defaults = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP]
        try:
            task.pid = os.posix_spawn(
                "/bin/sh", argv, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=defaults
            )
        except OSError as error:
            raise Refused(
                "StartFailed", "the task could not be started on %s: %s" % (self._node.label(), error)
            ) from None
        task.child = True
        memory.note(stem, task.pid)
        watch_exit(task.pid, lambda: self._over(task))

    def _over(self, task: Task) -> None:
        rc: Optional[int] = None
        if task.child:
            with suppress(ChildProcessError):
                _, raw = os.waitpid(task.pid, 0)
                rc = os.WEXITSTATUS(raw) if os.WIFEXITED(raw) else 128 + os.WTERMSIG(raw)
        written = _number(task.stem + ".exit")
        if written is None and task.child and rc == 125:
            winner = _number(task.stem + ".pid")
            if winner is not None and winner != task.pid:
                task.pid, task.child = winner, False
                self._adopt(task)
                return
        task.code = written if written is not None else rc
        if written is None and os.path.exists(task.stem.rpartition(".")[0] + _KILLED):
            task.code = KILLED
        task.lost = task.code is None
        task.ended.fire()

    def _adopt(self, task: Task) -> None:
        if _number(task.stem + ".exit") is None and processes.carries(task.pid, task.mark):
            watch_exit(task.pid, lambda: self._over(task))
        else:
            self._over(task)

    def _find(self, key: str, phase: str) -> Optional[Task]:
        task = self._tasks.get((key, phase))
        if task is not None:
            return task
        task = self._new(key, phase)
        pid = _number(task.stem + ".pid")
        if pid is None:
            return None
        self._tasks[key, phase] = task
        task.pid = pid
        self._adopt(task)
        return task

    def _cause(self, key: str, task: Task, log: str) -> Optional[str]:
        # Those that were ended by order have not failed, whatever they said at the end.
        ours = os.path.exists(self._barrier(key)) and not os.path.exists(task.stem + ".oom")
        if task.cause is None and task.code and not ours:
            task.cause = memory.cause(task.stem, task.code, log)
        return task.cause

    async def look(self, key: str, phase: str, log: str, known: Any, wait: float) -> Dict[str, Any]:
        """{facts, over}: what is seen of checkpoints and progress; waits up to `wait` seconds for other than `known`.

        Of a task that is not known here any more nothing is seen, and it is over.
        """
        task = self._find(key, phase)
        if task is None:
            return {"facts": {}, "over": True}
        if task.watched is None:
            said, path = task.stem + ".progress", self._log_path(log)
            care = self.care_of(task) or cares.Care()
            task.watched = cares.Watched(care, self._node.home, said, path, self._clock)
        facts = await task.watched.facts(known, wait, task, self._files)
        return {"facts": facts, "over": task.over}

    def care_of(self, task: Task) -> Optional[cares.Care]:
        """What the job wants watched and done; None where that is nothing."""
        try:
            with open(task.stem + ".care", encoding="utf-8") as file:
                return cares.parse(json.load(file))
        except (OSError, ValueError, Refused):
            return None

    def living(self, phase: str) -> List[Tuple[str, Task]]:
        """Key and task of each job that is in a phase now, those that an agent before this one started included."""
        ending = ".%s.pid" % phase
        keys = [name[: -len(ending)] for name in os.listdir(self._root) if name.endswith(ending)]
        found = [(key, self._find(key, phase)) for key in sorted(keys)]
        return [(key, task) for key, task in found if task is not None and not task.over]

    def claim_farewell(self, task: Task) -> bool:
        """Whether nobody has begun yet what the task wants done before the machine goes; from now on somebody has."""
        try:
            os.close(os.open(task.stem + ".told", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            return True
        except OSError:
            return False

    def told(self, key: str) -> Dict[str, str]:
        """Variables for a script that acts for a job from outside of it."""
        task = self._find(key, "run")
        care = self.care_of(task) if task is not None else None
        values = {"SKY_NODE_ID": self._node.node_id, "SKYPILOT_PREEMPTION_NOTICE": self._notice}
        if care is not None and care.path is not None:
            values["SKYPILOT_CHECKPOINT_DIR"] = cares.folder(care.path, self._node.home)
        return values

    async def signal(self, key: str, task: Task, word: str) -> int:
        """Send a signal to the processes of a task, wherever they are; how many got it.

        The shell that runs the script gets it only if the script has a trap for it, for it would end without waiting
        for what it has started.
        """
        number = int(getattr(signal, "SIG" + word))
        name = self._containers.named(task.stem)
        if name is not None:
            return await self._containers.signal(name, task.mark, word)
        told = 0
        for pid, _ in processes.marked(task.mark):
            shell = processes.parent(pid) == task.pid
            if pid == task.pid or (shell and self._waits(pid) and not processes.catches(pid, number)):
                continue
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                told += 1
        return told

    def _waits(self, pid: int) -> bool:
        """Whether a process has children."""
        return any(processes.parent(each) == pid for each, _ in processes.marked("%s/" % self._node.node_id))

    async def strike(self, key: str, *, starved: bool) -> int:
        """`kill -9` of all processes of a job on this node, which may not know why; how many there were.

        `starved`: as when the kernel ends them for want of memory.
        """
        count = 0
        for phase in PHASES:
            task = self._find(key, phase)
            if task is None or task.over:
                continue
            if starved:
                memory.mark(task.stem)
            name = self._containers.named(task.stem)
            if name is not None:
                count += await self._containers.signal(name, task.mark, "KILL")
            for pid, _ in processes.marked(task.mark):
                # The wrapper stays, as it does when the kernel chooses the largest: it writes the exit code.
                if pid != task.pid:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                        count += 1
        return count

    async def wait(self, key: str, phase: str, seconds: float) -> Dict[str, Any]:
        """Wait until the phase has ended, at most `seconds`: {status: running | exited | lost, rc}."""
        task = self._find(key, phase)
        if task is None:
            return {"status": "lost", "rc": None}
        if not task.over:
            await task.ended.wait(seconds)
        return {"status": task.status, "rc": task.code}

    async def kill(self, key: str, grace: float) -> None:
        """End all processes of a job on this node, and let none of its phases start any more."""
        self._bar(key)
        mark = "%s/%s/" % (self._node.node_id, key)
        stems = (os.path.join(self._root, "%s.%s" % (key, phase)) for phase in PHASES)
        inside = {name for name in map(self._containers.named, stems) if name is not None}
        for name in inside:
            await self._containers.end(name, mark, grace)
        await processes.end(mark, grace)
        for name in inside:
            # One that was about to get in while the others were ended.
            await self._containers.end(name, mark, 0)

    def _bar(self, key: str) -> None:
        _write(self._barrier(key), "", 0o600)

    async def kill_all(self, grace: float, remove: bool = False) -> None:
        """End all task processes of this node, and stop its containers; `remove` takes those away as well."""
        for key in sorted({key for (key, _), task in self._tasks.items() if not task.over}):
            self._bar(key)
        mark = "%s/" % self._node.node_id
        await self._containers.end_all(mark, grace, remove)
        await processes.end(mark, grace)

    def forget(self, key: str) -> None:
        """Drop the records of a job that has ended; its logs stay."""
        for phase in PHASES:
            self._tasks.pop((key, phase), None)
        stems = [os.path.join(self._root, "%s.%s" % (key, phase)) for phase in PHASES]
        for path in (*(stem + ending for stem in stems for ending in _ENDINGS), self._barrier(key)):
            with suppress(FileNotFoundError):
                os.unlink(path)

    async def log(
        self, key: str, phase: str, log: str, offset: int, wait: float, limit: int, tail: Optional[int]
    ) -> Tuple[Dict[str, Any], bytes]:
        """{offset, eof, status, rc} and bytes of a phase's log; waits up to `wait` seconds for some.

        `why` is there when it could not get into its container.

        Read from `offset`, or from `tail` lines before the end of what is there.
        """
        path = self._log_path(log)
        if tail is not None:
            offset = tail_offset(path, tail, size(path))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        watched = ""
        bell = Signal()
        try:
            while True:
                task = self._find(key, phase)
                over = task is None or task.over
                data = read_chunk(path, offset, limit)
                left = deadline - loop.time()
                if data or over or left <= 0:
                    break
                assert task is not None
                if not watched and exists(path):
                    # Look once more after the watch is set: a write in between rings no bell.
                    bell, watched = self._files.enter(path), path
                    continue
                await wait_any((task.ended, bell), left)
        finally:
            if watched:
                self._files.leave(watched)
        facts: Dict[str, Any] = {"offset": offset + len(data), "eof": over and len(data) < limit}
        facts["status"], facts["rc"] = (task.status, task.code) if task is not None else ("lost", None)
        if task is not None and over and task.code:
            facts["cause"] = self._cause(key, task, path)
        if task is not None and task.code == FAILED:
            facts["why"] = _text(task.stem + ".why")
        return facts, data


def _which(program: str, environ: Dict[str, str]) -> Optional[str]:
    # shutil has this, at the price of a megabyte of compression libraries.
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, program)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _text(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4000)
    except OSError:
        return None


def _number(path: str) -> Optional[int]:
    # A file without its newline is still being written.
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    return int(text) if text.endswith("\n") and text.strip().isdigit() else None


def _write(path: str, text: str, mode: int) -> None:
    # By rename: a shell that runs the old file reads on in it.
    handle = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.replace(path + ".new", path)

"""What the agent does with containers: writes down how a task gets into one, and ends what runs there.

The agent itself stays outside, and so does every process of it: a task with an image runs `container.py`, which makes
the container if need be and runs the script in it. A job's processes are found inside by the same mark as outside;
they are ended there, by the engine's means, since they may belong to another user. Called by `tasks.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
import zlib
from contextlib import suppress
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from .container import ContainerFailed, Engine, find_engine
from .fields import Fields, bad
from .node import Node
from .processes import MARK

_LOOK_EVERY = 0.2
_HOPELESS = 10.0
_OPTIONS_LIMIT = 200
_STOP_WITHIN = 60.0

# Inside, as root: $1 what the environment of a process must hold, $2 the signal, $3 who has had it. Prints all of them.
# The shells that this may be differ in what they make of NUL bytes, but all of them leave the rest.
_SIGNAL = r"""
exec 2>/dev/null
for p in /proc/[0-9]*; do
  case "$(cat "$p/environ")" in
    *"$1"*) n=${p#/proc/}; echo "$n"; case " $3 " in *" $n "*) ;; *) kill -s "$2" "$n";; esac;;
  esac
done
:
"""


class Image(NamedTuple):
    """What a task is to run in. `login` holds server, username and password; `mounts` are folders of the node, outside
    of its home, that are to be seen inside at the same path."""

    name: str
    run_options: List[str]
    login: Optional[Dict[str, str]] = None
    mounts: Tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "Image(%r)" % self.name


def parse(values: Any) -> Optional[Image]:
    """Check the `container` of a job or a task; None when there is none."""
    if values is None:
        return None
    fields = Fields(values, "the container")
    name, options = fields.text("image", limit=500), fields.texts("run_options")
    if not name or name.startswith("-") or any(letter.isspace() for letter in name):
        raise bad("the container: 'image' is not the name of an image: %r" % name[:80])
    if len(options) > _OPTIONS_LIMIT:
        raise bad("the container: at most %d run options are taken, found %d" % (_OPTIONS_LIMIT, len(options)))
    login = fields.raw("login")
    if login is not None:
        found = Fields(login, "the container's login")
        login = {key: found.text(key, limit=1 << 16) for key in ("server", "username", "password")}
        if any(value.startswith("-") for value in (login["server"], login["username"])):
            raise bad("the container's login: neither the server nor the user name may begin with '-'")
    mounts = fields.texts("mounts")
    if len(mounts) > _OPTIONS_LIMIT or any(not os.path.isabs(path) or ":" in path or path == "/" for path in mounts):
        raise bad("the container: 'mounts' must be absolute paths without ':', at most %d" % _OPTIONS_LIMIT)
    return Image(name, options, login, tuple(sorted(set(mounts))))


class Containers:
    """The containers of this node."""

    def __init__(self, node: Node, gpus: Callable[[], bool]) -> None:
        self._node = node
        self._gpus = gpus
        self._root = os.path.join(node.root, "containers")
        self._engine: Optional[Engine] = None

    def script(self, stem: str, image: Image, script: str, env: Dict[str, str], folder: str) -> str:
        """Write down what a task needs to get into its container; returns what its wrapper is to run instead."""
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        name = self._name(image)
        wanted = {
            "name": name,
            "node": self._node.node_id,
            "home": self._node.home,
            "lock": os.path.join(self._root, name),
            "image": image.name,
            "run_options": image.run_options,
            "login": image.login,
            "mounts": image.mounts,
            "gpus": self._gpus(),
            "folder": folder,
            "mark": "%s=%s" % (MARK, env[MARK]),
            "script": _with_variables(script, env),
            "why": stem + ".why",
        }
        # Holds variables that may be secrets, and perhaps a login: gone as soon as the task has read it.
        handle = os.open(stem + ".json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(wanted, file)
        with open(stem + ".container", "w", encoding="utf-8") as file:
            file.write(name)
        words = [sys.executable, "-I", "-S", os.path.abspath(sys.argv[0]), "--container", stem + ".json"]
        return "exec %s\n" % " ".join(shlex.quote(word) for word in words)

    def _name(self, image: Image) -> str:
        told = "\0".join([self._node.node_id, image.name, *image.run_options, "", *image.mounts])
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", "%s-%s" % (self._node.cluster_name, image.name))
        return "sky-%s-%08x" % (plain[:80], zlib.crc32(told.encode("utf-8", "surrogatepass")))

    async def end(self, name: str, mark: str, grace: float) -> None:
        """End the processes in a container whose mark begins with `mark`: asked to at first, killed after `grace`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        wanted = "%s=%s" % (MARK, mark)
        signal, told = "TERM" if grace > 0 else "KILL", ""
        while True:
            left = await self._signal(name, wanted, signal, told)
            if not left or loop.time() >= deadline + _HOPELESS:
                return
            await asyncio.sleep(_LOOK_EVERY)
            signal, told = ("TERM", " ".join(left)) if loop.time() < deadline else ("KILL", "")

    async def signal(self, name: str, mark: str, word: str) -> int:
        """Send a signal to the processes in a container whose mark begins with `mark`; how many there are."""
        return len(await self._signal(name, "%s=%s" % (MARK, mark), word, ""))

    async def _signal(self, name: str, wanted: str, signal: str, told: str) -> List[str]:
        """Who there was. A container that does not run has nobody."""
        words = ("exec", "--user", "0:0", name, "/bin/sh", "-c", _SIGNAL, "sky-end", wanted, signal, told)
        rc, said = await self._ask(*words)
        return said.split() if rc == 0 else []

    async def _ask(self, *words: str) -> Tuple[int, str]:
        loop = asyncio.get_running_loop()
        try:
            if self._engine is None:
                self._engine = await loop.run_in_executor(None, find_engine)
        except ContainerFailed as error:
            return 1, str(error)
        return await loop.run_in_executor(None, self._engine.ask, *words)

    def named(self, stem: str) -> Optional[str]:
        """The container that a task was started in, None when it was none."""
        try:
            with open(stem + ".container", encoding="utf-8") as file:
                return file.read()
        except OSError:
            return None

    async def end_all(self, mark: str, grace: float, remove: bool) -> None:
        """End everything in all containers of this node, then stop them; `remove` leaves nothing of them."""
        names = self._known()
        await asyncio.gather(*(self._end_one(name, mark, grace, remove) for name in names))

    async def _end_one(self, name: str, mark: str, grace: float, remove: bool) -> None:
        await self.end(name, mark, grace)
        rc, said = await self._ask(*(("rm", "-f", name) if remove else ("stop", "-t", "2", name)))
        if rc != 0 and "o such container" not in said and "no container" not in said:
            print("agent: the container %s is left: %s" % (name, said), file=sys.stderr, flush=True)
        elif remove:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self._root, name))

    def _known(self) -> List[str]:
        try:
            return sorted(os.listdir(self._root))
        except OSError:
            return []


def _with_variables(script: str, env: Dict[str, str]) -> str:
    """The script as it runs inside: it removes itself from the disk, and sets its variables."""
    lines = ['rm -rf "$SKY_TASK_FOLDER"; unset SKY_TASK_FOLDER']
    lines += ["export %s=%s" % (name, shlex.quote(value)) for name, value in sorted(env.items())]
    return "\n".join([*lines, script])

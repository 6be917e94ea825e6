"""Runs on a node: sees to it that the right agent answers there, and says how that went.

Sent as text by `starting.py`, with all that it takes on its input, to any Python from 3.6 on (an agent says itself
which one it needs); nothing but the standard library. An agent of this version and configuration is left alone,
another one is asked to leave, one that does not answer is ended; tasks go on through all of it. Then the agent is put
there and started under a shell loop that starts it again should it die.
"""

import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
import zlib

MYPY = False
if MYPY:
    # Not for the node, where it would take its time.
    from collections.abc import Mapping, Sequence
    from typing import Any

    Json = dict[str, Any]

_LOOK_EVERY = 0.005
#: Seconds for an agent that holds the lock and does not listen yet, for one to leave, and beyond the deadline.
_COMES_WITHIN, _LEAVES_WITHIN, _OVERDUE = 1.0, 5.0, 10
_HELLO_WITHIN = 2.0
_LARGEST_ANSWER = 1 << 20
_LARGEST_LOG = 1000000
_SAID = 2000
#: Exit codes after which another agent may answer all the same: asked to leave, and another one serves the home.
_ANOTHER_MAY = (0, 3)

# Exit codes 0, 2, 3 and 4 are the agent's own decision to end (see `sky.agent.__main__`), 126 and 127 mean that there
# is no Python to start; anything else is a death.
_RESPAWN = r"""#!/bin/sh
# Starts the agent again when it dies; ends when the agent leaves of its own accord.
deaths=0
while :; do
  since=$(date +%s)
  "$1" -I -S "$2" --node "$3" --version "$4" --patience 10
  rc=$?
  case $rc in 0|2|3|4|126|127) exit $rc;; esac
  if [ $(( $(date +%s) - since )) -gt 10 ]; then deaths=0; else deaths=$((deaths + 1)); fi
  if [ $deaths -gt 3 ]; then sleep 2; fi
done
"""


def filled(argv: "Sequence[str]", python: str, root: bool) -> "list[str]":
    """A node's own command: `@python` is its Python, `@sudo` what makes it root."""
    words = []  # type: list[str]
    for word in argv:
        if word == "@sudo":
            words += [] if root else ["sudo", "-n"]
        else:
            words.append(python if word == "@python" else word)
    return words


def settled(config: "Mapping[str, Any]", home: str, socket: str, python: str, root: bool) -> "Json":
    """A node's configuration with what only the node knows: its home, its socket, how it ends itself."""
    power = {mode: filled(argv, python, root) for mode, argv in config["power_off"].items()}
    return dict(config, home=home, socket=socket, power_off=power)


class Node:
    """The node as it is to be."""

    def __init__(self, order: "Json", python: str, config: "Json") -> None:
        self.python = python
        self.config = config
        self.version = order["version"]
        self.deadline = time.monotonic() + order["seconds"]
        self.answers = order["answers"]
        self.root = os.path.join(config["home"], ".sky", "agent")
        self.log = os.path.join(self.root, "agent.log")
        self.json = os.path.join(self.root, "node.json")
        self.zip = os.path.join(self.root, f"agent-{self.version}.pyz")
        told = json.dumps(config, sort_keys=True).encode("utf-8", "surrogatepass")
        self.wanted = (self.version, config["node_id"], zlib.crc32(told))

    def ask(self, verb: str, within: float) -> "Json | None":
        """What the agent answers: None when nobody listens, empty when whoever does keeps silent."""
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(within)
        try:
            try:
                line.connect(self.config["socket"])
            except OSError:
                return None
            try:
                head = json.dumps({"id": 1, "verb": verb, "args": {}}).encode()
                line.sendall(struct.pack(">II", len(head), 0) + head)
                size = struct.unpack(">II", _exactly(line, 8))[0]
                answer = json.loads(_exactly(line, min(size, _LARGEST_ANSWER)).decode("utf-8", "surrogatepass"))
                return dict(answer["ok"])
            except (OSError, EOFError, ValueError, KeyError, TypeError):
                return {}
        finally:
            line.close()

    def is_right(self, hello: "Json | None") -> bool:
        """Whether the agent that said this is the one that is wanted."""
        said = hello or {}
        return (said.get("version"), said.get("node_id"), said.get("config")) == self.wanted

    def look(self) -> "Json | None":
        """How it is settled already, None when the agent has to be started; what is in its way is gone then."""
        hello = self.ask("hello", self.answers)
        if hello is None and self._about_to_listen():
            patience = min(self.deadline, time.monotonic() + _COMES_WITHIN)
            while hello is None and time.monotonic() < patience:
                time.sleep(_LOOK_EVERY)
                hello = self.ask("hello", self.answers)
        if self.is_right(hello):
            return {"how": "found"}
        if not hello:
            self._end_holder()
        elif hello.get("node_id") != self.config["node_id"]:
            return {"how": "foreign", "said": str(hello.get("node_id"))[:200]}
        else:
            self.ask("shutdown", _LEAVES_WITHIN)
        return None

    def _living(self, name: str) -> "tuple[int, list[bytes]] | None":
        """Whom a file of this home names, as far as it lives: its pid, and its words (none without /proc).

        The agent writes `lock`, this program `loop`.
        """
        try:
            with open(os.path.join(self.root, name), "rb") as file:
                pid = int(file.read(32))
            if not os.path.isdir("/proc/self"):
                return pid, []
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except (OSError, ValueError):
            return None
        return (pid, words) if os.fsencode(self.json) in words else None

    def _about_to_listen(self) -> bool:
        """Whether the right agent is about to be there, started by its loop."""
        found = self._living("lock") or self._living("loop")
        if found is None or self.version.encode() not in found[1]:
            return False
        try:
            with open(self.json, encoding="utf-8") as file:
                return bool(json.load(file) == self.config)
        except (OSError, ValueError):
            return False

    def _end_holder(self) -> None:
        """Who holds the home and cannot be reached (its socket was deleted, it hangs) would hold it for ever."""
        for name in ("loop", "lock"):
            found = self._living(name)
            if found is not None:
                try:
                    os.kill(found[0], signal.SIGKILL)
                except OSError:
                    pass

    def install(self, archive: bytes) -> None:
        """Put everything there."""
        self._put(self.json, json.dumps(self.config).encode("utf-8", "surrogatepass"))
        self._put(self.zip, archive)
        self._put(os.path.join(self.root, "respawn.sh"), _RESPAWN.encode())
        for name in os.listdir(self.root):
            path = os.path.join(self.root, name)
            if name == "stopped.json" or (name.startswith("agent-") and name.endswith(".pyz") and path != self.zip):
                os.unlink(path)
        if os.path.exists(self.log) and os.path.getsize(self.log) > _LARGEST_LOG:
            os.replace(self.log, self.log + ".1")

    def _put(self, path: str, data: bytes) -> None:
        fresh = f"{path}.{os.getpid()}"
        with open(fresh, "wb") as file:
            file.write(data)
        os.replace(fresh, path)

    def spawn(self, mask: int) -> int:
        """Start the loop, apart from whoever asked for it; its pid."""
        environ = {name: value for name, value in os.environ.items() if name not in _OF_THE_LOGIN}
        environ["HOME"] = self.config["home"]
        words = ["sh", os.path.join(self.root, "respawn.sh"), self.python, self.zip, self.json, self.version]
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                os.umask(mask)
                # Python ignores them, and what it starts would as well.
                for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
                    signal.signal(ignored, signal.SIG_DFL)
                null = os.open("/dev/null", os.O_RDONLY)
                for number, handle in enumerate((null, log, log)):
                    os.dup2(handle, number)
                os.execve("/bin/sh", words, environ)  # noqa: S606 - the loop, by a list of words
            finally:
                os._exit(127)
        os.close(log)
        self._put(os.path.join(self.root, "loop"), b"%d\n" % pid)
        return pid

    def wait(self, pid: int) -> "Json":
        """Until the agent answers, or cannot."""
        problem, ended = "no answer", False
        while time.monotonic() < self.deadline:
            # A short limit: right after an upgrade the old agent may still accept and then leave.
            hello = self.ask("hello", _HELLO_WITHIN)
            if self.is_right(hello):
                return {"how": "started"}
            if hello:
                problem = f"an agent of version {str(hello.get('version'))[:100]} still answers"
            if not ended:
                done, status = os.waitpid(pid, os.WNOHANG)
                rc = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
                ended = bool(done)
                if ended and rc not in _ANOTHER_MAY:
                    return {"how": "ended", "rc": rc, "said": self.last_words()}
            time.sleep(_LOOK_EVERY)
        return {"how": "late", "problem": problem, "said": self.last_words()}

    def last_words(self) -> str:
        """The end of the agent's log."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, os.path.getsize(self.log) - _SAID))
                return file.read().decode("utf-8", "replace").strip() or "(nothing)"
        except OSError:
            return "(its log could not be read)"


_OF_THE_LOGIN = ("SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "SSH_AUTH_SOCK")


def _exactly(line: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = line.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def start(node: Node, archive: bytes) -> "Json":
    """Do it; how it went."""
    mask = os.umask(0o077)
    try:
        os.makedirs(node.root, mode=0o700, exist_ok=True)
        turn = os.open(os.path.join(node.root, "starting"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # One at a time: the second finds what the first has started. A lock goes with its process.
        while True:
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > node.deadline:
                    return {"how": "late", "problem": "another start is under way", "said": node.last_words()}
                time.sleep(_LOOK_EVERY)
        found = node.look()
        if found is not None:
            return found
        node.install(archive)
        return node.wait(node.spawn(mask))
    except OSError as error:
        return {"how": "failed", "said": f"{error.strerror}: {error.filename}"}


def main(arguments: "list[str]") -> int:
    """Arguments: a mark for the answer, the Python for the agent, and the node's home and socket or nothing."""
    mark, python, home, socket = arguments
    given = sys.stdin.buffer
    order = json.loads(given.readline().decode())
    archive = given.read()
    config = order["config"]
    if home:
        config = settled(config, home, socket, python, os.getuid() == 0)
    # Should nobody be there any more to end this.
    signal.alarm(int(order["seconds"]) + _OVERDUE)
    answer = start(Node(order, python, config), archive)
    sys.stdout.write(f"\n{mark}+\t{json.dumps(answer)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

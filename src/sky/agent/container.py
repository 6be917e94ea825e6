"""The way of a task into its container: a process of its own, started by the task's wrapper in place of the script.

`python agent.pyz --container FILE` (see `entry.py`) reads what `containers.py` wrote for it, makes sure that the image
is there and its container runs, and becomes the engine's `exec` of the script. So whatever an engine says while it
pulls is in the job's log, and a cancellation ends it like any process. Inside, the script arrives on the standard
input: no line of it, and no variable, is on any command line or left on the node's disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

FAILED = 125
_SAID = 2000
#: What an engine that does not answer costs at most, in seconds; starting a container, and pulling an image.
_ASK, _START, _PULL = 30, 300, 7200

# What holds the container open: it reaps what tasks leave behind and ends when told to.
_IDLE = 'trap "exit 0" TERM INT; while :; do sleep 3600 & wait $!; done'

# Inside: $1 is the folder to work in. The task arrives on the input and becomes a file that removes itself at once.
# Both outputs are one: the engine carries two apart, in no order.
_ENTER = r"""
umask 077
d=$(mktemp -d 2>/dev/null) || { d=/tmp/.sky-$$; mkdir -p "$d"; } || exit 126
cat >"$d/task" || exit 126
sh=$(command -v bash) || sh=/bin/sh
umask 022
cd "$1" || exit 126
SKY_TASK_FOLDER=$d exec "$sh" "$d/task" </dev/null 2>&1
"""


class ContainerFailed(Exception):
    """The container cannot be had; the text says why and what the engine said."""


class Engine:
    """A container engine of this node: `argv` is how it is called."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.name = "podman" if "podman" in self.argv else "docker"

    def ask(self, *words: str, within: float = _ASK, text: str = "") -> Tuple[int, str]:
        """Run a command of the engine's to its end: exit code, and what it said."""
        try:
            done = subprocess.run(
                [*self.argv, *words],
                input=text.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=within,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return FAILED, "%s did not answer within %d s" % (self.name, within)
        except OSError as error:
            return FAILED, "%s: %s" % (self.argv[0], error.strerror)
        return done.returncode, done.stdout.decode("utf-8", "replace").strip()[-_SAID:]

    def is_cramped(self) -> bool:
        """Whether it has a single user to give to what is inside: most images cannot be unpacked then."""
        if self.argv[0] != "podman" or os.getuid() == 0:
            return False
        return self.ask("info", "--format", "{{len .Host.IDMappings.UIDMap}}") in ((0, "0"), (0, "1"))

    def whole(self, image: str) -> str:
        """The image's name for pulling: one without a registry is meant as docker takes it, whatever the engine."""
        first, slash, _ = image.partition("/")
        if self.name == "docker" or (slash and ("." in first or ":" in first or first == "localhost")):
            return image
        return "docker.io/" + (image if slash else "library/" + image)


#: In the order in which they are tried.
ENGINES = (("docker",), ("podman",), ("sudo", "-n", "docker"), ("sudo", "-n", "podman"))


def find_engine() -> Engine:
    """The first engine that answers; ContainerFailed tells what each of them said."""
    said, second_best = [], None
    for argv in ENGINES:
        engine = Engine(argv)
        rc, answer = engine.ask("version")
        if rc == 0 and not engine.is_cramped():
            return engine
        if rc == 0:
            second_best = second_best or engine
        said.append("%s: %s" % (" ".join(argv), answer.splitlines()[-1] if answer else "exit code %d" % rc))
    if second_best is not None:
        return second_best
    raise ContainerFailed(
        "the task asks for a container, and this node has no container engine that works (%s); install docker or"
        " podman there, or let this user use it" % "; ".join(said)
    )


def enter(wanted: Dict[str, Any]) -> None:
    """Become the script in its container; returns only by ContainerFailed."""
    engine = find_engine()
    name = wanted["name"]
    with _turn(wanted["lock"]):
        _ensure(engine, name, wanted)
    # A megabyte that the agent, which asks the engine by this module too, need not hold.
    import tempfile  # noqa: PLC0415

    with tempfile.TemporaryFile() as script:
        script.write(wanted["script"].encode("utf-8", "surrogateescape"))
        script.seek(0)
        os.dup2(script.fileno(), 0)
    words = [*engine.argv, "exec", "-i", "-e", wanted["mark"], *_user(wanted["run_options"]), name]
    words += ["/bin/sh", "-c", _ENTER, "sky-enter", wanted["folder"]]
    os.execvp(words[0], words)  # noqa: S606 - the engine, by a list of words


def _user(options: Sequence[str]) -> List[str]:
    # Setup scripts install things: they are root inside, whatever the image says, unless the options say otherwise.
    if any(option.split("=")[0] in ("-u", "--user") for option in options):
        return []
    return ["--user", "0:0"]


@contextmanager
def _turn(path: str) -> Iterator[None]:
    """One task at a time makes a container; the others find it made."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _ensure(engine: Engine, name: str, wanted: Dict[str, Any]) -> None:
    rc, state = engine.ask("inspect", "--type", "container", "--format", "{{.State.Running}}", name)
    if rc == 0 and state == "true":
        return
    if rc == 0:
        rc, said = engine.ask("start", name, within=_START)
        if rc == 0:
            return
        # One that does not start again (its image or a mount is gone) is made anew.
        engine.ask("rm", "-f", name, within=_START)
    image = wanted["image"]
    if engine.ask("image", "inspect", image)[0] != 0:
        image = engine.whole(image)
        if engine.name == "docker" or engine.ask("image", "inspect", image)[0] != 0:
            _pull(engine, image, wanted.get("login"))
    options = wanted["run_options"]
    words = ["run", "-d", "--name", name, "--label", "sky.node=" + wanted["node"], *_defaults(engine, wanted)]
    rc, said = engine.ask(*words, *options, "--entrypoint", "/bin/sh", image, "-c", _IDLE, within=_START)
    if rc != 0:
        engine.ask("rm", "-f", name, within=_START)
        if "/bin/sh" in said and ("no such file" in said or "not found" in said):
            raise ContainerFailed("the image %s has no /bin/sh, which tasks need to run in it" % image)
        given = " with the options %s" % " ".join(options) if options else ""
        raise ContainerFailed("%s cannot start a container of %s%s: %s" % (engine.name, image, given, said))


def _defaults(engine: Engine, wanted: Dict[str, Any]) -> List[str]:
    """What a container gets unless its options say otherwise: it is to be the node, with other software in it."""
    given = {option.split("=")[0] for option in wanted["run_options"]}
    words = ["-v", "%s:%s" % (wanted["home"], wanted["home"]), "-e", "HOME=" + wanted["home"]]
    for path in wanted["mounts"]:
        # One that is not there yet would be made by the engine, and belong to root.
        if os.path.exists(path):
            words += ["-v", "%s:%s" % (path, path)]
    if not given & {"--network", "--net"}:
        words += ["--network", "host"]
    if not given & {"--ipc", "--shm-size"}:
        words += ["--ipc", "host"]
    if wanted["gpus"] and not given & {"--gpus", "--device"}:
        words += ["--gpus", "all"] if engine.name == "docker" else ["--device", "nvidia.com/gpu=all"]
    if engine.name == "podman":
        words += ["--security-opt", "label=disable"]
    return words


def _pull(engine: Engine, image: str, login: Optional[Dict[str, str]]) -> None:
    print("Pulling %s" % image, flush=True)
    if login is None:
        rc, said = engine.ask("pull", "-q", image, within=_PULL)
    else:
        import tempfile  # noqa: PLC0415 - as above

        # A folder for this alone: the login is gone with it, and no other one of the node's is touched.
        with tempfile.TemporaryDirectory(prefix="sky-login-") as folder:
            rc, said = _pull_as(engine, image, login, folder)
    if rc != 0:
        raise ContainerFailed("%s cannot pull %s: %s" % (engine.name, image, said or "exit code %d" % rc))


def _pull_as(engine: Engine, image: str, login: Dict[str, str], folder: str) -> Tuple[int, str]:
    before, after = ["--config", folder], []
    if engine.name == "podman":
        before, after = [], ["--authfile", os.path.join(folder, "auth.json")]
    server = login["server"]
    words = [*before, "login", *after, "--username", login["username"], "--password-stdin", server]
    rc, said = engine.ask(*words, text=login["password"])
    if rc != 0:
        raise ContainerFailed("%s cannot log in to %s as %s: %s" % (engine.name, server, login["username"], said))
    result = engine.ask(*before, "pull", "-q", *after, image, within=_PULL)
    engine.ask(*before, "logout", *after, server)
    return result


def main(path: str) -> int:
    """Read what is wanted, take it off the disk, and enter. A failure is said where the agent finds it."""
    with open(path, encoding="utf-8") as file:
        wanted: Dict[str, Any] = json.load(file)
    os.unlink(path)
    # A cancellation in the middle of a pull: what was put aside for it, a login above all, is cleared away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(FAILED))
    try:
        enter(wanted)
    except (ContainerFailed, OSError) as error:
        print("container: %s" % error, file=sys.stderr, flush=True)
        with open(wanted["why"], "w", encoding="utf-8") as file:
            file.write(str(error))
    return FAILED

"""The channel to a node of a Slurm allocation: by its login node, with `srun`. No SSH to the nodes is needed.

Made by `server.fleet` for every node whose `reach` says so. Inside of each allocation a keeper of the provider's runs
(`sky.providers.slurm.login_scripts`): what must outlive the step that asked for it, as the agent must, is started
there, since Slurm ends all that a step leaves behind.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import asyncssh

from sky.agent.connection import CallRefused, Connection, ConnectionLost

from .channel import Completed, Order, Outcome
from .errors import AgentUnreachable, LinkDown, NoPython
from .scripts import FACTS, LOADER, RELAY, SCRIPT_END, START
from .ssh import SshChannel, place_of
from .ssh_link import Place, SshLink
from .starter import settled
from .starting import GRACE_S, outcome, sent
from .streams import Stream
from .ways import folder_of, temporary_of

_NODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,253}\Z")
_FACTS_S = 30.0
#: Seconds for a step to begin, from one question to an open connection to the next, and for its answer.
_OPEN_S, _ASK_EVERY_S, _ANSWER_S = 8.0, 3.0, 4.0
#: Tasks that nobody waits for, held so that they are not lost.
_WATCHES: set[asyncio.Task[None]] = set()
#: What srun has to say of an exit code that is the command's own.
_SRUN_SAYS = re.compile(rb"^srun: error: [^\n]{0,300}: task 0: [^\n]{0,200}\n", re.MULTILINE)
#: As on the login node's own scripts: where Slurm's programs may be.
_SRUN = (
    'PATH="$PATH:/usr/local/bin:/usr/bin:/bin:/opt/slurm/bin:/usr/local/slurm/bin:/opt/slurm/current/bin"; '
    'command -v srun >/dev/null 2>&1 || . /etc/profile >/dev/null 2>&1; exec srun "$@"'
)

# $1 the job, $2 the command as a line for sh, $3 the folder for what is temporary. The input is the command's.
_BY_KEEPER = r"""
umask 077
set -- "$3/.sky-$(id -u)-job-$1" "$2"
[ -p "$1/door" ] || { echo "the allocation's keeper is not there: $1" >&2; exit 1; }
request=$(mktemp -d "$1/req.XXXXXX") || exit 1
trap 'rm -rf "$request"' EXIT
mkfifo "$request/end"
cat >"$request/in"
printf '%s\n' "$2" >"$request/go"
printf '%s\n' "${request##*/}" >"$1/door"
read -r rc <"$request/end"
cat "$request/out"
cat "$request/err" >&2
exit "${rc:-1}"
"""


class SlurmChannel:
    """See `channel.Channel`. `link` and `login` lead to the login node."""

    def __init__(self, link: SshLink, login: SshChannel, reach: Mapping[str, str], *, where: str) -> None:
        """`reach` has `job`, `node` and `home` beside what leads to the login node."""
        self.where = where
        self.python = "python3"
        self._link = link
        self._login = login
        self._folder, self._tmp = folder_of(reach), temporary_of(reach)
        self._job, self._node = reach["job"], reach["node"]
        self._key = f"{self._job}/{self._node}/{self._folder}"
        # The node's home, and in which folder of the keeper's its socket is: one that was made for nobody else.
        self._where = (self._folder, self._job, self._tmp)
        self._words = step_words(self._job, self._node, where=where)

    async def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, input: bytes = b"", timeout: float = 60.0
    ) -> Completed:
        """Run a command in the node's login home; what it leaves in the background stays. See `Channel.run`."""
        words, before = _through_loader(argv)
        line = shlex.join(["env", *(f"{key}={value}" for key, value in (env or {}).items()), *words])
        argv = ["/bin/sh", "-c", _BY_KEEPER, "sky-run", self._job, line, self._tmp]
        return await self._step(argv, before + input, timeout)

    async def settle(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Channel.settle`."""
        try:
            place = await self._place()
        except OSError as error:
            raise AgentUnreachable(f"{self.where}: {error or 'the login node did not answer in time'}") from None
        return settled(config, place.home, place.socket, place.python, place.root)

    async def start(self, order: Order) -> Outcome:
        """See `Channel.start`: by the keeper, since what a step leaves behind ends with it."""
        mark = f"sky-{secrets.token_hex(8)}"
        argv = ["/bin/sh", "-c", START, "sky-start", mark, *self._where]
        done = await self.run(argv, env=order.env, input=sent(order), timeout=order.seconds + GRACE_S)
        place = self._link.places[self._key] = place_of(done, mark, self.where)
        if not place.python:
            raise NoPython(f"{self.where} has no Python 3.8 or newer; install one on the cluster's nodes")
        self.python = place.python
        return outcome(done, mark, self.where)

    async def open_agent(self) -> Connection:
        """A stream to the agent's socket: a step that passes bytes on, for as long as it is open."""
        place = await self._place()
        mark = f"sky-{secrets.token_hex(8)}"
        argv = [*self._srun("--unbuffered"), place.python or "python3", "-I", "-S", "-c", RELAY, place.socket, mark]
        connection = await self._link.connection()
        stream = Stream()
        try:
            await connection.create_session(lambda: stream, shlex.join(argv), encoding=None)
        except asyncssh.Error as error:
            raise LinkDown(f"the connection to the login node broke: {error.reason}") from None
        try:
            # The mark says that it is through.
            async with asyncio.timeout(_OPEN_S):
                await stream.past(mark)
        except TimeoutError:
            stream.abort()
            raise LinkDown(f"{self.where}: Slurm did not begin a step within {_OPEN_S:g} s") from None
        except EOFError:
            said = stream.complaint.decode("utf-8", "replace").strip()[-200:]
            raise ConnectionRefusedError(f"no agent listens on {self.where}: {said or 'the relay ended'}") from None
        except BaseException:
            stream.abort()
            raise
        made = Connection(stream.reader, stream)
        watch = asyncio.create_task(_watch(made), name=f"watching {self.where}")
        _WATCHES.add(watch)
        watch.add_done_callback(_WATCHES.discard)
        return made

    def _srun(self, *options: str) -> list[str]:
        """The beginning of a line that runs something on the node, beside what runs there."""
        return [*self._words, *options]

    async def _step(self, argv: Sequence[str], input: bytes, timeout: float) -> Completed:
        words, before = _through_loader(argv)
        try:
            done = await self._login.run([*self._srun(), *words], input=before + input, timeout=timeout)
        except asyncssh.Error as error:
            raise LinkDown(f"the connection to the login node broke: {error.reason}") from None
        return Completed(done.rc, done.stdout, _SRUN_SAYS.sub(b"", done.stderr))

    async def _place(self) -> Place:
        """What is found on the node, looked for once. The socket is no file of a home, which may be shared."""
        place = self._link.places.get(self._key)
        if place is None:
            mark = f"sky-{secrets.token_hex(8)}"
            argv = ["/bin/sh", "-c", FACTS, "sky-facts", mark, *self._where]
            place = self._link.places[self._key] = place_of(await self._step(argv, b"", _FACTS_S), mark, self.where)
        if place.python:
            self.python = place.python
        return place


async def _watch(connection: Connection) -> None:
    """Ask now and then, and close what does not answer: a node that is gone is no news to the login node's srun."""
    try:
        while not connection.closed:
            await asyncio.sleep(_ASK_EVERY_S)
            if not connection.closed:
                await connection.call("hello", {}, timeout=_ANSWER_S)
    except (ConnectionLost, CallRefused):
        await connection.close()


def step_words(job: str, node: str, *, where: str = "node") -> list[str]:
    """The words before a command that is to run on a node of an allocation, beside what runs there; for the login node.

    More options of srun may follow them. Raises AgentUnreachable for what is no job or no node.
    """
    if not job.isdigit() or not _NODE.match(node):
        raise AgentUnreachable(f"{where}: {job[:20]!r} is no job, or {node[:60]!r} is no node of Slurm")
    step = ["--quiet", f"--jobid={job}", "--overlap", "--nodes=1", "--ntasks=1", f"--nodelist={node}"]
    return ["/bin/sh", "-c", _SRUN, "sky-srun", *step, "--cpus-per-task=1", "--gres=none"]


def _through_loader(argv: Sequence[str]) -> tuple[list[str], bytes]:
    """A script goes by the input: nobody else gets to see it in the list of processes. See `ssh._command`."""
    words = list(argv)
    if words[:2] != ["/bin/sh", "-c"]:
        return words, b""
    before = f"{words[2].strip()}\n{SCRIPT_END}\n".encode()
    return [*words[:2], LOADER, *words[3:]], before

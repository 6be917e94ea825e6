"""The channel to a node that is reached by SSH: commands, the agent's socket, and ports, all over one connection.

Made by `server.fleet` for every node whose `reach` says so. What a node answers is not trusted: it is bounded, and
nothing of it is carried out here.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import secrets
import shlex
import tarfile
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import asyncssh

from sky.agent.connection import Connection

from .channel import Completed, Order, Outcome
from .errors import AgentUnreachable, LinkDown, LoginRefused, NoPython
from .interpreter import Interpreters
from .scripts import BRING_AND_START, FACTS, LOADER, LONGEST_SOCKET, ORDER_FILE, RELAY, SCRIPT_END, START
from .ssh_link import Place, SshLink
from .starter import settled
from .starting import GRACE_S, outcome, sent
from .streams import Stream

T = TypeVar("T")

#: Bytes of output that a command may have, per stream.
_OUTPUT = 1 << 20
_FACTS_S = 30.0
_PYTHON_S = 300.0
_PAUSE_S = 0.1
#: Seconds of "nobody listens" after which a relay is tried, which a node pays for with a process.
_DOUBT_AFTER_S = 0.5
#: A new machine lets its owner in only once its first programs have run; seconds for which "no" is not the answer.
_KEYS_COME_S = 90.0
_NO_FORWARDING = frozenset([asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, asyncssh.OPEN_UNKNOWN_CHANNEL_TYPE])


class SshChannel:
    """See `channel.Channel`. `folder` is the node's own below the login's home, empty for the home itself.

    `interpreters` give a Python to a node that has none.
    """

    def __init__(
        self, link: SshLink, *, where: str, folder: str = "", interpreters: Interpreters | None = None
    ) -> None:
        self.where = where
        self.python = "python3"
        self.link = link
        self._folder = folder
        self._interpreters = interpreters

    async def ready(self, patience: float, *, new: bool = False) -> None:
        """Wait until the node lets us in, at most `patience` seconds; a `new` machine may refuse us for a while."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            spent = loop.time() - began
            try:
                await self.link.connection()
                return
            except LinkDown:
                if spent > patience:
                    raise
            except LoginRefused:
                if not new or spent > min(patience, _KEYS_COME_S):
                    raise
            self.link.hurry()
            await asyncio.sleep(_PAUSE_S)

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        input: bytes = b"",
        timeout: float = 60.0,
    ) -> Completed:
        """Run a command in the login's home; see `Channel.run`. OSError when it says more than it may."""
        command, before = _command(argv, {**(env or {})})
        async with asyncio.timeout(timeout):
            connection = await self.link.connection()
            job = _Job()
            try:
                channel = await _opened(connection.create_session(lambda: job, command, encoding=None))
            except asyncssh.ChannelOpenError as error:
                # As many as its server allows are open, for one.
                raise LinkDown(f"{self.where} opens no session: {error.reason}") from None
            try:
                # It may have ended without reading; how, is what the caller wants to know.
                with suppress(OSError):
                    channel.write(before + input)
                    channel.write_eof()
                return await job.ended(self.where)
            finally:
                if not job.over:
                    channel.kill()
                    channel.abort()

    async def settle(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The node's configuration with what only the node knows: its home, its socket, how it ends itself."""
        place = await self._place()
        return settled(config, place.home, place.socket, place.python, place.root)

    async def start(self, order: Order) -> Outcome:
        """See `Channel.start`. The node is looked at anew: something may have changed since."""
        mark = _mark()
        argv = ["/bin/sh", "-c", START, "sky-start", mark, self._folder, "", ""]
        done = await self.run(argv, env=order.env, input=sent(order), timeout=order.seconds + GRACE_S)
        place = self.link.places[self._folder] = place_of(done, mark, self.where)
        if not place.python:
            return await self._start_by_our_python(order, place)
        self.python, place.listening = place.python, True
        return outcome(done, mark, self.where)

    async def place(self) -> Place:
        """What was found of the node."""
        return await self._place()

    async def _start_by_our_python(self, order: Order, place: Place) -> Outcome:
        """Send an interpreter, once for all nodes that share the login, and the order along with it."""
        if self._interpreters is None:
            raise NoPython(f"{self.where} has no Python 3.8 or newer; install one")
        data = _as_file(ORDER_FILE, sent(order)) + await self._interpreters.archive(place.machine, place.libc)
        to, mark = f"{place.login}/.sky/python", _mark()
        argv = ["/bin/sh", "-c", BRING_AND_START, "sky-python", to, mark, place.home, place.socket]
        try:
            done = await self.run(argv, env=order.env, input=data, timeout=_PYTHON_S + order.seconds)
        except (OSError, TimeoutError) as error:
            raise NoPython(f"{self.where} has no Python, and none could be sent: {error or 'too slow'}") from error
        if done.rc != 0:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-500:]
            raise NoPython(f"{self.where} has no Python 3.8 or newer, and the one sent does not run there: {said}")
        self.python = place.python = f"{to}/bin/python3"
        place.listening = True
        return outcome(done, mark, self.where)

    async def open_agent(self) -> Connection:
        """A stream to the agent's socket: by the SSH server, or by a few lines of Python where it will not."""
        place = await self._place()
        link, connection = self.link, await self.link.connection()
        if link.forwards is False:
            return await self._open_relay(connection, place)
        try:
            stream = Stream()
            await _opened(connection.create_unix_connection(lambda: stream, place.socket))
        except asyncssh.ChannelOpenError as error:
            if not self._doubtful(error.code, place):
                raise ConnectionRefusedError(f"no agent listens on {self.where}: {error.reason}") from None
            relayed = await self._open_relay(connection, place)
            link.forwards = False
            return relayed
        link.forwards = True
        return Connection(stream.reader, stream)

    def _doubtful(self, code: int, place: Place) -> bool:
        """Whether "no" may mean that the server forwards no sockets: OpenSSH says it as if nobody listened."""
        link, now = self.link, asyncio.get_running_loop().time()
        if link.forwards:
            return False
        if link.silent_since is None:
            link.silent_since = now
        return place.listening or code in _NO_FORWARDING or now - link.silent_since > _DOUBT_AFTER_S

    async def _open_relay(self, connection: asyncssh.SSHClientConnection, place: Place) -> Connection:
        mark = _mark()
        argv = [place.python or "python3", "-I", "-S", "-c", RELAY, place.socket, mark]
        stream = Stream()
        await _opened(connection.create_session(lambda: stream, shlex.join(argv), encoding=None))
        try:
            # The mark says that it is through; without an agent it never comes.
            await stream.past(mark)
        except EOFError:
            said = stream.complaint.decode("utf-8", "replace").strip()[-200:]
            raise ConnectionRefusedError(f"no agent listens on {self.where}: {said or 'the relay ended'}") from None
        except BaseException:
            stream.abort()
            raise
        return Connection(stream.reader, stream)

    async def open_tcp(self, host: str, port: int) -> Stream:
        """A stream to a port that the node reaches: `reader` is one end, the stream itself the other."""
        connection = await self.link.connection()
        try:
            stream = Stream()
            await _opened(connection.create_connection(lambda: stream, host, port))
        except asyncssh.ChannelOpenError as error:
            raise ConnectionRefusedError(f"{self.where} cannot connect to {host}:{port}: {error.reason}") from None
        return stream

    async def _place(self) -> Place:
        place = self.link.places.get(self._folder)
        if place is None:
            mark = _mark()
            done = await self.run(["/bin/sh", "-c", FACTS, "sky-facts", mark, self._folder, "", ""], timeout=_FACTS_S)
            place = self.link.places[self._folder] = place_of(done, mark, self.where)
        if place.python:
            self.python = place.python
        return place


async def _opened(opening: Awaitable[tuple[T, object]]) -> T:
    """What is opened over a connection; one that is gone is an OSError like any other."""
    try:
        return (await opening)[0]
    except asyncssh.ChannelOpenError:
        raise
    except asyncssh.Error as error:
        raise LinkDown(f"the connection broke: {error.reason}") from None


class _Job(asyncssh.SSHClientSession[bytes]):
    """A command that runs to its end, and what it said."""

    def __init__(self) -> None:
        self._said: dict[int | None, bytearray] = {None: bytearray(), asyncssh.EXTENDED_DATA_STDERR: bytearray()}
        self._end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._rc: int | None = None

    @property
    def over(self) -> bool:
        """Whether there is nothing left to be killed."""
        return self._end.done()

    async def ended(self, where: str) -> Completed:
        """Wait for the end."""
        try:
            rc = await asyncio.shield(self._end)
        except _TooMuch:
            raise OSError(f"a command on {where} said more than {_OUTPUT} bytes and was ended") from None
        return Completed(rc, bytes(self._said[None]), bytes(self._said[asyncssh.EXTENDED_DATA_STDERR]))

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The channel is there."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """A piece of output; too many end it."""
        said = self._said.setdefault(datatype, bytearray())
        if len(said) + len(data) <= _OUTPUT:
            said += data
        elif not self._end.done():
            self._end.set_exception(_TooMuch())
            self._channel.kill()
            self._channel.abort()

    def exit_status_received(self, status: int) -> None:
        """It ended by itself."""
        self._rc = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """It was ended."""
        self._rc = 128 + {"HUP": 1, "INT": 2, "QUIT": 3, "ABRT": 6, "KILL": 9, "SEGV": 11, "TERM": 15}.get(signal, 127)

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed: with an exit code, or because the connection broke."""
        if self._end.done():
            return
        if self._rc is None:
            self._end.set_exception(LinkDown(f"the connection broke: {exc or 'closed'}"))
        else:
            self._end.set_result(self._rc)


class _TooMuch(Exception):
    pass


def _command(argv: Sequence[str], env: Mapping[str, str]) -> tuple[str, bytes]:
    """The line for the login's shell, whichever that is, and what goes to its input first.

    A script of several lines goes by the input: not every shell takes one in quotes, and nobody else on the machine
    gets to see it in the list of processes.
    """
    before = b""
    words = list(argv)
    if words[:2] == ["/bin/sh", "-c"]:
        before = f"{words[2].strip()}\n{SCRIPT_END}\n".encode()
        words[2] = LOADER
    line = shlex.join(words)
    if env:
        line = f"env {shlex.join(f'{key}={value}' for key, value in env.items())} {line}"
    return line, before


def place_of(done: Completed, mark: str, where: str) -> Place:
    """What the script found; whatever else a login prints is passed over."""
    said = done.stdout.decode("utf-8", "replace")
    lines = [line for line in said.splitlines() if line.startswith(f"{mark}\t")]
    parts = lines[-1].split("\t")[1:] if lines else []
    if len(parts) != 9:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-500:]
        raise AgentUnreachable(f"{where} does not run commands for us: exit code {done.rc}: {said or '(nothing)'}")
    login, home, uid, python, machine, libc, socket, listens, problem = parts
    if problem:
        raise AgentUnreachable(f"{where} cannot be used: {problem[:500]}")
    if not home.startswith("/") or not uid.isdigit() or (python and not python.startswith("/")):
        raise AgentUnreachable(f"{where} says of itself what cannot be: home {home[:200]!r}, Python {python[:200]!r}")
    if not socket.startswith("/") or len(socket.encode()) > LONGEST_SOCKET:
        raise AgentUnreachable(f"{where}: the home {home[:200]} has too long a name for a socket in it")
    return Place(login, home, socket, python, uid == "0", machine[:100], libc[:100], bool(listens))


def _mark() -> str:
    return f"sky-{secrets.token_hex(8)}"


def _as_file(name: str, data: bytes) -> bytes:
    """A file as the beginning of a gzipped tar whose rest may follow: no end of its own, and gzip goes on by itself."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o600
        archive.addfile(entry, io.BytesIO(data))
        size = archive.offset
    return gzip.compress(out.getvalue()[:size], 1)

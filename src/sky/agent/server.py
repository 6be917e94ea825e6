"""The agent as a server: where it listens, the table of verbs, and the handlers that are no part of the head's queue.

Started by `__main__`. Requests of a connection run side by side, up to a limit; a frame that breaks the rules ends
its connection.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Dict, List, Optional, Set, Tuple

from . import PROTOCOL, care, containers, notices
from .chaos import Chaos
from .delta import Deltas
from .fan import Fan
from .farewell import Farewells
from .fields import Fields, Refused, bad
from .frames import FrameError, Header, encode, read_frame
from .head import STOPPED, Head
from .hooks import Hooks
from .ledger import Ledger
from .logs import CHUNK
from .node import Node
from .peers import Myself, Peer
from .shell import run_script
from .signals import Signal
from .sync import Sync
from .tasks import PHASES, Tasks
from .watch import watch_exit

if TYPE_CHECKING:
    from .tls import Listener, Wire

Reply = Tuple[Dict[str, Any], bytes]
Verb = Callable[[Fields, bytes], Awaitable[Reply]]

_IN_FLIGHT = 256
_STOP_GRACE = 5.0


class Agent:
    """One node's agent."""

    def __init__(self, node: Node, version: str, clock: Callable[[], float], environ: Dict[str, str]) -> None:
        self._node = node
        self._version = version
        self._clock = clock
        self._started_at = clock()
        self._boot_id = _boot_id()
        self._tasks = Tasks(node, environ, clock)
        self._sync = Sync(node)
        self._deltas = Deltas(self._sync)
        self._wire = _wire(node)
        self._watching: Optional[asyncio.Future[None]] = None
        self._notices: List[Dict[str, Any]] = []
        self._noticed = Signal()
        self._note = notices.Note(node.home, self._boot_id)
        self._farewells = Farewells(node, self._tasks, clock, self._tell)
        self._chaos = Chaos(node, self._tasks, clock, self._announce, _detach)
        self._done = asyncio.Event()
        self._requests: Set[asyncio.Future[None]] = set()
        self._verbs: Dict[str, Verb] = {
            "hello": self._hello,
            "run": self._run,
            "kill_all": self._kill_all,
            "power_off": self._power_off,
            "notices": self._heard,
            "announce": self._announced,
            "chaos": self._chaos.strike,
            "shutdown": self._shutdown,
            "task_start": self._task_start,
            "task_wait": self._task_wait,
            "task_look": self._task_look,
            "task_kill": self._task_kill,
            "task_log": self._task_log,
            "task_forget": self._task_forget,
            "sync_begin": self._sync.begin,
            "sync_entries": self._sync.more,
            "sync_put": self._sync.put,
            "sync_have": self._sync.have,
            "sync_part": self._sync.part,
            "sync_commit": self._sync.commit,
            "sync_delta": self._deltas.start,
            "sync_delta_write": self._deltas.write,
            "sync_delta_read": self._deltas.read,
            "sync_delta_end": self._deltas.end,
        }
        self._head: Optional[Head] = None
        if node.rank == 0:
            self._head = self._build_head()

    def _build_head(self) -> Head:
        self._ledger = Ledger(self._node.root, self._clock)
        self._peers: List[Peer] = [Myself(self.handle)] + [
            Peer(address, self._wire) for address in self._node.peers[1:]
        ]
        self._chaos.peers = self._peers
        head = Head(self._node, self._ledger, self._peers, self._clock)
        self._verbs.update(
            {
                "submit": head.submit,
                "job": head.job,
                "jobs": head.jobs,
                "cancel": head.cancel,
                "events": head.events,
                "read_log": head.read_log,
                "hooks": Hooks(self._node, self._ledger).run,
                "autostop": head.autostop.set,
                "autostop_get": head.autostop.get,
                "sync_fan": Fan(self._sync, self._peers).fan,
            }
        )
        return head

    async def serve(self) -> None:
        """Answer until `shutdown` is asked for. Refused as PortTaken when peers cannot be listened for."""
        door = self._open_door()
        listener = listen(self._node.socket)
        server = await asyncio.start_unix_server(self._connected, sock=listener, limit=1 << 20)
        if self._head is not None:
            self._head.begin()
        if self._node.notice:
            self._watching = asyncio.ensure_future(self._watch_notices())
        await self._done.wait()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._farewells.close()
        await self._chaos.close()
        server.close()
        if door is not None:
            await door.close()
        for request in list(self._requests):
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        if self._head is not None:
            await self._head.close()
            for peer in self._peers:
                await peer.close()
            self._ledger.close()

    def stop(self) -> None:
        """Let `serve` return; tasks go on."""
        self._done.set()

    async def _watch_notices(self) -> None:
        async def tell(notice: notices.Notice) -> None:
            self._announce(notice)

        await notices.watch(self._node.notice, self._node.metadata, self._clock, tell)

    def _announce(self, notice: notices.Notice) -> None:
        """This machine will go: the head, the tasks and whoever looks are told."""
        self._tell(notice._asdict())
        try:
            self._note.write(notice)
        except OSError as error:
            print("agent: a notice cannot be written down: %s" % error, file=sys.stderr, flush=True)
        self._farewells.begin(notice)

    def _tell(self, record: Dict[str, Any]) -> None:
        self._notices.append(record)
        self._noticed.fire()

    def _open_door(self) -> Optional[Listener]:
        if self._wire is None or not self._node.listen:
            return None
        from .tls import split  # noqa: PLC0415 - in memory already, where there is a wire

        return self._wire.listen(*split(self._node.listen), self._converse)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if _trusted(writer.get_extra_info("socket")):
            await self._converse(reader, writer)
        else:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, whose other end has proved who it is, until it closes."""
        room = asyncio.Semaphore(_IN_FLIGHT)
        mine: Set[asyncio.Future[None]] = set()
        try:
            while True:
                frame = await read_frame(reader)
                if frame is None:
                    return
                await room.acquire()
                task: asyncio.Future[None] = asyncio.ensure_future(self._answer(frame[0], frame[1], writer))
                mine.add(task)
                self._requests.add(task)
                task.add_done_callback(mine.discard)
                task.add_done_callback(self._requests.discard)
                task.add_done_callback(lambda _: room.release())
        except FrameError as error:
            writer.write(encode({"id": 0, "error": {"type": "FrameError", "message": str(error)}}))
        except (OSError, asyncio.CancelledError):
            pass  # the peer has gone, or the loop is closing: either way this connection is over
        finally:
            for task in list(mine):
                task.cancel()
            writer.close()

    async def _answer(self, header: Header, body: bytes, writer: asyncio.StreamWriter) -> None:
        number = header.get("id")
        try:
            ok, data = await self.handle(str(header.get("verb")), header.get("args") or {}, body)
            reply = encode({"id": number, "ok": ok}, data)
        except Refused as error:
            reply = encode({"id": number, "error": {"type": error.kind, "message": str(error)}})
        except FrameError as error:
            reply = encode(
                {"id": number, "error": {"type": "TooLarge", "message": "the answer does not fit: %s" % error}}
            )
        except Exception as error:  # noqa: BLE001 - one request's failure is its own answer, never the agent's end
            print("agent: %s failed: %r" % (header.get("verb"), error), file=sys.stderr, flush=True)
            message = "the agent failed: %s: %s" % (type(error).__name__, error)
            reply = encode({"id": number, "error": {"type": "InternalError", "message": message}})
        if not writer.is_closing():
            writer.write(reply)
            with suppress(OSError):  # whoever asked has gone
                await writer.drain()

    async def handle(self, verb: str, args: Any, body: bytes) -> Reply:
        """Carry out one verb; Refused when it or its arguments are wrong."""
        action = self._verbs.get(verb)
        if action is None:
            where = "" if self._head is not None else " on %s; the queue is kept by the head" % self._node.label()
            raise Refused("UnknownVerb", "there is no verb %r%s" % (verb[:80], where))
        return await action(Fields(args), body)

    # Verbs of every node

    async def _hello(self, fields: Fields, body: bytes) -> Reply:
        del fields, body
        node = self._node
        return {
            "protocol": PROTOCOL,
            "version": self._version,
            "node_id": node.node_id,
            "cluster_id": node.cluster_id,
            "config": node.checksum,
            "rank": node.rank,
            "boot_id": self._boot_id,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "time": self._clock(),
            "silent": self._head.silent() if self._head is not None else [],
        }, b""

    async def _run(self, fields: Fields, body: bytes) -> Reply:
        del body
        timeout = fields.number("timeout", 0, 3600, 60.0)
        env = dict(fields.env("env"), SKY_NODE_ID=self._node.node_id)
        rc, output = await run_script(fields.text("script"), self._node.home, env, timeout)
        return {"rc": rc}, output

    async def _kill_all(self, fields: Fields, body: bytes) -> Reply:
        del body
        grace = fields.number("grace", 0, 3600, _STOP_GRACE)
        if self._head is not None:
            await self._head.halt(STOPPED, queue=fields.flag("queue"))
        await self._tasks.kill_all(grace, remove=fields.flag("remove"))
        return {}, b""

    async def _power_off(self, fields: Fields, body: bytes) -> Reply:
        del body
        mode = fields.choice("mode", ("stop", "down"))
        if self._head is not None:
            await self._head.halt(STOPPED)
        await self._tasks.kill_all(_STOP_GRACE, remove=mode == "down")
        argv = self._node.power_off[mode]
        if argv:
            _detach(argv)
        return {}, b""

    async def _shutdown(self, fields: Fields, body: bytes) -> Reply:
        del fields, body
        asyncio.get_running_loop().call_later(0.02, self._done.set)
        return {}, b""

    async def _announced(self, fields: Fields, body: bytes) -> Reply:
        """The server's own notice: in `seconds` this node's tasks will be ended."""
        del body
        now = self._clock()
        self._announce(notices.Notice("end", now, now + fields.number("seconds", 0, 86400)))
        return {}, b""

    async def _heard(self, fields: Fields, body: bytes) -> Reply:
        """Notices after the first `since` of this agent's; waits up to `wait` seconds for one."""
        del body
        since, wait = fields.integer("since", 0, 1 << 53, 0), fields.number("wait", 0, 60, 0.0)
        if since > len(self._notices):
            since = 0  # whoever asks has heard of them from the agent before this one
        if since == len(self._notices):
            await self._noticed.wait(wait)
        return {"notices": self._notices[since:], "boot_id": self._boot_id}, b""

    # Task verbs

    async def _task_start(self, fields: Fields, body: bytes) -> Reply:
        try:
            content = Fields(json.loads(body.decode("utf-8", "surrogatepass")), "the task")
        except ValueError:
            raise bad("the body of task_start must be JSON: script, envs, container") from None
        pid = self._tasks.start(
            fields.name("key"),
            fields.choice("phase", PHASES),
            content.text("script", limit=1 << 23),
            content.env("envs"),
            fields.choice("cwd", ("home", "workdir"), "home"),
            fields.text("log"),
            fields.integers("devices", 0, 1023),
            image=containers.parse(content.raw("container")),
            care=care.parse(content.raw("care")),
        )
        return {"pid": pid}, b""

    async def _task_wait(self, fields: Fields, body: bytes) -> Reply:
        del body
        return await self._tasks.wait(
            fields.name("key"), fields.choice("phase", PHASES), fields.number("wait", 0, 60, 0.0)
        ), b""

    async def _task_look(self, fields: Fields, body: bytes) -> Reply:
        del body
        key, phase, log = fields.name("key"), fields.choice("phase", PHASES), fields.text("log")
        wait = fields.number("wait", 0, 60, 0.0)
        return await self._tasks.look(key, phase, log, fields.raw("known"), wait), b""

    async def _task_kill(self, fields: Fields, body: bytes) -> Reply:
        del body
        await self._tasks.kill(fields.name("key"), fields.number("grace", 0, 3600, 10.0))
        return {}, b""

    async def _task_log(self, fields: Fields, body: bytes) -> Reply:
        del body
        return await self._tasks.log(
            fields.name("key"),
            fields.choice("phase", PHASES),
            fields.text("log"),
            fields.integer("offset", 0, 1 << 53, 0),
            fields.number("wait", 0, 60, 0.0),
            fields.integer("limit", 1, 1 << 20, CHUNK),
            fields.integer("tail", 0, 1 << 31, None),
        )

    async def _task_forget(self, fields: Fields, body: bytes) -> Reply:
        del body
        self._tasks.forget(fields.name("key"))
        return {}, b""


def _wire(node: Node) -> Optional[Wire]:
    if node.tls is None:
        return None
    try:
        # Only where peers are on other machines: see `tls.py` for what it costs.
        from .tls import Wire  # noqa: PLC0415
    except ImportError:
        raise Refused(
            "NotSupported", "this node's Python has no ssl module, which clusters of several machines need"
        ) from None

    return Wire(node.tls, node.root)


def _detach(argv: List[str]) -> None:
    # The node's own processes are found by this variable and ended; what ends them must not be among them.
    environ = {name: value for name, value in os.environ.items() if name != "SKY_NODE_ID"}
    null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)
    # What it says goes to the agent's own log.
    actions = [null, (os.POSIX_SPAWN_DUP2, 2, 1)]
    pid = os.posix_spawnp(argv[0], argv, environ, file_actions=actions, setsid=True)

    def ended() -> None:
        with suppress(ChildProcessError):
            _, raw = os.waitpid(pid, 0)
            if raw:
                print("agent: %s failed with status %d" % (argv[0], raw), file=sys.stderr, flush=True)

    watch_exit(pid, ended)


def listen(path: str) -> socket.socket:
    """A listening Unix socket that only the owner can reach; replaces what a dead agent left at `path`."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    found = os.lstat(folder)
    if not _owned(found):
        raise Refused(
            "UnsafeFolder", "others may put things into %s, where the agent's socket is to be; remove it" % folder
        )
    with suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(mask)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _owned(found: os.stat_result) -> bool:
    """A folder of the user's own (or of root's) in which strangers cannot replace a file."""
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.getuid()):
        return False
    return not found.st_mode & 0o002 or bool(found.st_mode & stat.S_ISVTX)


def _trusted(channel: socket.socket) -> bool:
    """Only the owner and root may speak to the agent, whatever the permissions of the path."""
    _, uid, _ = struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (0, os.getuid())


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""

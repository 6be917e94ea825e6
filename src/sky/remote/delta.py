"""Brings a large changed file as its difference from the one before, where this machine and the node have `rsync`.

Called by `sync.py`. rsync's protocol goes through the agent's own connection, so that it needs no login of its own and
works wherever the agent is reached: the rsync here is given `bridge.py` for ssh, which comes back to a socket of ours,
and from there its bytes go as frames to the rsync that the agent runs (`sky.agent.delta`). The agent decides which
file that one writes, and checks the hash of what came of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from . import bridge
from .agent_client import AgentClient
from .errors import AgentError, AgentUnreachable

log = logging.getLogger(__name__)

_CHUNK = 1 << 18
_LONGEST_LINE = 4096
_CALL_S = 300.0
#: rsync may write for long before it says something again.
_READ_S = 1800.0
_ALL_S = 3600.0
_END_S = 30.0


async def bring(client: AgentClient, session: int, name: str, path: Path) -> int | None:
    """Let the node have the content `name`, which is in `path`: bytes that travelled, both ways; None if it has not.

    Why it has not is logged: whoever called sends the whole of it then.
    """
    program = shutil.which("rsync")
    shell = _shell(sys.executable, str(bridge.__file__))
    if program is None or shell is None:
        return None
    folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="sky-delta-")
    try:
        async with asyncio.timeout(_ALL_S):
            pipe = _Pipe(client, session, name)
            # The folder is ours alone (mkdtemp), and so is what is in it.
            server = await asyncio.start_unix_server(pipe.accept, f"{folder}/s", limit=_CHUNK)
            try:
                well = await _run(program, f"{shell} {folder}/s", await asyncio.to_thread(path.absolute))
                return pipe.travelled if await pipe.end(well) else None
            finally:
                server.close()
                await pipe.close()
    except (AgentError, AgentUnreachable, OSError, TimeoutError) as error:
        log.debug("%s by rsync onto %s: %s", path, client.where, error)
        return None
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _shell(*words: str) -> str | None:
    """The command as rsync splits it, at spaces, and knows quotes; None for names that cannot be said so."""
    if any('"' in word or "\n" in word for word in words):
        return None
    python, program = (f'"{word}"' for word in words)
    return f"{python} -I -S {program}"


async def _run(program: str, shell: str, path: Path) -> bool:
    """Run the rsync of this side to its end; whether that was a good one."""
    argv = [program, "--ignore-times", "--no-whole-file", "-e", shell, "--", str(path), "node:content"]
    environ = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    process = await asyncio.create_subprocess_exec(
        *argv,
        # Nothing that would have it read somebody's settings.
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        log.debug("rsync of %s ended with %s: %s", path, process.returncode, said[-500:].decode("utf-8", "replace"))
    return process.returncode == 0


class _Pipe:
    """Between the bridge's socket and the rsync on the node."""

    def __init__(self, client: AgentClient, session: int, name: str) -> None:
        self.travelled = 0
        self._client = client
        self._about = {"session": session, "hash": name}
        self._delta: int | None = None
        self._task: asyncio.Task[None] | None = None

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the one bridge that comes."""
        try:
            if self._task is None:
                self._task = asyncio.ensure_future(self._serve(reader, writer))
                await self._task
        except (AgentError, AgentUnreachable, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("the other end of rsync on %s: %s", self._client.where, error)
        finally:
            # The bridge ends with this, and rsync with the bridge.
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readuntil(b"\n")
        if len(line) > _LONGEST_LINE:
            raise OSError("rsync asks for too much")
        argv = line[:-1].decode("utf-8", "surrogateescape").split("\0")
        reply, _ = await self._client.call("sync_delta", {**self._about, "argv": argv}, timeout=_CALL_S, repeat=False)
        self._delta = int(reply["delta"])
        inward = asyncio.ensure_future(self._inward(reader))
        try:
            while data := await self._call("sync_delta_read", timeout=_READ_S):
                self.travelled += len(data)
                writer.write(data)
                await writer.drain()
        finally:
            inward.cancel()
            await asyncio.gather(inward, return_exceptions=True)

    async def _inward(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_CHUNK):
            self.travelled += len(data)
            await self._call("sync_delta_write", data)
        await self._call("sync_delta_write", last=True)

    async def _call(self, verb: str, body: bytes = b"", *, last: bool = False, timeout: float = _CALL_S) -> bytes:
        args = {"delta": self._delta, "last": last}
        _, data = await self._client.call(verb, args, body, timeout=timeout, repeat=False)
        return data

    async def end(self, well: bool) -> bool:
        """Let the agent look at what it has; whether it is what it is to be."""
        if self._delta is None:
            return False
        args = {"delta": self._delta, "well": well}
        self._delta = None
        reply, _ = await self._client.call("sync_delta_end", args, timeout=_CALL_S, repeat=False)
        return reply.get("done") is True

    async def close(self) -> None:
        """Serve no longer, and leave nothing running there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._delta is not None:
            with suppress(AgentError, AgentUnreachable):
                await self._client.call("sync_delta_end", {"delta": self._delta}, timeout=_END_S, repeat=False)

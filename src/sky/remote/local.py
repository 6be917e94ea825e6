"""The channel to a node that is a directory of this machine. Assembled for `infra: local`."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sky.agent.connection import Connection, connect_unix

from .channel import Completed, Order, Outcome
from .errors import AgentNotStarted
from .starting import start_complete


class LocalChannel:
    """Commands run as processes with HOME set to the node's home, each in a session of its own."""

    def __init__(self, home: Path, socket: Path, environ: Mapping[str, str] | None = None) -> None:
        self.where = f"local node {home}"
        self.python = sys.executable
        self._home = home
        self._socket = socket
        self._environ = dict(os.environ if environ is None else environ)

    async def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, input: bytes = b"", timeout: float = 60.0
    ) -> Completed:
        """Run a command in the node's home; see `Channel.run`."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._home,
            env={**self._environ, **(env or {}), "HOME": str(self._home)},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(timeout):
                stdout, stderr = await process.communicate(input)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        rc = process.returncode or 0
        return Completed(rc if rc >= 0 else 128 - rc, stdout, stderr)

    async def settle(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """All is known already."""
        return dict(config)

    async def start(self, order: Order) -> Outcome:
        """See `Channel.start`; the configuration is complete."""
        if shutil.which(self.python) is None:
            raise AgentNotStarted(f"cannot install the agent on {self.where}: there is no Python at {self.python}")
        return await start_complete(self, order)

    async def open_agent(self) -> Connection:
        """Connect to the agent's socket."""
        return await connect_unix(str(self._socket))

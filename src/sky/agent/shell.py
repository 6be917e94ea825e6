"""Runs a short script to its end and returns what it said: the `run` verb and the hooks of autostop."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Dict, Tuple

from .bounds import within

OUTPUT_LIMIT = 1 << 20
_TIMED_OUT = 124


async def run_script(script: str, home: str, env: Dict[str, str], timeout: float) -> Tuple[int, bytes]:
    """Run with `sh` in `home`; returns the exit code (124 after `timeout` seconds) and the first MiB of output."""
    environ = dict(os.environ, **env)
    environ["HOME"] = home
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        script,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=home,
        env=environ,
        start_new_session=True,
    )
    output = bytearray()

    async def collect() -> int:
        assert process.stdout is not None
        while True:
            data = await process.stdout.read(1 << 16)
            if not data:
                return await process.wait()
            output.extend(data[: OUTPUT_LIMIT - len(output)])

    try:
        rc = await within(timeout, collect())
        return (rc if rc >= 0 else 128 - rc), bytes(output)
    except asyncio.TimeoutError:
        return _TIMED_OUT, bytes(output)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

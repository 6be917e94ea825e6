"""Where an agent starts: `python agent.pyz --node .../node.json --version V`, under the respawn loop of
`sky.remote.bootstrap`.

Exit codes: 0 after a graceful shutdown, 2 when its configuration is
wrong, 3 when another agent serves this home and 4 when its port is taken (the loop ends as well), else a failure. Why
it ends is the last line that it says: `agent: <reason>`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import time
from typing import Dict, List

from . import node as nodes
from .fields import Refused
from .server import Agent

WRONG = 2
ALREADY_SERVED = 3
PORT_TAKEN = 4


def main(arguments: List[str]) -> int:
    """Serve until asked to stop; returns the exit code."""
    options = dict(zip(arguments[::2], arguments[1::2]))  # noqa: B905 - strict needs 3.10
    if set(options) - {"--node", "--version", "--patience"} or "--node" not in options:
        print("usage: agent --node NODE.JSON [--version V] [--patience SECONDS]", file=sys.stderr)
        return WRONG
    try:
        node = nodes.load(options["--node"])
    except (OSError, ValueError, Refused) as error:
        print("agent: cannot use %s: %s" % (options["--node"], error), file=sys.stderr)
        return WRONG
    os.makedirs(node.root, mode=0o700, exist_ok=True)
    lock = os.open(os.path.join(node.root, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _lock(lock, float(options.get("--patience", "0"))):
        print("agent: another agent serves %s already" % node.home, file=sys.stderr)
        return ALREADY_SERVED
    # For whoever finds this agent silent: the process that holds the lock.
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    os.chdir(node.home)
    return asyncio.run(_serve(node, options.get("--version", "unversioned"), dict(os.environ)))


def _lock(handle: int, patience: float) -> bool:
    """Take the home for this process; waits up to `patience` seconds for an agent that is just leaving."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)


async def _serve(node: nodes.Node, version: str, environ: Dict[str, str]) -> int:
    try:
        agent = Agent(node, version, time.time, environ)
    except Refused as error:
        print("agent: cannot use its node.json: %s" % error, file=sys.stderr)
        return WRONG
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, agent.stop)
    loop.add_signal_handler(signal.SIGINT, agent.stop)
    try:
        await agent.serve()
    except Refused as error:
        print("agent: %s: %s" % (error.kind, error), file=sys.stderr)
        return PORT_TAKEN if error.kind == "PortTaken" else WRONG
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

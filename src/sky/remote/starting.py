"""What is sent to a node so that an agent runs there, and what is told of it; the node's half is `starter.py`.

Made by `bootstrap.py`; the channels (`local.py`, `ssh.py`, `slurm.py`) carry it.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from .channel import Channel, Completed, Order, Outcome
from .errors import AgentNotStarted

#: Seconds that a node may take beyond those of the order, to be found out about and to say how it went.
GRACE_S = 30.0
#: What Python is told to run: the program comes first on the input, and the rest of that is the program's.
RUNNER = "import sys;b=sys.stdin.buffer;exec(b.read(int(b.readline())))"
_MARK = "sky-started"
_SAID = 2000
_TEXTS = ("said", "problem")


def sent(order: Order) -> bytes:
    """What goes to the input of `RUNNER`; nobody else on the node may see it."""
    text = program()
    told = {"config": order.config, "version": order.version, "seconds": order.seconds, "answers": order.answers}
    return b"%d\n" % len(text) + text + json.dumps(told).encode() + b"\n" + order.archive


async def start_complete(channel: Channel, order: Order) -> Outcome:
    """Carry an order to a node whose Python is known, and whose configuration lacks nothing; see `Channel.start`."""
    argv = [channel.python, "-I", "-S", "-c", RUNNER, _MARK, channel.python, "", ""]
    done = await channel.run(argv, env=order.env, input=sent(order), timeout=order.seconds + GRACE_S)
    return outcome(done, _MARK, channel.where)


@cache
def program() -> bytes:
    """What a node is given to run."""
    return resources.files(__package__).joinpath("starter.py").read_bytes()


def outcome(done: Completed, mark: str, where: str) -> Outcome:
    """What a node told, which may be anything. Raises AgentNotStarted when it is no outcome."""
    lines = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.startswith(f"{mark}+\t")]
    try:
        told = json.loads(lines[-1].partition("\t")[2])
        rc = told.get("rc")
        return Outcome(
            str(told["how"]), rc if isinstance(rc, int) else None, *(str(told.get(key, ""))[-_SAID:] for key in _TEXTS)
        )
    except (IndexError, ValueError, KeyError, TypeError, AttributeError):
        said = (done.stderr or done.stdout).decode("utf-8", "replace")[-_SAID:].strip()
        raise AgentNotStarted(
            f"cannot install the agent on {where}: exit code {done.rc}: {said or '(nothing)'}"
        ) from None

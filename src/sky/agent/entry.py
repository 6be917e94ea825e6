"""The first code that runs in the zip: decides what to load before anything large is loaded.

Called by the zip's own few lines (`sky.remote.package`). With `--container FILE` the process is the way of a task into
its container; otherwise it is the agent.
"""

from __future__ import annotations

import json
import sys
from typing import List


def enter(arguments: List[str]) -> int:
    """Run what the arguments ask for; returns the exit code."""
    if arguments[1:2] == ["--container"] and len(arguments) == 3:
        from .container import main as into_container  # noqa: PLC0415 - without the agent's libraries

        return into_container(arguments[2])
    if not _talks_to_machines(arguments):
        # asyncio imports ssl when it can: three megabytes and twenty milliseconds for nothing.
        sys.modules["ssl"] = None  # type: ignore[assignment]
    from .__main__ import main  # noqa: PLC0415 - after that decision

    return main(arguments[1:])


def _talks_to_machines(arguments: List[str]) -> bool:
    try:
        with open(arguments[arguments.index("--node") + 1], "rb") as file:
            return bool(json.loads(file.read()).get("tls"))
    except (OSError, ValueError, IndexError, AttributeError):
        return False  # what is wrong with it, the agent itself says

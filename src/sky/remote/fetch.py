"""File mounts from the web: each node fetches for itself. Called by `server.fleet`; the node's half is `fetcher.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from . import fetcher
from .agent_client import AgentClient
from .errors import SyncFailed

#: Seconds that a file may take to come, and that the node's program may take beyond that to say so.
FETCH_S, _GRACE_S = 3400.0, 100.0
#: Variables of the task that say how the web is reached, in either case.
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")
_LONGEST_ERROR = 1000

# The agent's own Python, which is the parent's program, else the first there is.
_SCRIPT = """
python=$(readlink "/proc/$PPID/exe" 2>/dev/null) && [ -x "$python" ] || python=$(command -v python3)
exec "$python" -I -S - <<'SKY-FETCHER-ENDS'
{program}
SKY-FETCHER-ENDS
"""


async def fetch(
    client: AgentClient, url: str, destination: str, env: Mapping[str, str], *, where: str
) -> tuple[bool, int]:
    """Have a node fetch a URL to a path of its own: whether it was fetched anew, and the bytes that it has.

    `env` are the task's variables, of which those that say how the web is reached count. Raises SyncFailed with the
    node, the URL (without logins and signatures) and the reason.
    """
    given = {name: value for name, value in env.items() if name.lower() in _PROXIES}
    asked = {"FETCH_URL": url, "FETCH_PATH": destination, "FETCH_SECONDS": f"{FETCH_S:g}"}
    rc, output = await client.run(script(), timeout=FETCH_S + _GRACE_S, env={**given, **asked})
    answer = _answer(output)
    if rc == 0 and answer.get("how") in ("fetched", "same") and isinstance(answer.get("bytes"), int):
        return answer["how"] == "fetched", answer["bytes"]
    reason = answer.get("error")
    if not isinstance(reason, str) or not reason:
        said = output.decode("utf-8", "replace").replace(url, fetcher.shown(url)).strip()[-_LONGEST_ERROR:]
        reason = said or f"exit code {rc}"
    raise SyncFailed(f"{where} could not fetch {fetcher.shown(url)} to {destination}: {reason[:_LONGEST_ERROR]}")


@cache
def script() -> str:
    """What a node is given to run; nothing of a single fetch is in it."""
    program = resources.files(__package__).joinpath("fetcher.py").read_text(encoding="utf-8")
    return _SCRIPT.format(program=program)


def _answer(output: bytes) -> dict[str, Any]:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

"""What a call to a running server loads: little, for the command line waits for it."""

import os
import subprocess
import sys
from pathlib import Path

from serving import Served

#: Each costs milliseconds that a short command has no use for.
HEAVY = {
    *("asyncio", "ssl", "subprocess", "email", "http.client", "yaml", "msgspec", "httpx", "uvicorn", "sqlalchemy"),
    *("click", "hashlib", "secrets", "logging", "tempfile", "concurrent.futures"),
}


def test_status_loads_nothing_heavy(served: Served) -> None:
    script = (
        "import sys\n"
        "from sky.sdk import clusters, requests\n"
        "print(len(requests.get(clusters.status())))\n"
        "print(*sorted(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, env=_environment(), check=True
    )
    count, loaded = done.stdout.splitlines()
    assert count == "2"
    assert HEAVY & set(loaded.split()) == set()
    assert len([name for name in loaded.split() if name.startswith("sky.")]) <= 30


def _environment() -> dict[str, str]:
    import sky

    return {**os.environ, "PYTHONPATH": str(Path(sky.__file__).parents[1])}

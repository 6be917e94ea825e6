"""A sky server of its own for each test process, on `infra: local`; at the end nothing of it may be left: counted."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte_running import Pyflyte, processes_of

# A run that was put into the background ignores Ctrl-C, and every program that it starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A fresh home, in whose server all tests of this process work."""
    # Not below pytest's own folder: paths of sockets are bounded.
    made = Path(tempfile.mkdtemp(prefix="flyte-home-"))
    before = dict(os.environ)
    for name in [each for each in os.environ if each.startswith(("SKYPILOT_", "SKY_", "XDG_", "FLYTE_"))]:
        del os.environ[name]
    os.environ |= {
        "HOME": str(made),
        "PATH": f"{Path(sys.executable).parent}:{before['PATH']}",
        "_FSEC_VAULT_TOKEN": "token-of-the-vault",
    }
    try:
        yield made
        left = _end()
        alive = processes_of(made)
        assert not left, f"clusters that tests have left behind: {left}"
        assert not alive, f"processes that outlived their server and clusters: {alive}"
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(made, ignore_errors=True)


def _end() -> list[str]:
    """Take the shared clusters down and stop the server; names of clusters that nobody shares."""
    import sky

    shared = {"kinds", "foo", "wire"}
    left = [each.name for each in sky.get(sky.status())]
    for name in left:
        sky.get(sky.down(name))
    managed = sky.get(sky.jobs.queue(skip_finished=True))
    sky.api_stop()
    return [each for each in left if each not in shared] + [each.job_name for each in managed]


@pytest.fixture
def pyflyte(home: Path) -> Pyflyte:
    """`pyflyte run` in the folder of workflows, as a person types it."""
    return Pyflyte(home)

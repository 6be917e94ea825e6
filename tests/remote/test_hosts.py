"""Names that a node is told: what its own shell makes of them, with another file in the place of the system's."""

import asyncio
import os
import subprocess

import pytest

from sky.remote import hosts
from sky.remote.errors import AgentRefused

LINES = [("10.0.0.1", ("a-0.g", "a.g")), ("10.0.0.2", ("b-0.g",))]
TOLD = "10.0.0.1 a-0.g a.g\n10.0.0.2 b-0.g\n"


class Shell:
    """A node whose shell is this machine's."""

    def __init__(self, home, system):
        self.home, self.system = home, system

    async def run(self, script, *, timeout, env):
        script = script.replace("/etc/hosts", str(self.system))
        done = await asyncio.to_thread(
            subprocess.run, ["sh", "-c", script], env={**os.environ, "HOME": str(self.home), **env},
            capture_output=True, timeout=timeout,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def node(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n# mine\n")
    return Shell(tmp_path / "home", tmp_path / "hosts")


async def test_names_are_in_the_nodes_own_file(node):
    await hosts.tell(node, LINES, own=False, where="node 0")
    assert (node.home / ".sky" / "hosts").read_text() == TOLD
    assert node.system.read_text() == "127.0.0.1 localhost\n# mine\n"
    await hosts.tell(node, LINES[1:], own=False, where="node 0")
    assert (node.home / ".sky" / "hosts").read_text() == "10.0.0.2 b-0.g\n"


@pytest.mark.skipif(os.getuid() != 0, reason="root alone may change the system's names")
async def test_on_a_machine_of_its_own_they_are_the_systems_too(node):
    for lines in (LINES, LINES, LINES[1:]):
        await hosts.tell(node, lines, own=True, where="node 0")
    own = "# names of the job group begin\n10.0.0.2 b-0.g\n# names of the job group end\n"
    assert node.system.read_text() == f"127.0.0.1 localhost\n# mine\n{own}"


async def test_a_node_that_cannot_says_why(node):
    (node.home / ".sky").write_text("in the way")
    with pytest.raises(AgentRefused, match=r"node 0 could not note the names of its job group: .*exists"):
        await hosts.tell(node, LINES, own=False, where="node 0")

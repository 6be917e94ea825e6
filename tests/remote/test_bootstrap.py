"""The agent is brought up once, replaced when it would differ, and brought back when it dies."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sky.core import errors
from sky.remote import bootstrap
from sky.remote.agent_client import AgentClient
from sky.remote.bootstrap import ensure_agent
from sky.remote.channel import Completed
from sky.remote.errors import AgentError, AgentNotStarted, AgentUnreachable, SyncFailed
from sky.remote.package import Package, build
from sky.remote.starting import outcome


async def gone(pid):
    for _ in range(3000):
        if not Path(f"/proc/{pid}").exists():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"process {pid} is still there")


async def test_the_agent_is_started_once_and_found_again(place):
    first = await ensure_agent(place.channel, place.config)
    hello = await first.hello()
    second = await ensure_agent(place.channel, place.config)
    assert (await second.hello())["pid"] == hello["pid"]
    assert hello["version"] == build().version and hello["node_id"] == place.config["node_id"]
    assert (place.home / ".sky/agent/node.json").stat().st_mode & 0o777 == 0o600
    assert place.socket.parent.stat().st_mode & 0o777 == 0o700
    assert len(place.processes()) == 2  # the loop and the agent
    await first.close()
    await second.close()


async def test_starting_twice_at_the_same_time_gives_one_agent(place):
    clients = await asyncio.gather(*(ensure_agent(place.channel, place.config) for _ in range(3)))
    assert len({(await client.hello())["pid"] for client in clients}) == 1
    for client in clients:
        await client.close()


async def test_an_agent_that_its_loop_has_just_started_again_is_left_alone(client, place):
    pid = (await client.hello())["pid"]
    os.kill(pid, 9)
    clients = await asyncio.gather(
        *(ensure_agent(place.channel, place.config, known=known) for known in (True, False, False))
    )
    assert len({(await each.hello())["pid"] for each in clients} - {pid}) == 1
    assert len(place.processes()) == 2, "one loop and one agent"
    for each in clients:
        await each.close()


async def test_a_start_that_hangs_is_told_by_the_next(place, monkeypatch):
    root = place.home / ".sky/agent"
    root.mkdir(parents=True)
    with (root / "starting").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(AgentNotStarted, match=r"within 0\.3 s \(another start is under way\)"):
            await ensure_agent(place.channel, place.config, timeout=0.3, known=False)


@pytest.mark.parametrize(
    "said", [b"", b"m+\t[]\n", b"m+\tno JSON\n", b'm+\t{"rc": 1}\n', b'm\t{"how": "found"}\n', b"\xff\0"]
)
def test_what_a_node_tells_may_be_anything(said):
    with pytest.raises(AgentNotStarted, match="cannot install the agent on n: exit code 1"):
        outcome(Completed(1, said, b""), "m", "n")
    told = outcome(Completed(0, b'hello\nm+\t{"how": "ended", "rc": "x", "said": 5}\n', b""), "m", "n")
    assert told == ("ended", None, "5", "")


async def test_a_dead_agent_comes_back_and_a_dismissed_one_stays_away(client, place):
    pid = (await client.hello())["pid"]
    os.kill(pid, 9)
    later = (await client.hello())["pid"]
    assert later != pid
    await client.shutdown()
    await gone(later)
    with pytest.raises(AgentUnreachable, match="did not answer 'hello'"):
        await client.hello(timeout=0.3)
    # Its loop ends after it.
    async with asyncio.timeout(30):
        while place.processes():
            await asyncio.sleep(0.01)


async def test_another_version_replaces_the_agent_and_tasks_go_on(client, place, monkeypatch):
    job_id, _ = await client.submit("k", {"run": "mkfifo ~/go; echo up; read x < ~/go; echo done", "task_id": "t"})
    assert b"up" in (await client.read_log(job_id, wait=20))[0]
    package = build()
    monkeypatch.setattr(bootstrap, "build", lambda: Package("another", package.data))
    upgraded = await ensure_agent(place.channel, place.config)
    assert (await upgraded.hello())["version"] == "another"
    await asyncio.to_thread((place.home / "go").write_text, "x\n")
    data, offset, eof = b"", 0, False
    while not eof:
        piece, offset, eof, status = await upgraded.read_log(job_id, offset=offset, wait=20)
        data += piece
    assert status == "SUCCEEDED" and data.count(b"up") == data.count(b"done") == 1
    assert [path.name for path in (place.home / ".sky/agent").glob("agent-*.pyz")] == ["agent-another.pyz"]
    await upgraded.close()


async def test_a_second_agent_refuses_the_same_home(client, place):
    archive = next((place.home / ".sky/agent").glob("agent-*.pyz"))
    argv = [sys.executable, "-I", "-S", str(archive), "--node", str(place.home / ".sky/agent/node.json")]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True)
    assert done.returncode == 3 and "another agent serves" in done.stderr


async def test_what_keeps_the_agent_from_starting_is_told(place):
    with pytest.raises(AgentNotStarted, match="cpus"):
        await ensure_agent(place.channel, {**place.config, "cpus": "many"})


async def test_a_missing_python_is_told(place):
    place.channel.python = "/no/such/python"
    with pytest.raises(AgentNotStarted, match="there is no Python at /no/such/python"):
        await ensure_agent(place.channel, place.config)


TOO_OLD = sorted(Path.home().glob(".pyenv/versions/3.[67].*/bin/python"))


@pytest.mark.skipif(not TOO_OLD, reason="no Python older than 3.8 on this machine")
async def test_a_python_that_is_too_old_is_told(place):
    place.channel.python = str(TOO_OLD[0])
    with pytest.raises(AgentNotStarted, match=r"needs Python 3\.8 or newer, this is 3\."):
        await ensure_agent(place.channel, place.config)


async def test_a_node_that_cannot_be_written_to_is_told(place):
    place.home.mkdir(parents=True, exist_ok=True)
    (place.home / ".sky").write_text("in the way")
    with pytest.raises(AgentNotStarted, match="cannot install the agent"):
        await ensure_agent(place.channel, place.config, timeout=5.0)


async def test_the_agent_of_another_node_is_left_alone(client, place):
    with pytest.raises(AgentNotStarted, match="another node"):
        await ensure_agent(place.channel, {**place.config, "node_id": "someone-else"})
    assert (await client.hello())["node_id"] == place.config["node_id"]


async def test_short_scripts_run_in_the_home(client, place):
    assert await client.run("pwd; echo $MINE; exit 3", env={"MINE": "x"}) == (3, f"{place.home}\nx\n".encode())
    for seconds in (0.3, 3.0, 20.0):
        # On a busy machine a shell takes its time to say something.
        rc, output = await client.run("echo begun; sleep 600", timeout=seconds)
        if output:
            break
    assert (rc, output) == (124, b"begun\n")
    rc, output = await client.run("head -c 3000000 /dev/zero")
    assert (rc, len(output)) == (0, 1 << 20)


async def test_refusals_carry_their_type(client):
    with pytest.raises(AgentError) as caught:
        await client.job(12)
    assert caught.value.type == "JobNotFound" and "no job 12" in caught.value.message


async def test_nobody_there_is_told_in_time(place):
    absent = AgentClient(place.channel.open_agent, where="nowhere", timeout=0.2)
    with pytest.raises(AgentUnreachable, match="the agent of nowhere"):
        await absent.jobs()


def test_the_package_is_small_and_the_same_each_time():
    package = build()
    assert len(package.data) < 340_000  # a third of it sources, the rest compiled for this Python
    assert build.__wrapped__() == package
    # Whatever else the process has done: a string of one character is the same object everywhere.
    program = "import sys; from sky.remote.package import build; print(build().data.hex()); "
    program += "all(map(sys.intern, map(chr, range(256)))); print(build.__wrapped__().data.hex())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {package.data.hex()}


def test_the_agent_speaks_the_oldest_python_that_is_promised():
    import ast
    import gc

    folder = Path(bootstrap.__file__).parents[1] / "agent"
    # A collection in the middle of parsing may print a traceback, which parses as well, and Python 3.11 minds that.
    gc.collect()
    for path in folder.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))


async def test_a_local_command_sees_its_home_input_and_limits(place):
    done = await place.channel.run(["sh", "-c", "cat; pwd; echo bad >&2; exit 4"], input=b"given\n")
    assert done == (4, f"given\n{place.home}\n".encode(), b"bad\n")
    with pytest.raises(TimeoutError):
        await place.channel.run(["sleep", "600"], timeout=0.1)
    assert (await place.channel.run(["sh", "-c", "kill -9 $$"])).rc == 137


async def test_an_agent_that_hangs_is_replaced_and_tasks_go_on(client, place, monkeypatch):
    monkeypatch.setattr(bootstrap, "_ANSWERS_WITHIN", 0.3)
    job_id, _ = await client.submit("k", {"run": "mkfifo ~/go; echo up; read x < ~/go; echo done", "task_id": "t"})
    assert b"up" in (await client.read_log(job_id, wait=20))[0]
    hung = (await client.hello())["pid"]
    os.kill(hung, signal.SIGSTOP)
    mended = await ensure_agent(place.channel, place.config)
    assert (await mended.hello())["pid"] != hung
    await asyncio.to_thread((place.home / "go").write_text, "x\n")
    data, offset, eof = b"", 0, False
    while not eof:
        piece, offset, eof, status = await mended.read_log(job_id, offset=offset, wait=20)
        data += piece
    assert (status, data.count(b"up"), data.count(b"done")) == ("SUCCEEDED", 1, 1)
    await mended.close()


async def test_an_agent_whose_socket_was_deleted_is_replaced(client, place):
    before = (await client.hello())["pid"]
    place.socket.unlink()
    mended = await ensure_agent(place.channel, place.config)
    assert (await mended.hello())["pid"] != before
    await mended.close()


async def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(place):
    (place.home / ".sky/agent").mkdir(parents=True)
    (place.home / ".sky/agent/lock").write_text(f"{os.getpid()}\n")
    mended = await ensure_agent(place.channel, place.config)
    assert (await mended.hello())["pid"] != os.getpid()
    await mended.close()


async def test_a_deleted_home_is_not_made_again_by_a_late_command(place):
    place.home.rmdir()
    with pytest.raises(AgentNotStarted, match="No such file"):
        await ensure_agent(place.channel, place.config)
    assert not place.home.exists()


def test_its_errors_are_those_that_the_engine_knows():
    assert issubclass(AgentError, errors.AgentRefused)
    assert issubclass(AgentNotStarted, errors.AgentUnreachable)
    assert issubclass(SyncFailed, errors.AgentRefused)

"""The agent as a process: what it costs, what it speaks, which Pythons it runs on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from sky.agent import ledger
from sky.agent.fields import Refused
from sky.agent.ledger import on_network
from sky.agent.server import listen
from sky.agent.watch import FileWatch, _look, watch_exit

OLDEST = [
    path
    for path in (*map(str, Path.home().glob(".pyenv/versions/3.8.*/bin/python")), shutil.which("python3.8"))
    if path is not None and "shims" not in path
]


def usage(pid):
    """Memory in MB and CPU in seconds."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    memory = int(text.split("Pss:")[1].split()[0]) / 1024
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return memory, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def switches(pid):
    """How often the process has slept and woken."""
    return int(Path(f"/proc/{pid}/status").read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])


async def test_an_idle_agent_is_small_and_sleeps(cluster):
    pid = await cluster.nodes[0].pid()
    await cluster.head.close()
    woken = -1
    while woken != switches(pid):  # the connection's end is the last thing it has to do
        woken = switches(pid)
        await asyncio.sleep(0.2)
    woken, (memory, used) = switches(pid), usage(pid)
    await asyncio.sleep(1.0)  # a measurement over time
    assert memory < 20
    assert switches(pid) - woken <= 2
    assert usage(pid)[1] - used <= 0.01


async def test_an_agent_starts_quickly(start_cluster):
    before = time.monotonic()
    cluster = await start_cluster()
    assert (await cluster.head.hello())["rank"] == 0
    assert time.monotonic() - before < 20  # the bar is 0.2 s, in benchmarks/agent.py; here other tests run beside it


@pytest.mark.skipif(not OLDEST, reason="no Python 3.8 on this machine")
async def test_the_oldest_python_serves_jobs_too(cluster):
    node = cluster.nodes[0]
    await node.end()
    node.channel.python = OLDEST[0]
    await node.start()
    job_id = await cluster.submit("sleep 0.1; echo old; exit 3", setup="echo setup")
    status, log = await cluster.result(job_id)
    assert status == "FAILED" and "old" in log and (await cluster.head.job(job_id))["exit_codes"] == [3]
    cluster.kill_agent(await node.pid())
    assert (await cluster.result(await cluster.submit("echo again")))[0] == "SUCCEEDED"


async def test_a_long_queue_is_given_in_pages(cluster):
    blocker = await cluster.submit("sleep 600", cpus=4)
    await cluster.until(blocker, "RUNNING")
    jobs = []
    for _ in range(7):
        jobs += await asyncio.gather(*(cluster.submit("true", cpus=4) for _ in range(300)))
    assert [job["job_id"] for job in await cluster.head.jobs()] == sorted([blocker, *jobs])
    assert len(await cluster.head.cancel(all=True, wait=90)) == 2101
    assert await cluster.head.jobs(skip_finished=True) == []


async def test_the_end_of_a_process_is_noticed_with_and_without_pidfds():
    for watch in (watch_exit, lambda pid, done: _look(asyncio.get_running_loop(), pid, done)):
        process = await asyncio.create_subprocess_exec("sleep", "600")
        ended = asyncio.Event()
        watch(process.pid, ended.set)
        assert not ended.is_set()
        process.send_signal(signal.SIGKILL)
        await asyncio.wait_for(ended.wait(), 10)
        await process.wait()


@pytest.mark.parametrize("kernel", [True, False])
async def test_a_growing_file_rings_with_and_without_inotify(tmp_path, kernel):
    path = tmp_path / "log"
    path.write_text("")
    watch = FileWatch()
    if not kernel:
        watch._libc = False
    bell = watch.enter(str(path))
    assert watch.enter(str(path)) is bell
    waiting = asyncio.ensure_future(bell.wait(10))
    await asyncio.sleep(0)
    path.write_text("more")
    assert await waiting
    watch.leave(str(path))
    watch.leave(str(path))
    watch.close()


@pytest.mark.parametrize(
    ("path", "found"),
    [("/home/me/.sky/jobs.db", True), ("/home", True), ("/homes/x", False), ("/home/local/x", False), ("/x", False)],
)
def test_disks_that_other_machines_mount_are_told_apart(tmp_path, path, found):
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/a / ext4 rw 0 0\nserver:/h /home nfs4 rw 0 0\n/dev/b /home/local xfs rw 0 0\n")
    assert on_network(path, str(mounts)) is found
    assert on_network(path, str(tmp_path / "none")) is False


async def test_an_agent_whose_home_is_on_the_network_keeps_its_ledger_to_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "on_network", lambda path: True)
    made = ledger.Ledger(str(tmp_path), time.time)
    made.event("node", status="LOST")
    assert not list(tmp_path.glob("*-shm")) and len(made.events(0)) == 1
    made.close()


def test_a_socket_is_not_put_where_others_may_replace_it(tmp_path):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(Refused, match="others may put things into"):
        listen(str(open_to_all / "s"))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(Refused, match="others may put things into"):
        listen(str(tmp_path / "link" / "s"))
    open_to_all.chmod(0o1777)
    listen(str(open_to_all / "s")).close()
    listen(str(tmp_path / "new" / "s")).close()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700

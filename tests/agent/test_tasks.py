"""A task starts once, whoever asks how often, and whatever died in between."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from sky.agent import node
from sky.agent.fields import Refused
from sky.agent.tasks import Tasks


@pytest.fixture
def here(tmp_path):
    """A node that is nothing but a folder."""
    values = {
        "cluster_name": "c",
        "cluster_id": "c",
        "node_id": tmp_path.name,
        "rank": 0,
        "num_nodes": 1,
        "ips": ["127.0.0.1"],
        "peers": ["unix:/nowhere"],
        "socket": "/nowhere",
        "home": str(tmp_path / "home"),
        "cpus": 1,
    }
    (tmp_path / "home" / ".sky" / "agent").mkdir(parents=True)
    return node.parse(values)


def start(tasks, script, key="k", log="t/run.log"):
    return tasks.start(key, "run", script, {}, "home", log, None)


async def ended(tasks, key="k"):
    while (reply := await tasks.wait(key, "run", 10))["status"] == "running":
        pass
    return reply


async def claimed(here, key="k"):
    """Its process has written down its number, and is beyond a signal that comes too early."""
    path = Path(here.root) / "tasks" / f"{key}.run.pid"
    while not path.exists() or not path.read_text():
        await asyncio.sleep(0.01)


async def test_a_second_agent_finds_the_process_and_its_code(here):
    first = Tasks(here, dict(os.environ), time.time)
    pid = start(first, "echo x >> ~/ran; sleep 0.1; exit 4")
    await claimed(here)
    second = Tasks(here, dict(os.environ), time.time)
    assert start(second, "echo never") == pid
    assert await ended(second) == await ended(first) == {"status": "exited", "rc": 4}
    assert start(Tasks(here, dict(os.environ), time.time), "echo never") == pid
    assert (Path(here.home) / "ran").read_text() == "x\n"


async def test_of_two_wrappers_only_one_runs_and_both_agents_learn_its_code(here, monkeypatch):
    first, second = Tasks(here, dict(os.environ), time.time), Tasks(here, dict(os.environ), time.time)
    # As if the first agent died after it had started the process and before the process had claimed its pid file.
    monkeypatch.setattr(second, "_find", lambda key, phase: None)
    script = "echo x >> ~/ran; sleep 0.1; exit 4"
    start(first, script)
    start(second, script)
    monkeypatch.undo()
    assert await ended(first) == await ended(second) == {"status": "exited", "rc": 4}
    assert (Path(here.home) / "ran").read_text() == "x\n"


async def test_a_killed_job_starts_nothing_any_more(here):
    tasks = Tasks(here, dict(os.environ), time.time)
    await tasks.kill("k", 1.0)
    assert start(tasks, "echo x >> ~/ran") == 0
    assert await ended(tasks) == {"status": "exited", "rc": 137}
    assert not (Path(here.home) / "ran").exists()
    tasks.forget("k")
    assert list((Path(here.root) / "tasks").iterdir()) == []


async def test_killing_one_job_spares_another_whose_name_begins_alike(here):
    tasks = Tasks(here, dict(os.environ), time.time)
    start(tasks, "sleep 600", key="job")
    start(tasks, "sleep 600", key="job-2", log="t2/run.log")
    await claimed(here, "job")
    await tasks.kill("job", 20.0)
    assert (await ended(tasks, "job"))["rc"] == 143
    assert (await tasks.wait("job-2", "run", 0))["status"] == "running"
    await tasks.kill_all(1.0)
    assert (await ended(tasks, "job-2"))["status"] == "exited"


async def test_what_nobody_knows_is_lost(here):
    assert await Tasks(here, {}, time.time).wait("never", "run", 0) == {"status": "lost", "rc": None}


async def test_devices_and_environments_that_cannot_be_are_refused(here):
    tasks = Tasks(here, dict(os.environ), time.time)
    with pytest.raises(Refused, match="has no devices"):
        tasks.start("k", "run", "true", {}, "home", "t/run.log", [0])
    with pytest.raises(Refused, match="could not be started on head"):
        tasks.start("k2", "run", "true", {"BIG": "x" * 300000}, "home", "t/run.log", None)

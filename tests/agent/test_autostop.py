"""Autostop on a real agent, with minutes short enough to wait for their event."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time

import pytest

from sky.remote.errors import AgentError

BLINK = 0.2 / 60


async def story(cluster, *statuses, seconds=60):
    """Wait until the events of autostop have these statuses."""
    deadline, since, seen = time.monotonic() + seconds, 0, []
    while time.monotonic() < deadline:
        events, since = await cluster.head.events(since, wait=1.0)
        seen += [event["status"] for event in events if event["kind"] == "autostop"]
        if seen == list(statuses):
            return
    raise AssertionError(f"events of autostop: {seen}")


async def file_appears(path, lines=1):
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if path.exists() and len(path.read_text().splitlines()) >= lines:
            return path.read_text()
        await asyncio.sleep(0.01)
    raise AssertionError(f"{path} did not appear with {lines} line(s)")


@pytest.fixture
def mark(tmp_path):
    return {mode: ["/bin/sh", "-c", f"echo ${{SKY_NODE_ID}}{mode} >> {tmp_path}/power"] for mode in ("stop", "down")}


async def test_an_idle_cluster_stops_itself_all_nodes_of_it(start_cluster, mark, tmp_path):
    cluster = await start_cluster(2, power_off=mark)
    hooks = [{"run": "echo $SKYPILOT_HOOK_EVENT", "events": ["stop"], "timeout": 60}]
    await cluster.head.autostop(BLINK, hooks=hooks)
    await story(cluster, "AUTOSTOPPING", "HOOK")
    said = json.loads(await file_appears(cluster.nodes[0].home / ".sky/agent/stopped.json"))
    assert said["down"] is False and "idle" in said["reason"]
    assert (await file_appears(tmp_path / "power", 2)) == "stop\nstop\n"
    assert (cluster.nodes[0].home / ".sky/hooks/stop.log").read_text() == "stop\n"
    with pytest.raises(AgentError, match="being stopped"):
        await cluster.submit("true")
    assert (await cluster.head.autostop_get())["idle_minutes"] == -1


async def test_a_job_keeps_the_cluster_up_and_its_end_starts_the_count(start_cluster, mark, tmp_path):
    cluster = await start_cluster(power_off=mark)
    job_id = await cluster.submit("sleep 600", cancel_grace=0.1)
    await cluster.until(job_id, "RUNNING")
    await cluster.head.autostop(BLINK, down=True, wait_for="jobs")
    assert (await cluster.head.autostop_get())["idle_since"] is None
    events, _ = await cluster.head.events(0, wait=0)
    assert not [event for event in events if event["kind"] == "autostop"]
    await cluster.head.cancel([job_id])
    assert (await file_appears(tmp_path / "power")) == "down\n"
    (job,) = await cluster.head.jobs()
    (event,) = [event for event in (await cluster.head.events(0))[0] if event["kind"] == "autostop"]
    assert event["time"] - job["end_at"] >= BLINK * 60


async def test_waiting_for_nothing_ends_running_jobs(start_cluster, mark, tmp_path):
    cluster = await start_cluster(power_off=mark)
    job_id = await cluster.submit("sleep 600", cancel_grace=0.1)
    await cluster.until(job_id, "RUNNING")
    await cluster.head.autostop(BLINK, wait_for="none")
    assert (await file_appears(tmp_path / "power")) == "stop\n"
    assert (await cluster.head.job(job_id))["status"] == "FAILED_DRIVER"


async def test_the_count_goes_on_after_a_kill_and_can_be_switched_off(start_cluster, mark, tmp_path):
    cluster = await start_cluster(power_off=mark)
    await cluster.head.autostop(5)
    before = await cluster.head.autostop_get()
    cluster.kill_agent(await cluster.nodes[0].pid())
    assert await cluster.head.autostop_get() == before and before["idle_since"] <= time.time()
    await cluster.head.autostop(-1)
    assert (await cluster.head.autostop_get())["idle_minutes"] == -1
    assert not (tmp_path / "power").exists()


async def test_wrong_settings_are_refused(cluster):
    with pytest.raises(AgentError, match="wait_for"):
        await cluster.head.autostop(1, wait_for="godot")
    with pytest.raises(AgentError, match="lacks the field 'run'"):
        await cluster.head.autostop(1, hooks=[{}])


async def test_a_machine_that_was_started_anew_has_not_been_idle_since_before(start_cluster, mark, tmp_path):
    cluster = await start_cluster(power_off=mark)
    await cluster.head.autostop(60)
    node = cluster.nodes[0]
    ledger = sqlite3.connect(node.home / ".sky/agent/jobs.db")
    long_ago = json.dumps({**(await cluster.head.autostop_get()), "idle_since": time.time() - 7200})
    with ledger:
        ledger.execute("UPDATE settings SET value = ? WHERE name = 'autostop'", (long_ago,))
    ledger.close()
    # What a new keeper changes: the agent of the machine's next start finds another configuration.
    node.config["power_off"] = {"stop": ["/bin/true"], "down": ["/bin/true"]}
    begun = time.time()
    await node.start()
    assert (await cluster.head.autostop_get())["idle_since"] >= begun - 1


async def test_an_idle_cluster_stops_itself_although_its_disk_is_full(start_cluster, mark, tmp_path):
    cluster = await start_cluster(power_off=mark)
    ledger = sqlite3.connect(cluster.nodes[0].home / ".sky/agent/jobs.db")
    for kind in ("INSERT", "UPDATE"):
        for table in ("events", "settings"):
            # As good as a full disk: every write of the agent's fails from now on.
            ledger.execute(
                f"CREATE TRIGGER no_{kind}_{table} BEFORE {kind} ON {table} BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
    ledger.close()
    await cluster.head.autostop(BLINK, hooks=[{"run": "true", "timeout": 5}])
    assert (await file_appears(tmp_path / "power")) == "stop\n"


async def test_a_cluster_that_goes_at_once_lets_the_last_log_be_read(start_cluster, mark, tmp_path):
    cluster = await start_cluster(power_off=mark)
    job_id = await cluster.submit("echo last words")
    await cluster.head.autostop(0, down=True, wait_for="jobs")
    ended_at = (await cluster.until(job_id, "SUCCEEDED"))["end_at"]
    gone = (tmp_path / "power").exists()
    assert not gone or time.time() > ended_at + 5, "it waits for somebody to read"
    asked_at = time.time()
    data, _, ended, _ = await cluster.head.read_log(job_id, offset=0)
    assert ended and b"last words" in data
    assert (await file_appears(tmp_path / "power")) == "down\n"
    (event,) = [event for event in (await cluster.head.events(0))[0] if event["kind"] == "autostop"]
    assert event["time"] - asked_at < 4.0, "once it was read, nobody is waited for"


async def lab_off(machines, hosts, **config):
    """Machines whose end leaves a file."""
    power = {mode: ["/bin/sh", "-c", f"echo {mode} >> /root/power"] for mode in ("stop", "down")}
    return await machines(hosts, power_off=power, **config)


async def off(host):
    for _ in range(600):
        if host.exec("cat", "/root/power").stdout:
            return host.exec("cat", "/root/power").stdout
        await asyncio.sleep(0.05)
    raise AssertionError("the machine was not told to end")


async def test_a_person_who_is_logged_in_keeps_the_machine_up_and_a_watcher_does_not(lab, start_machines):
    (host,) = lab.create(1)
    cluster = await lab_off(start_machines, [host])
    person = await asyncio.create_subprocess_exec(
        *(*host.ssh_command()[:1], "-tt", *host.ssh_command()[1:], "cat"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    watcher = await asyncio.create_subprocess_exec(*host.ssh_command("cat"), stdin=asyncio.subprocess.PIPE)
    while True:
        names = host.exec("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep '^sshd.*@'").stdout
        if "@pts/" in names and "@notty" in names:
            break
        await asyncio.sleep(0.05)
    began = time.time()
    await cluster.head.autostop(BLINK, wait_for="jobs_and_ssh")
    while (await cluster.head.autostop_get())["idle_since"] < began + BLINK * 60:
        await asyncio.sleep(0.05)  # it has looked, and the count began anew
    assert host.exec("cat", "/root/power").stdout == ""
    person.terminate()
    await person.wait()
    while "@pts/" in host.exec("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'").stdout:
        await asyncio.sleep(0.05)
    await cluster.head.autostop(BLINK, wait_for="jobs_and_ssh")
    assert await off(host) == "stop\n"
    watcher.terminate()
    await watcher.wait()


async def test_a_worker_that_hangs_does_not_keep_the_head_up(lab, start_machines):
    hosts = lab.create(2)
    cluster = await lab_off(start_machines, hosts)
    lab.freeze(hosts[1])
    began = time.monotonic()
    await cluster.head.autostop(BLINK, down=True)
    assert await off(hosts[0]) == "down\n"
    assert time.monotonic() - began < 30
    lab.thaw(hosts[1])


async def test_a_machine_really_goes_off(lab, start_machines):
    hosts = lab.create(2)
    power = ["sudo", "-n", "shutdown", "-h", "now"]
    cluster = await start_machines(hosts, user="sky", power_off={"stop": power, "down": power})
    await cluster.head.autostop(BLINK)
    for _ in range(600):
        if {host.state for host in lab.hosts()} == {"stopped"}:
            break
        await asyncio.sleep(0.05)
    assert {host.state for host in lab.hosts()} == {"stopped"}


async def test_an_end_that_fails_is_told(start_cluster):
    cluster = await start_cluster(power_off={"stop": ["/no/such/program"], "down": []})
    await cluster.head.autostop(BLINK)
    await story(cluster, "AUTOSTOPPING", "HOOK")
    events, _ = await cluster.head.events(0)
    assert "the machine could not be ended" in events[-1]["reason"]

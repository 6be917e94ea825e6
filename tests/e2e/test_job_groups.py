"""Groups, graphs and sweeps on this machine, through the real command: real nodes, real processes, real crashes."""

import os
import re
import signal
import socket
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def launch(sky, text, *words):
    (sky.root / "t.yaml").write_text(text)
    done = sky.good("jobs", "launch", "-y", "-d", *words, "t.yaml")
    return int(re.search(r"Managed Job ID: (\d+)", done.stdout)[1])


def tasks(sky, number=1):
    found = [each for each in sky.json("jobs", "queue", "-a") if each["job_id"] == number]
    return sorted(found, key=lambda each: each["task_id"])


def statuses(sky, number=1):
    return [each["status"] for each in tasks(sky, number)]


def environ(pid):
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def nothing_left(sky):
    return not sky.node_processes() and sky.json("status") == []


TALK = """
name: talk
execution: parallel
primary_tasks: [asker]
termination_delay: 1s
---
name: server
resources: {infra: local, cpus: 1}
run: python3 -u -m http.server PORT --bind $SKYPILOT_NODE_IPS
---
name: asker
resources: {infra: local, cpus: 1}
run: |
  server=$(awk '$2 == "server-0.talk" {print $1}' ~/.sky/hosts)
  for i in $(seq 400); do
    python3 -c "import urllib.request as r; print('answered', r.urlopen('http://$server:PORT/').status)" && exit 0
    sleep 0.1
  done
  exit 4
"""


def test_a_group_that_talks(sky, eventually):
    with socket.create_server(("127.0.0.1", 0)) as free:
        (sky.root / "t.yaml").write_text(TALK.replace("PORT", str(free.getsockname()[1])))
    ran = sky("jobs", "launch", "-y", "t.yaml")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "answered 200\n" in ran.stdout
    assert ran.stdout.endswith("Managed job finished (status: SUCCEEDED).\n")
    eventually(lambda: statuses(sky) == ["CANCELLED", "SUCCEEDED"])
    shown = sky.good("jobs", "queue", "-a").stdout
    assert re.search(r"^1 +- +talk +2 tasks .* SUCCEEDED *$", shown, re.M)
    assert re.search(r"^ └ 1 +1 +asker .* SUCCEEDED *$", shown, re.M)
    told = tasks(sky)
    assert [each["current_cluster_name"] for each in told] == ["server-1-0", "asker-1-1"]
    assert "the primary tasks have ended" in sky.good("events", "1").stdout
    assert "answered 200" in sky.good("jobs", "logs", "1", "asker").stdout
    eventually(lambda: nothing_left(sky))


def test_a_member_that_is_lost_comes_back_and_the_others_learn_where(sky, eventually):
    text = f"""
name: pair
execution: parallel
---
name: keeps
resources: {{infra: local, cpus: 1}}
run: |
  before=$(grep lost-0.pair ~/.sky/hosts)
  touch {sky.root}/ready
  until now=$(grep lost-0.pair ~/.sky/hosts) && [ "$before" != "$now" ]; do sleep 0.2; done
  touch {sky.root}/seen
---
name: lost
resources: {{infra: local, cpus: 1}}
run: |
  echo $SKY_NODE_ID > {sky.root}/lost.new; mv {sky.root}/lost.new {sky.root}/lost
  while [ ! -e {sky.root}/seen ]; do sleep 0.1; done
"""
    # The lowest address is another's until the members have theirs: who comes back is somewhere else than before.
    sky.good("launch", "-y", "-c", "first", "--infra", "local")
    number = launch(sky, text)
    eventually(lambda: statuses(sky) == ["RUNNING", "RUNNING"] and (sky.root / "ready").exists())
    sky.good("down", "-y", "first")
    eventually((sky.root / "lost").exists)
    mark = b"SKY_NODE_ID=" + (sky.root / "lost").read_bytes().strip()
    assert sky.cut_power(lambda pid, _: mark in environ(pid))
    eventually(lambda: statuses(sky) == ["SUCCEEDED", "SUCCEEDED"], 60)
    assert [each["recovery_count"] for each in tasks(sky, number)] == [0, 1]
    eventually(lambda: nothing_left(sky))


def diamond(sky):
    wait = f"while [ ! -e {sky.root}/go-{{0}} ]; do test -e {sky.root}/fail-{{0}} && exit 3; sleep 0.1; done"
    step = f"echo {{0}} >> {sky.root}/order; {wait}"
    parts = (("d", "[b, c]"), ("b", "[a]"), ("c", "[a]"), ("a", "[]"))
    return "---\n".join(
        f"name: {name}\nresources: {{infra: local, cpus: 1}}\ndepends_on: {after}\nrun: {step.format(name)}\n"
        for name, after in parts
    )


def test_the_server_is_killed_in_the_middle_of_a_diamond(sky, eventually):
    number = launch(sky, diamond(sky), "-n", "diamond")
    eventually(lambda: statuses(sky) == ["PENDING", "PENDING", "PENDING", "RUNNING"])
    os.kill(sky.server_pid(), signal.SIGKILL)
    (sky.root / "go-a").touch()
    eventually(lambda: statuses(sky) == ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"], 60)
    os.kill(sky.server_pid(), signal.SIGKILL)
    for name in ("b", "c", "d"):
        (sky.root / f"go-{name}").touch()
    assert sky("jobs", "logs", str(number)).returncode == 0
    eventually(lambda: statuses(sky) == ["SUCCEEDED"] * 4)
    order = (sky.root / "order").read_text().split()
    assert (order[0], sorted(order[1:3]), order[3:]) == ("a", ["b", "c"], ["d"]), "each once, in order"
    eventually(lambda: nothing_left(sky))


def test_a_failing_branch_and_why_a_task_waits(sky, eventually):
    launch(sky, diamond(sky), "-n", "diamond")
    (sky.root / "go-a").touch()
    eventually(lambda: statuses(sky)[1:3] == ["RUNNING", "RUNNING"])
    why = sky.good("jobs", "queue", "--why", "1").stdout
    assert "Task d is PENDING (WAITING): waiting for task 'b' (RUNNING), task 'c' (RUNNING)\n" in why
    assert why.endswith("Managed job 1 is RUNNING\n")
    (sky.root / "fail-b").touch()
    eventually(lambda: statuses(sky)[0:2] == ["CANCELLED", "FAILED"])
    (sky.root / "go-c").touch()
    assert sky("jobs", "logs", "1").returncode == 100
    assert statuses(sky) == ["CANCELLED", "FAILED", "SUCCEEDED", "SUCCEEDED"]
    assert tasks(sky)[0]["details"] == "task 'b', which it was to wait for, ended as FAILED"
    eventually(lambda: nothing_left(sky))


def test_a_sweep_is_cancelled_as_one(sky, eventually):
    text = """
name: fit
resources: {infra: local, cpus: 1}
envs: {LR: null}
sweep:
  matrix: {LR: [0.10, 1e-3], SEED: [1, 2]}
  exclude: [{LR: 1e-3, SEED: 2}]
  max_parallel: 2
run: echo lr $LR seed $SEED; sleep 1000
"""
    launch(sky, text)
    eventually(lambda: statuses(sky) == ["RUNNING", "RUNNING", "PENDING"])
    told = tasks(sky)
    assert [(each["rank"], each["num_jobs"]) for each in told] == [(0, 3), (1, 3), (2, 3)]
    assert told[0]["task_name"] == "fit-LR-0.10-SEED-1"
    eventually(lambda: "lr 0.10 seed 1\n" in sky("jobs", "logs", "1", "0", "--no-follow").stdout)
    waits = sky("jobs", "launch", "-y", "-d", "--infra", "local", "--after", "1", "echo never")
    assert "Managed Job ID: 2\n" in waits.stdout
    sky.good("jobs", "cancel", "-y", "1")
    eventually(lambda: statuses(sky) == ["CANCELLED"] * 3)
    assert sky("jobs", "logs", "1").returncode == 103
    eventually(lambda: statuses(sky, 2) == ["CANCELLED"])
    assert tasks(sky, 2)[0]["details"] == "managed job 1, which it was to wait for, ended as CANCELLED"
    eventually(lambda: nothing_left(sky))


def test_what_cannot_be_is_refused_where_it_stands(sky):
    for text, words in (
        (
            "name: a\ndepends_on: [b]\nrun: x\n---\nname: b\ndepends_on: [a]\nrun: x\n",
            "t.yaml:2:1 (tasks[0].depends_on)",
        ),
        ("name: a\nrun: x\n---\nname: b\ndepends_on:\n- a\n- nobody\nrun: x\n", "t.yaml:7:3"),
        ("name: a\nrun: x\nsweep:\n  matrix:\n    LR: []\n", "t.yaml:5:5"),
        ("name: a\nrun: x\nsweep:\n  matrix: {LR: [1]}\n  exclude:\n  - LR: 2\n", "t.yaml:6:5"),
    ):
        (sky.root / "t.yaml").write_text(text)
        done = sky("jobs", "launch", "-y", "t.yaml")
        assert done.returncode == 1
        assert words in done.stderr, done.stderr
    (sky.root / "t.yaml").write_text("run: x\nsweep:\n  matrix: {LR: [1]}\n")
    done = sky("launch", "-y", "--infra", "local", "t.yaml")
    assert "only managed jobs have it" in done.stderr
    assert sky("jobs", "launch", "-y", "--infra", "local", "--after", "99", "echo x").returncode == 1
    assert sky("jobs", "launch", "-y", "--infra", "local", "--after", "x", "echo x").returncode == 2


PAIR = """
name: pair
execution: parallel
---
name: one
resources: {infra: local, cpus: 1}
run: sleep 600
---
name: two
resources: {infra: local, cpus: 1}
run: sleep 600
"""


def test_jobs_that_are_launched_into_a_group_end_with_it_and_one_may_end_alone(sky, eventually):
    group = launch(sky, PAIR)
    eventually(lambda: statuses(sky) == ["RUNNING", "RUNNING"])

    def into(where, *words):
        done = sky.good("jobs", "launch", "-y", "-d", "--infra", "local", "--job-group", where, *words, "sleep 600")
        return int(re.search(r"Managed Job ID: (\d+)", done.stdout)[1])

    by_number, by_name = into(str(group)), into("pair", "-n", "late")
    assert (group, by_number, by_name) == (1, 2, 3)
    found = {each["job_id"]: each for each in sky.json("jobs", "queue", "-a")}
    assert [found[each]["parent_job_id"] for each in (1, 2, 3)] == [None, 1, 1]
    lines = [line.split()[:2] for line in sky.good("jobs", "queue", "-a").stdout.splitlines()[1:6]]
    assert lines == [["1", "-"], ["└", "1"], ["└", "1"], ["└", "3"], ["└", "2"]]
    sky.good("jobs", "cancel", "-y", "2")
    eventually(lambda: statuses(sky, 2) == ["CANCELLED"])
    assert statuses(sky) == ["RUNNING", "RUNNING"]
    sky.good("jobs", "cancel", "-y", "1")
    eventually(lambda: statuses(sky) == ["CANCELLED"] * 2 and statuses(sky, 3) == ["CANCELLED"])
    eventually(lambda: nothing_left(sky))
    refused = sky("jobs", "launch", "-y", "-d", "--job-group", "pair", "true")
    assert refused.returncode != 0 and "no job group 'pair' of yours is under way" in refused.stderr

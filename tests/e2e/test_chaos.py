"""Random operations by several clients on several clusters, while the server and the agents are killed at random.

Bounded to some seconds in the suite; `SKY_CHAOS_SECONDS` and `SKY_CHAOS_SEED` make it longer and repeat a failure.
"""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

from sky.core.lifecycle import clusters, requests

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

SECONDS = float(os.environ.get("SKY_CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("SKY_CHAOS_SEED", "1"))
NAMES = ("a", "b", "c")


class Client(threading.Thread):
    """Somebody who types commands at random; `ran` is where each of its jobs leaves a line."""

    def __init__(self, sky, number, until):
        super().__init__()
        self._sky, self._number, self._until = sky, number, until
        self._rng = random.Random(SEED * 1000 + number)
        self.calls, self.stuck = [], []

    def run(self):
        count = 0
        while time.monotonic() < self._until:
            count += 1
            name = self._rng.choice(NAMES)
            mark = f"{self._number}-{count}"
            script = f"echo {mark} >> {self._sky.root}/ran; sleep {self._rng.choice((0, 0, 0.3))}"
            nodes = str(self._rng.choice((1, 1, 2)))
            words = self._rng.choices(
                (
                    ("launch", "-y", "-c", name, "--num-nodes", nodes, script),
                    ("exec", name, script),
                    ("exec", "-d", name, script),
                    ("stop", "-y", name),
                    ("start", "-y", name),
                    ("down", "-y", name),
                    ("autostop", "-y", "-i", "0", name),
                    ("cancel", "-y", "-a", name),
                    ("status", "-r"),
                ),
                (6, 4, 3, 2, 2, 2, 1, 1, 2),
            )[0]
            try:
                done = self._sky(*words, timeout=120)
            except subprocess.TimeoutExpired:
                self.stuck.append(words)
            else:
                self.calls.append((mark, words, done.returncode, done.stdout + done.stderr))


def killer(sky, until):
    """End the server, or an agent, with no warning."""
    rng = random.Random(SEED)
    while time.monotonic() < until:
        time.sleep(rng.uniform(0.3, 1.5))
        if rng.random() < 0.5:
            victims = [sky.server_pid()]
        else:
            agents = [pid for pid, line in sky.node_processes().items() if "agent-" in line and "respawn" not in line]
            victims = rng.sample(agents, min(len(agents), 2))
        for pid in victims:
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def rows(sky, query):
    connection = sqlite3.connect(f"file:{sky.state}/state.db?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def arrows_of(sky):
    """Noun to the (before, after) pairs that its table allows. Stories of jobs show the status, not the phase."""
    return {
        "cluster": {(before, after) for before, _, after in clusters.TABLE.arrows()},
        "request": {(before, after) for before, _, after in requests.TABLE.arrows()},
    }


def test_chaos(sky, eventually):
    sky.good("api", "start")
    until = time.monotonic() + SECONDS
    clients = [Client(sky, number, until) for number in range(3)]
    for client in clients:
        client.start()
    killer(sky, until)
    for client in clients:
        client.join()
    assert [client.stuck for client in clients] == [[], [], []]

    sky.good("api", "start")
    sky.good("status", "-r")
    open_ones = "SELECT name, status FROM requests WHERE status NOT IN ('SUCCEEDED', 'FAILED', 'CANCELLED')"
    eventually(lambda: rows(sky, open_ones) == [])

    calls = {mark: (words, code, said) for client in clients for mark, words, code, said in client.calls}
    assert not [said for _, _, said in calls.values() if "Traceback" in said or "internal error" in said]
    file = sky.root / "ran"
    ran = file.read_text().split() if file.exists() else []
    nodes = {
        mark: int(words[words.index("--num-nodes") + 1]) for mark, (words, _, _) in calls.items() if "launch" in words
    }
    for mark in set(ran):
        assert ran.count(mark) <= nodes.get(mark, 1), f"{calls[mark]} ran more than once"
    for mark, (words, code, said) in calls.items():
        if words[0] in ("launch", "exec") and "-d" not in words and code == 0:
            assert mark in ran, f"{words} succeeded and never ran: {said}"

    unended = "SELECT id FROM jobs WHERE phase != 'DONE' AND cluster_id NOT IN (SELECT id FROM clusters WHERE living)"
    eventually(lambda: rows(sky, unended) == [])
    assert rows(sky, "SELECT entity, entity_id FROM letters WHERE entity = 'request'") == []
    known = arrows_of(sky)
    for noun, before, after in rows(sky, "SELECT entity, before, after FROM stories WHERE before != ''"):
        if noun in known and before != after:
            assert (before, after) in known[noun], (noun, before, after)

    living = {id for (id,) in rows(sky, "SELECT id FROM clusters WHERE living")}
    for record in sky.json("status", "-r"):
        assert record["status"] in ("UP", "STOPPED", "INIT", "AUTOSTOPPING")
    owners = {home.parts[-3] for home in sky.node_homes()}
    assert owners <= living, "machines without a record"
    sky.good("down", "-a", "-y")
    eventually(lambda: not sky.node_processes())
    assert sky.node_homes() == []

"""What a user waits for on machines elsewhere: launch on a machine that is ready, sixteen nodes, another command.

    python benchmarks/ssh_launch.py [--delay 10ms] [--nodes 16] [--rounds 5]

The machines are test hosts of this one (root, see tests/testbed/hosts), reached by real SSH; `--delay` is added each
way. Prints medians, with the bounds that they are to keep. Figures of commands are from the moment the command is
typed, the start of its interpreter included, to its first line of output (launch, exec) or its end (nodes). The first
figure is the server's part alone: from a machine whose port 22 answers, and that has nothing of ours, to the first line
of a job.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import machinery, util
from pathlib import Path

from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase
from sky.remote.keys import KeyRing
from sky.server.fleet import NodeFleet

ROOT = Path(__file__).resolve().parent.parent
SKY = str(Path(sys.executable).with_name("sky"))


def beds():
    loader = machinery.SourceFileLoader("beds", str(ROOT / "tests" / "testbed" / "beds.py"))
    module = util.module_from_spec(util.spec_from_loader("beds", loader))
    loader.exec_module(module)
    return module


class Home:
    """The command in a home of its own, with a pool of these hosts."""

    def __init__(self, hosts):
        self.root = Path(tempfile.mkdtemp(prefix="sky-bench-"))
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("SKY", "PYTHONDONT"))}
        self.env |= {"HOME": str(self.root), "SKY_STATE_DIR": str(self.root / "s")}
        (self.root / ".sky").mkdir()
        pool = {"lab": {"user": "sky", "identity_file": hosts[0].key, "hosts": [host.ip for host in hosts]}}
        (self.root / ".sky" / "ssh_node_pools.yaml").write_text(json.dumps(pool))

    def run(self, *words):
        done = subprocess.run(
            [SKY, *words], env=self.env, cwd=self.root, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def first_line(self, word, *words):
        """Seconds to the line that the job prints, and to the end of the command."""
        begun = time.perf_counter()
        process = subprocess.Popen(
            [SKY, *words], env=self.env, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        first = None
        for line in process.stdout:
            if first is None and word in line:
                first = time.perf_counter() - begun
        assert process.wait(60) == 0 and first is not None
        return first, time.perf_counter() - begun

    def close(self):
        subprocess.run([SKY, "down", "-a", "-y"], env=self.env, capture_output=True, timeout=120, check=False)
        subprocess.run([SKY, "api", "stop"], env=self.env, capture_output=True, timeout=60, check=False)
        shutil.rmtree(self.root, ignore_errors=True)


def tell(what, seconds, bound):
    """A line for people; the median."""
    middle = statistics.median(seconds)
    verdict = "kept" if middle <= bound else "NOT KEPT"
    spread = f"of {len(seconds)}: {min(seconds):.2f} to {max(seconds):.2f}"
    print(f"{what:<44} {middle:6.2f} s  ({spread})   at most {bound:g} s: {verdict}", file=sys.stderr, flush=True)
    return round(middle, 3)


async def first_job(host, number):
    """Seconds for a machine that lets us in, and has nothing of ours yet, to the first line of a job there."""
    reach = {"kind": "ssh", "host": host.ip, "user": host.user, "host_key": host.host_key, "identity": host.key}
    node = Instance(f"p{number}-0", f"p{number}", 0, InstanceState.RUNNING, host.ip, {**reach, "home": f".p/{number}"})
    cluster = Cluster(node.cluster_id, "p", "u", "d", Phase.BOOTSTRAPPING, 1, 0.0, 0.0, 1, instances=(node,))
    folder = Path(tempfile.mkdtemp(prefix="sky-bench-"))
    fleet = NodeFleet(None, KeyRing(folder))
    begun = time.perf_counter()
    await fleet.bring_up(cluster)
    head = await fleet.head(cluster)
    job_id, _ = await head.submit("k", {"run": "echo here; sleep 60", "task_id": "k"})
    piece = await head.read_log(job_id, offset=0, tail=None, wait=20.0, which="run", rank=None)
    while b"here" not in piece.data:
        piece = await head.read_log(job_id, offset=piece.next, tail=None, wait=20.0, which="run", rank=None)
    took = time.perf_counter() - begun
    await fleet.quiesce(cluster)
    await fleet.forget(cluster.id)
    shutil.rmtree(folder)
    return took


def measured(home, hosts, rounds):
    """Medians in seconds by what was done."""
    nodes = len(hosts)
    firsts = [asyncio.run(first_job(hosts[0], number)) for number in range(rounds * 2)]
    launches, again, clusters = [], [], []
    for number in range(rounds):
        name = f"c{number}"
        launches.append(home.first_line("here", "launch", "-y", "-c", name, "--infra", "ssh/lab", "echo here")[0])
        again += [home.first_line("again", "exec", name, "echo again")[0] for _ in range(3)]
        home.run("down", "-y", name)
    for number in range(max(1, rounds // 2)):
        words = ["launch", "-y", "-c", f"n{number}", "--infra", "ssh/lab", "--num-nodes", str(nodes)]
        clusters.append(home.first_line("here", *words, "echo here")[1])
        home.run("down", "-y", f"n{number}")
    return {
        "port 22 answers to first line of a job, s": tell("port 22 answers to first line of a job", firsts, 3),
        "launch to first output, s": tell("launch on a ready machine to first output", launches, 4),
        "exec to first output, s": tell("exec to first output", again, 0.6),
        f"{nodes} nodes, s": tell(f"{nodes} nodes, to the end of a job on all", clusters, 8),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delay", default="10ms", help="added each way; 0 for none (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    bed = beds()
    if why := bed.missing():
        print(json.dumps({"skipped": why}))
        return
    with bed.lab("bench-launch") as lab:
        hosts = lab.create(given.nodes)
        if given.delay != "0":
            for host in hosts:
                lab.netem(host, delay=given.delay)
        home = Home(hosts)
        try:
            home.run("ssh", "up")
            load = f"load {os.getloadavg()[0]:.1f}"
            print(f"{given.nodes} hosts, {given.delay} added each way; {load}", file=sys.stderr)
            figures = measured(home, hosts, given.rounds)
        finally:
            home.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""The benchmarks run and print their figures. How large those are is no matter for a test."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import reference_world

from sky.core.model.catalog import Query

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SHORT = {
    "agent.py": ["--starts", "1", "--jobs", "5", "--idle", "0.1"],
    "cli.py": ["--runs", "1"],
    "crash_jobs.py": ["--jobs", "12"],
    "managed_jobs.py": ["--jobs", "12", "--seconds", "1", "--losses", "2"],
    "month.py": ["--jobs", "4", "--markets", "1"],
    "catalog.py": ["--offers", "5000", "--runs", "1"],
    "launches.py": ["--launches", "8", "--seconds", "1", "--spread", "1"],
    "optimizer.py": ["--offers", "3000", "--runs", "1"],
    "plans.py": ["--runs", "1"],
    "policies.py": ["feasible", "--count", "4", "--jobs", "1"],
    "hostile_calls.py": ["--minutes", "0.05", "--examples", "2"],
    "hostile_input.py": ["--minutes", "0", "--most", "2"],
    "integrations.py": ["github-action", "--runs", "1"],
    "launch.py": ["--runs", "1", "--jobs", "5"],
    "replicas.py": ["--requests", "200", "--clusters", "1"],
    "server.py": ["--requests", "200", "--clusters", "2", "--starts", "1"],
    "ssh_launch.py": ["--rounds", "1", "--nodes", "2", "--delay", "0"],
    "ssh_nodes.py": ["--nodes", "5", "--hosts", "1", "--idle", "0.2"],
    "ssh_sync.py": ["--files", "50", "--megabytes", "1", "--large", "9", "--rounds", "1", "--disk", "128m"],
}


#: Made-up worlds, and what is run by the interpreter of another implementation.
PARTS = {
    "worlds.py",
    "made_up_cloud.py",
    *(f"reference_{part}.py" for part in ("world", "catalog", "optimizer", "server")),
}


def test_every_benchmark_is_run_here():
    assert {path.name for path in (ROOT / "benchmarks").glob("*.py")} == set(SHORT) | PARTS


@pytest.fixture
def folder():
    # Not tmp_path: sockets below it need a short path.
    made = Path(tempfile.mkdtemp(prefix="sb-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def left_over(folder):
    """Processes that were started under this folder for temporary files, and still run."""
    mark, found = f"TMPDIR={folder}".encode(), []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [command for command in found if command]


@pytest.mark.parametrize("name", SHORT)
def test_it_prints_figures_and_leaves_nothing_running(name, folder, eventually, request):
    if name == "replicas.py":
        request.getfixturevalue("postgres")  # or skipped
    env = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}
    words = [sys.executable, str(ROOT / "benchmarks" / name), *SHORT[name]]
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=folder, timeout=220)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout)
    assert figures
    assert all(value is not None for value in figures.values())
    eventually(lambda: left_over(folder) == [])


def test_the_reference_is_given_the_offers_that_we_have(tmp_path):
    catalog, home, offers = reference_world.both(tmp_path, 0.1)
    theirs = set()
    for path in (home / reference_world.FILES).glob("*/vms.csv"):
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                where = (path.parent.name, line["InstanceType"], line["Region"], line.get("AvailabilityZone"))
                theirs |= {(*where, False, float(line["Price"])), (*where, True, float(line["SpotPrice"]))}
    ours = {
        (each.cloud, each.instance_type, each.region, each.zone, each.use_spot, each.price_hourly)
        for each in catalog.reader().offers(Query())
    }
    assert theirs == ours
    assert len(ours) == offers > 10_000
    assert {cloud for cloud, *_ in ours} == set(reference_world.names())

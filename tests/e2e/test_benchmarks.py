"""The benchmarks run and print their figures. How large those are is no matter for a test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SHORT = {
    "agent.py": ["--starts", "1", "--jobs", "5", "--idle", "0.1"],
    "cli.py": ["--runs", "1"],
    "launch.py": ["--runs", "1", "--jobs", "5"],
    "server.py": ["--requests", "200", "--clusters", "2"],
}


def test_every_benchmark_is_run_here():
    assert {path.name for path in (ROOT / "benchmarks").glob("*.py")} == set(SHORT)


@pytest.mark.parametrize("name", SHORT)
def test_it_prints_figures(name, tmp_path):
    env = {**os.environ, "HOME": str(tmp_path)}
    words = [sys.executable, str(ROOT / "benchmarks" / name), *SHORT[name]]
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=110)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout)
    assert figures
    assert all(value is not None for value in figures.values())

"""`airflow dags test` runs them without any other process of Airflow, and its exit code tells how it ended."""

import json
import os
import subprocess
from pathlib import Path

from conftest import BIN


def dags_test(dag_id, **conf):
    return subprocess.run(
        [BIN / "airflow", "dags", "test", dag_id, "--conf", json.dumps(conf)],
        capture_output=True, text=True, timeout=300, cwd=os.environ["HOME"], check=False,
    )  # fmt: skip


def test_the_pipeline(database, sky_side, tmp_path):
    done = dags_test("sky_train", data=str(tmp_path), epochs=2)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = done.stdout + done.stderr
    assert "epoch 2 of 2" in said
    assert "the model says 50.5" in said
    assert "trained on local for 0.0 USD" in said
    assert len(list(Path(tmp_path).rglob("model"))) == 1


def test_a_failure(database, sky_side):
    done = dags_test("job_deferred", run="echo the disk is on fire; exit 3")
    assert done.returncode != 0
    assert "the disk is on fire" in (done.stdout + done.stderr).partition("SkyJobFailed")[2]

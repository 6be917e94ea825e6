"""The task that the launcher makes of a command: what it says in clear, and what it does not."""

import os
import signal
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from metaflow_sky import launch
from metaflow_sky.launch import task_of

SPEC = {
    "name": "start-1", "resources": {"infra": "local"}, "setup": None, "python": "python3", "env": {"A": 1}, "secrets": ["KEY"],
    "cluster_name": None, "managed": False, "endpoint": None, "shared": True, "settings": {"METAFLOW_USER": "u"},
    "hidden": {"METAFLOW_SERVICE_HEADERS": '{"x-api-key": "key-of-service"}'}, "cwd": "/a folder",
}  # fmt: skip


def test_keys_are_secrets_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "key-of-user")
    monkeypatch.setenv("METAFLOW_SERVICE_AUTH_KEY", "key-of-service")
    task = task_of(SPEC, ["python", "flow.py", "step", "start"])
    config: dict[str, Any] = task.to_yaml_config()
    assert "key-of" not in str(config)
    assert set(task.secrets) == {"KEY", "METAFLOW_SERVICE_HEADERS"}
    assert task.envs["A"] == "1" and task.envs["METAFLOW_USER"] == "u"
    assert task.run == "cd '/a folder' && exec python3 flow.py step start"


def test_only_the_first_signal_is_heeded() -> None:
    """The second may come before the first has been caught, and must not end the clean-up."""
    before = {number: signal.signal(number, launch._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(launch._Ended, match="SIGTERM"):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_what_prepares_a_node_is_taken_out_of_its_quotes() -> None:
    far = {
        **SPEC, "secrets": [], "shared": False, "task": ["F", "1", "start", "2", 0],
        "settings": {"METAFLOW_DEFAULT_DATASTORE": "s3"}, "prepare": ['python -c \'print(\\"$A\\")\'', "mkdir x"],
    }  # fmt: skip
    task = task_of(far, ["/here/python", "-u", "/here/flow.py", "--datastore", "s3", "step", "a b"])
    assert task.run is not None
    assert task.run.endswith("python -c 'print(\"$A\")' && mkdir x && python3 -u flow.py --datastore s3 step 'a b'")
    assert task.envs["MF_PATHSPEC"] == "F/1/start/2"


def test_the_python_of_a_node_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    """That of an environment too, which is known by where it lies. Nothing stays on the node."""
    env = tmp_path / "an env"
    venv.create(env)
    (env / "bin" / "python").rename(env / "bin" / "python-of-it")
    far = {
        **SPEC, "secrets": [], "shared": False, "task": ["F", "1", "start", "2", 0],
        "python": str(env / "bin" / "python-of-it"),
        "settings": {"METAFLOW_DEFAULT_DATASTORE": "s3"},
        "prepare": ["python -c 'import sys; print(sys.prefix)'", "touch flow.py"],
    }  # fmt: skip
    task = task_of(far, [sys.executable, "-u", "/here/flow.py", "step"])
    assert task.run is not None
    env_of_job = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path / "t")}
    (tmp_path / "t").mkdir()
    done = subprocess.run(["bash", "-c", task.run], env=env_of_job, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{env}\n", "")
    assert list((tmp_path / "t").iterdir()) == []

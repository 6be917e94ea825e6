"""`import sky`, and building tasks with it, touches nothing: no file, no thread, no process, no socket, no handler."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Watches itself from the first line on, and tells what happened while it ran the words it is given.
WATCHED = """
import json, os, signal, sys, threading
seen = []
def hook(event, args):
    if event == "open":
        path, mode, flags = args
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            seen.append(f"{event} {path}")
    elif event.startswith(("socket.", "subprocess.", "os.fork", "os.posix_spawn", "os.exec", "os.mkdir", "os.remove",
                           "os.rename", "os.putenv", "_thread.start", "signal.", "sqlite3.")):
        seen.append(event)
before = dict(os.environ)
sys.addaudithook(hook)
{program}
sys.stdout.write(json.dumps([seen, threading.active_count(), dict(os.environ) == before,
                             signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
                             len(sys.modules.get("logging").root.handlers) if "logging" in sys.modules else 0]))
"""

PROGRAMS = {
    "the package": "import sky",
    "every public name": "import sky\nfor name in sky.__all__: getattr(sky, name)",
    "the porch": "import sky, sky.jobs, sky.serve, sky.volumes, sky.clouds, sky.exceptions, sky.client.sdk, sky.local",
    "a task": (
        "import sky\n"
        "with sky.Dag() as dag:\n"
        "    task = sky.Task(run='echo', num_nodes=2, envs={'A': 'b'}).set_resources(sky.Resources(infra='local'))\n"
        "sky.Task.from_yaml_str('run: echo').to_yaml_config()"
    ),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_nothing_happens_outside_of_the_process(what: str, tmp_path: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SKY", "XDG"))}
    env = kept | {"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    program = WATCHED.replace("{program}", PROGRAMS[what])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    events, threads, same_environment, default_signal, handlers = json.loads(done.stdout)
    assert events == []
    assert (threads, same_environment, default_signal, handlers) == (1, True, True, 0)
    assert list(tmp_path.iterdir()) == []

"""The launcher: `python -m metaflow_sky.launch COMMAND...` runs a task's command as a Sky job and waits for it.

Metaflow starts it in the place of the task's process (see the decorator) and takes what it prints for the task's log.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sky

_SPEC = "METAFLOW_SKY_SPEC"
_WORKLOAD = "METAFLOW_SKY_WORKLOAD"
_ENV_TOKEN = "SKYPILOT_SERVICE_ACCOUNT_TOKEN"  # noqa: S105 - the name of a variable
#: Metaflow does not repeat a task that ends so.
_DO_NOT_RETRY = 202
#: Seconds between looks at whether Metaflow is still there.
_STEP_S = 0.5
#: Seconds that an interrupted launcher stays to see its cluster gone; Metaflow kills it after five.
_INTERRUPTED_S = 20.0
_PREFIX = re.compile(r"^\([^()\n]{1,200}pid=\d+\) ")
#: Errors of the SDK that no repetition mends.
_FINAL = frozenset({
    "InvalidSkyPilotConfigError", "NotSupportedError", "ResourcesMismatchError", "PermissionDeniedError",
    "ApiServerAuthenticationError", "InvalidClusterNameError", "BudgetExceededError", "StorageSpecError",
    "UserRequestRejectedByPolicy", "NoCloudAccessError",
})  # fmt: skip


@contextmanager
def server(endpoint: str | None) -> Iterator[None]:
    """Send the SDK's calls of this block to that server; None: where it sends them by itself."""
    if endpoint is None:
        yield
        return
    import sky  # noqa: PLC0415 - the SDK is loaded when it is used

    with sky.using_endpoint(endpoint, os.environ.get(_ENV_TOKEN)):
        yield


def task_of(spec: dict[str, Any], command: list[str]) -> sky.Task:
    """The Sky task that runs a task's command on a node. Raises ValueError for a secret that is not set here."""
    import sky  # noqa: PLC0415 - the SDK is loaded when it is used

    missing = [name for name in spec["secrets"] if name not in os.environ]
    if missing:
        raise ValueError(f"These variables are named as secrets and not set here: {', '.join(missing)}.")
    envs = {**_metaflow_variables(spec), **spec["settings"], **spec["env"], **_task_variables(spec)}
    envs[_WORKLOAD] = json.dumps({"name": spec["name"], "shared": spec["shared"]})
    config = {
        "name": spec["name"],
        "resources": spec["resources"],
        "setup": spec["setup"],
        "run": _script(spec, command),
        "envs": {name: str(value) for name, value in envs.items()},
        "secrets": {**spec["hidden"], **{name: os.environ[name] for name in spec["secrets"]}},
    }
    return sky.Task.from_yaml_config({key: value for key, value in config.items() if value})


def _metaflow_variables(spec: dict[str, Any]) -> dict[str, str]:
    """Settings of Metaflow and where modules are found, for a node that shares the file system."""
    if not spec["shared"]:
        return {}
    kept = {name: value for name, value in os.environ.items() if name.startswith("METAFLOW_") and name != _SPEC}
    for name in ("METAFLOW_SERVICE_AUTH_KEY", "METAFLOW_SERVICE_HEADERS"):
        kept.pop(name, None)
    # A node's home is another one.
    kept.setdefault("METAFLOW_HOME", str(Path("~/.metaflowconfig").expanduser()))
    if "PYTHONPATH" in os.environ:
        kept["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return kept


def _task_variables(spec: dict[str, Any]) -> dict[str, str]:
    """What the commands that prepare a node ask for."""
    if spec["shared"]:
        return {}
    flow, run, step, task, attempt = spec["task"]
    return {
        "METAFLOW_RUN_ID": str(run),
        "MF_PATHSPEC": f"{flow}/{run}/{step}/{task}",
        "MF_ATTEMPT": str(attempt),
        "MF_DATASTORE": spec["settings"]["METAFLOW_DEFAULT_DATASTORE"],
        # The log comes home with the job's own; no second copy of it is kept.
        "MFLOG_STDOUT": os.devnull,
        "MFLOG_STDERR": os.devnull,
        "PYTHONUNBUFFERED": "1",
    }


def _script(spec: dict[str, Any], command: list[str]) -> str:
    python = shlex.quote(spec["python"])
    if spec["shared"]:
        # Behind the interpreter stands the flow's file.
        return f"cd {shlex.quote(spec['cwd'])} && exec {python} {shlex.join(command[1:])}"
    at = next(index for index, word in enumerate(command) if word.endswith(".py"))
    step = f"{python} -u {shlex.join([os.path.basename(command[at]), *command[at + 1 :]])}"  # noqa: PTH119 - of words
    # What prepares the node was written for a folder of its own, and for an interpreter by the name of `python`: here a
    # script, for a link to the interpreter of an environment would not be in that environment.
    begin = (
        'folder="$(mktemp -d)"\ntrap \'rm -rf "$folder"\' EXIT\ncd "$folder"\nmkdir -p .bin\n'
        f'printf \'#!/bin/sh\\nexec "%s" "$@"\\n\' "$(command -v {python})" > .bin/python\n'
        'chmod +x .bin/python\nPATH="$PWD/.bin:$PATH"'
    )
    # They are meant to stand between double quotes, and this takes off what they are escaped with for that.
    (prepare,) = shlex.split(f'"{" && ".join(spec["prepare"])}"')
    return f"{begin}\n{prepare} && {step}"


class _Lines:
    """Prints the log as the task would have: without the prefix that says on which node."""

    def __init__(self) -> None:
        self._rest = ""

    def write(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._print(line + "\n")
        if len(self._rest) > 100_000:
            self.close()

    def flush(self) -> None:
        sys.stdout.flush()

    def close(self) -> None:
        """Print a last line without an end."""
        self._print(self._rest)
        self._rest = ""

    def _print(self, line: str) -> None:
        sys.stdout.write(_PREFIX.sub("", line))
        sys.stdout.flush()


class _Ended(BaseException):
    """A signal, or the end of whoever started us."""


def _follow(run: sky.Run) -> int:
    """The job's exit code. Raises what the launch failed with, and _Ended after the run was called off."""
    lines, found, raised = _Lines(), [], []

    def act() -> None:
        try:
            found.append(run.follow(lines))
        except BaseException as failed:  # noqa: BLE001 - raised again below
            raised.append(failed)

    parent = os.getppid()
    thread = threading.Thread(target=act, name="sky run", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_STEP_S)
            if os.getppid() != parent:
                _heed_no_more_signals()
                raise _Ended("Metaflow has gone")
    except BaseException:
        # The interpreter waits for this thread: if it ends late, it ends all the same.
        off = threading.Thread(target=run.cancel, name="sky clean-up")
        off.start()
        off.join(_INTERRUPTED_S)
        raise
    lines.close()
    if raised:
        raise raised[0]
    outcome = found[0]
    if outcome.exit_code != 0:
        print(f"Sky job {outcome.job_id} on {outcome.cluster_name} ended {outcome.status}.", file=sys.stderr)
    return int(outcome.exit_code)


def _bring_metadata_home(spec: dict[str, Any], command: list[str]) -> None:
    """Where the node wrote metadata to files of its own: take them from the datastore."""
    if spec["shared"] or "local" not in _option(command, "--metadata"):
        return
    from metaflow.datastore import FlowDataStore  # noqa: PLC0415 - half a second that most runs need not pay
    from metaflow.metadata_provider.util import sync_local_metadata_from_datastore  # noqa: PLC0415
    from metaflow.metaflow_config import DATASTORE_LOCAL_DIR  # noqa: PLC0415
    from metaflow.plugins import DATASTORES  # noqa: PLC0415

    flow, run, step, task, _ = spec["task"]
    wanted = _option(command, "--datastore")
    kind = next(each for each in DATASTORES if wanted == each.TYPE)
    store = FlowDataStore(flow, None, storage_impl=kind, ds_root=_option(command, "--datastore-root"))
    try:
        sync_local_metadata_from_datastore(DATASTORE_LOCAL_DIR, store.get_task_datastore(run, step, task))
    except Exception as failed:  # noqa: BLE001 - a task that never began left none; its own end matters more
        print(f"No metadata of the task came back: {failed}", file=sys.stderr)


def _option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1] if name in command else ""


def _heed_no_more_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _on_signal(number: int, _frame: object) -> None:
    # Here, and not where it is caught: the next one may come before that.
    _heed_no_more_signals()
    raise _Ended(signal.Signals(number).name)


def main(command: list[str]) -> int:
    """Run it; 0, 1 for a job that failed, 202 for what no repetition mends, 130 if it was called off."""
    spec = json.loads(os.environ.pop(_SPEC))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)
    try:
        with server(spec["endpoint"]):
            import sky  # noqa: PLC0415 - the SDK is loaded when it is used

            where = {"name": spec["name"], "managed": True} if spec["managed"] else {
                "cluster_name": spec["cluster_name"] or spec["name"], "keep": spec["cluster_name"] is not None,
            }  # fmt: skip
            code = _follow(sky.Run(task_of(spec, command), **where))
    except _Ended as ended:
        print(f"Called off: {ended}.", file=sys.stderr)
        return 130
    except Exception as failed:  # noqa: BLE001 - told in the task's log; what follows from it is the exit code
        print(f"{type(failed).__name__}: {failed}", file=sys.stderr)
        return _DO_NOT_RETRY if type(failed).__name__ in _FINAL or type(failed) is ValueError else 1
    _bring_metadata_home(spec, command)
    return 0 if code == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the action does: reads its inputs from the environment, runs the task, tells the runner how it went.

`run.py tidy` finishes what a cancelled run could not: the run notes down what it began before it begins.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODES = ("launch", "exec", "managed", "down")
#: Exit code of a run that was called off, by whomever.
CALLED_OFF = 103


class Wrong(Exception):
    """An input that cannot be."""


def given(name: str) -> str:
    """An input as it was written, without the space around it."""
    return os.environ.get(f"SKY_INPUT_{name}", "").strip()


def flag(name: str) -> bool | None:
    """A yes or no; None if nothing was given."""
    text = given(name).lower()
    if text in ("", "true", "false"):
        return None if not text else text == "true"
    raise Wrong(f"{name.lower()}: found {text!r}; allowed: true, false")


def escaped(text: str) -> str:
    """As the runner reads the message of a command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def mask(value: str) -> None:
    """Have the runner hide a value in all that is printed from now on, line by line as it reads."""
    for line in value.splitlines():
        if line.strip():
            print(f"::add-mask::{escaped(line)}", flush=True)


def pairs(name: str) -> dict[str, str]:
    """Lines of NAME=VALUE. Raises Wrong, and never tells a value."""
    found = {}
    for number, line in enumerate(given(name).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key.strip()):
            raise Wrong(f"{name.lower()}: line {number} is not NAME=VALUE")
        found[key.strip()] = value
    return found


@contextlib.contextmanager
def quoted(title: str) -> Iterator[None]:
    """A group of lines that are others' words: the runner takes no commands from them."""
    token = secrets.token_hex(16)
    print(f"::group::{escaped(title)}\n::stop-commands::{token}", flush=True)
    try:
        yield
    finally:
        sys.stdout.flush()
        # At the beginning of a line, whatever was written last.
        print(f"\n::{token}::\n::endgroup::", flush=True)


def tell(**outputs: object) -> None:
    """Outputs of the step, and a table for its summary."""
    known = {key.replace("_", "-"): str(value) for key, value in outputs.items() if value not in (None, "")}
    if path := os.environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a", encoding="utf-8") as file:
            for key, value in known.items():
                end = secrets.token_hex(16)
                file.write(f"{key}<<{end}\n{value}\n{end}\n")
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write("| | |\n|---|---|\n")
            for key, value in known.items():
                file.write(f"| {key} | `{value.replace('|', ' ').replace('`', ' ')}` |\n")


# --- what is left to do -----------------------------------------------------------------------------------------------


def note() -> Path:
    """Where a run says what it began; one for each use of the action in a job."""
    use = re.sub(r"\W", "_", os.environ.get("GITHUB_ACTION", "") or "here")
    return Path(os.environ["RUNNER_TEMP"]) / f"sky-{use}.json"


def begun(run: Any) -> None:
    kept = {name: getattr(run, name) for name in ("cluster_name", "managed", "exec", "keep", "request_id", "job_id")}
    path = note()
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(kept))
    fresh.replace(path)


def tidy() -> int:
    """Call off what a run noted down and did not get to the end of."""
    if not note().exists():
        return 0
    import sky  # noqa: PLC0415 - mostly there is nothing to do

    kept = json.loads(note().read_text())
    cluster = kept["cluster_name"]
    # What it is named with only matters before it begins.
    run = sky.Run(None, cluster_name=None if kept["managed"] else cluster, managed=kept["managed"], keep=kept["keep"])
    run.request_id, run.job_id = kept["request_id"], kept["job_id"]
    print(f"calling off what was begun: {cluster or 'a managed job'}", flush=True)
    run.cancel()
    note().unlink()
    return 0


# --- running ----------------------------------------------------------------------------------------------------------


def task_of() -> Any:
    """The task that the inputs describe."""
    import sky  # noqa: PLC0415 - a wrong input is told without it

    path, command = given("TASK"), given("COMMAND")
    if not path and not command:
        raise Wrong("give a task (the path of its YAML) or a command")
    envs, hidden = pairs("ENVS"), pairs("SECRETS")
    task = sky.Task.from_yaml(path) if path else sky.Task(run=command)
    if command:
        task.run = command
    task.name = name()
    if envs:
        task.update_envs(envs)
    if hidden:
        task.update_secrets(hidden)
    wanted = {key: given(word) for key, word in (("infra", "INFRA"), ("accelerators", "GPUS")) if given(word)}
    if wanted:
        task.set_resources_override(wanted)
    return task


def name() -> str:
    """The task's name: as it was given, else one that tells where it comes from."""
    if given("NAME"):
        return given("NAME")
    repository = os.environ.get("GITHUB_REPOSITORY", "local").rpartition("/")[2]
    parts = (repository, os.environ.get("GITHUB_RUN_ID", ""), os.environ.get("GITHUB_JOB", ""))
    text = re.sub(r"[^a-z0-9-]+", "-", "-".join(part for part in parts if part).lower()).strip("-")
    return f"gh-{text}"[:60].rstrip("-")


def stop_on_signals() -> None:
    """A runner that is cancelled sends SIGINT, then SIGTERM, then kills: the first one ends the run, once."""

    def stop(number: int, frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def minutes() -> float | None:
    text = given("TIMEOUT_MINUTES")
    try:
        found = float(text) if text else None
    except ValueError:
        found = 0.0
    if found is not None and not 0 < found < 1e6:
        raise Wrong(f"timeout-minutes: found {text!r}; expected a number of minutes")
    return found


def main() -> int:
    """Run the task as the inputs say; the exit code of the step."""
    mode = given("MODE") or "launch"
    if mode not in MODES:
        raise Wrong(f"mode: found {mode!r}; allowed: {', '.join(MODES)}")
    limit, wait, keep = minutes(), flag("WAIT") is not False, flag("KEEP")
    mask(given("TOKEN"))
    for value in pairs("SECRETS").values():
        mask(value)
    import sky  # noqa: PLC0415 - a wrong input is told without it

    cluster = given("CLUSTER") or None
    if mode == "down":
        if cluster is None:
            raise Wrong("down: give the cluster")
        sky.get(sky.down(cluster))
        tell(cluster=cluster, status="DOWN")
        return 0
    if not wait and cluster is None and mode == "launch" and keep is None:
        # Nobody stays to take it down: its own nodes do, when the job is over.
        keep = False
    task = task_of()
    options: dict[str, Any] = {"cluster_name": cluster, "keep": keep, "name": task.name}
    run = sky.Run(task, managed=mode == "managed", exec=mode == "exec", **options)
    stop_on_signals()
    return followed(run, limit) if wait else submitted(run)


def submitted(run: Any) -> int:
    """Have it launched, and return."""
    request = run.start()
    tell(request_id=request, cluster=run.cluster_name, status="SUBMITTED")
    print(f"submitted; its request: {request}")
    return 0


def followed(run: Any, limit: float | None) -> int:
    """Follow it to its end. Whatever ends this ends the run."""
    late = threading.Event()

    def over() -> None:
        late.set()
        run.cancel()

    timer = threading.Timer(limit * 60, over) if limit is not None else None
    begun(run)
    try:
        with quoted(f"sky {run.cluster_name or 'managed job'}"):
            run.start()
            begun(run)
            if timer is not None:
                timer.daemon = True
                timer.start()
            outcome = run.follow(sys.stdout, on_job=lambda job: begun(run))
    except BaseException as error:
        status = "TIMED_OUT" if late.is_set() else "CANCELLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        run.cancel()
        note().unlink(missing_ok=True)
        tell(
            request_id=run.request_id, cluster=run.cluster_name, job_id=run.job_id, status=status, exit_code=CALLED_OFF
        )
        if status == "FAILED":
            raise
        print(f"::error::the run was called off: {status}", flush=True)
        return CALLED_OFF
    finally:
        if timer is not None:
            timer.cancel()
    note().unlink(missing_ok=True)
    status = "TIMED_OUT" if late.is_set() and not outcome.succeeded else outcome.status
    cost = "" if outcome.cost is None else f"{outcome.cost:.4f}"
    tell(
        request_id=outcome.request_id, job_id=outcome.job_id, cluster=outcome.cluster_name, status=status,
        exit_code=outcome.exit_code, infra=outcome.infra, cost=cost,
    )  # fmt: skip
    if not outcome.succeeded:
        print(f"::error::job {outcome.job_id} of {outcome.cluster_name}: {status}", flush=True)
    return outcome.exit_code


def entry() -> int:
    """`main` or `tidy`, with errors as the runner shows them."""
    for word, variable in (("ENDPOINT", "SKYPILOT_API_SERVER_ENDPOINT"), ("TOKEN", "SKYPILOT_SERVICE_ACCOUNT_TOKEN")):
        if given(word):
            os.environ[variable] = given(word)
    try:
        return tidy() if sys.argv[1:] == ["tidy"] else main()
    except Wrong as error:
        print(f"::error title=Input::{escaped(str(error))}", flush=True)
        return 2
    except Exception as error:  # noqa: BLE001 - the runner shows one line, whatever it was
        print(f"::error title={type(error).__name__}::{escaped(str(error))}", flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(entry())

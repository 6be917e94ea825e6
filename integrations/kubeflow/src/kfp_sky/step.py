"""What a component does in its pod: one run of a task, and its end whatever happens. Called by the components alone."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

if TYPE_CHECKING:
    import sky

_ENV_TOKEN = "SKYPILOT_SERVICE_ACCOUNT_TOKEN"  # noqa: S105 - the name of a variable
#: Seconds between looks at whether the run has ended; signals are noticed meanwhile.
_STEP_S = 0.2
#: Seconds that an interrupted pod stays to see its cluster gone: Kubernetes kills it after 30. The server goes on.
_INTERRUPTED_S = 20.0
#: Lines that an error repeats, and characters of each.
_LAST_LINES = 20
_LINE_CHARS = 500


class Outputs(NamedTuple):
    """As the component declares them."""

    status: str
    cluster: str
    job_id: int
    infra: str
    cost_usd: float
    seconds: float


class SkyTaskError(RuntimeError):
    """A job that did not succeed."""


class _Ended(BaseException):
    """A signal: the pipeline run was terminated."""


def run_task(
    task: dict[str, Any],
    *,
    log_path: str,
    env: dict[str, Any],
    cluster_name: str,
    managed: bool,
    secret_variables: list[str],
    endpoint: str,
) -> Outputs:
    """Run a task to its end; its log is printed and kept at `log_path`.

    Raises SkyTaskError for a job that did not succeed, ValueError for what is no task or a secret that is not set, and
    what the launch failed with.
    """
    missing = [each for each in secret_variables if each not in os.environ]
    if missing:
        raise ValueError(f"These variables are named as secrets and not set in this pod: {', '.join(missing)}.")
    with _server(endpoint):
        import sky  # noqa: PLC0415 - the module is loaded where pipelines are written, too

        wanted = sky.Task.from_yaml_config(
            task,
            env_overrides={key: str(value) for key, value in env.items()},
            secrets_overrides={key: os.environ[key] for key in secret_variables},
        )
        options: dict[str, Any] = {"managed": True} if managed else {}
        if cluster_name:
            options["cluster_name"] = cluster_name
        else:
            options["name"] = wanted.name or "kfp"
        run = sky.Run(wanted, **options)
        Path(log_path).parent.mkdir(parents=True, exist_ok=True)
        with Path(log_path).open("w", encoding="utf-8") as log, _signals():
            lines = _Lines(log)
            outcome = _follow(run, lines)
    if not outcome.succeeded:
        last = "\n".join(f"  {line}" for line in lines.last())
        raise SkyTaskError(
            f"Sky job {outcome.job_id} on {outcome.cluster_name} ended {outcome.status}. Its last lines:\n{last}"
        )
    cost = outcome.cost if outcome.cost is not None else -1.0
    return Outputs(
        outcome.status,
        outcome.cluster_name or "",
        outcome.job_id or 0,
        outcome.infra or "",
        float(cost),
        outcome.seconds,
    )


def take_down(cluster_name: str, *, endpoint: str) -> None:
    """Take a cluster down, unless it is not there."""
    with _server(endpoint):
        import sky  # noqa: PLC0415 - as above

        if sky.get(sky.status([cluster_name])):
            sky.get(sky.down(cluster_name))


@contextmanager
def _server(endpoint: str) -> Iterator[None]:
    if not endpoint:
        yield
        return
    import sky  # noqa: PLC0415 - as above

    with sky.using_endpoint(endpoint, os.environ.get(_ENV_TOKEN)):
        yield


@contextmanager
def _signals() -> Iterator[None]:
    """Have the first SIGTERM, by which Kubernetes ends pods, or SIGINT raise _Ended; more of them change nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ended(number: int, _frame: object) -> None:
        # Here, and not where it is caught: the next one may come before that.
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise _Ended(signal.Signals(number).name)

    before = {number: signal.signal(number, ended) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(run: sky.Run, lines: _Lines) -> sky.Outcome:
    """What became of it. A thread makes the calls, so that a signal arrives at once and never in the middle of one."""
    found: list[sky.Outcome] = []
    raised: list[BaseException] = []

    def act() -> None:
        try:
            found.append(run.follow(lines))
        except BaseException as failed:  # noqa: BLE001 - raised again below
            raised.append(failed)

    thread = threading.Thread(target=act, name="sky run", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_STEP_S)
    except BaseException:
        # The interpreter waits for this thread: if it ends late, it ends all the same.
        off = threading.Thread(target=run.cancel, name="sky clean-up")
        off.start()
        off.join(_INTERRUPTED_S)
        raise
    if raised:
        raise raised[0]
    return found[0]


class _Lines:
    """A stream for the SDK: prints, keeps in a file, and remembers the end."""

    def __init__(self, log: TextIO) -> None:
        self._log = log
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._rest = ""

    def write(self, text: str) -> None:
        sys.stdout.write(text)
        self._log.write(text)
        *lines, rest = (self._rest + text).split("\n")
        self._last.extend(line[:_LINE_CHARS] for line in lines if line.strip())
        self._rest = rest[-_LINE_CHARS:]

    def flush(self) -> None:
        sys.stdout.flush()
        self._log.flush()

    def last(self) -> list[str]:
        """The last lines."""
        return [*self._last, *([self._rest] if self._rest.strip() else [])]

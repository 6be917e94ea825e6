"""Prefect tasks: one Sky task from launch to end, with its log in the run, and no cluster left behind."""

from __future__ import annotations

import hashlib
import logging
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError, TerminationSignal

from prefect_sky.endpoints import serving
from prefect_sky.runs import Outcome, SkyTaskError, run_to_completion
from prefect_sky.sources import opened, read_task

if TYPE_CHECKING:
    import sky
    from prefect.client.schemas.objects import State, TaskRun
    from prefect.futures import PrefectFuture

    from prefect_sky.credentials import SkyCredentials

RETRIES = 2
RETRY_DELAY_S = 30
#: Seconds between looks at whether somebody has called the flow run off.
_STATE_S = 10.0
#: Errors that the same call would meet again.
_LASTING = (ValueError, TypeError, FileNotFoundError, PermissionError)
_LASTING_NAMES = ("NotSupportedError", "InvalidClusterNameError", "UserRequestRejectedByPolicy", "BudgetExceededError")


def worth_a_retry(_task: object, _run: TaskRun, state: State[Any]) -> bool:
    """Whether another attempt may fare better: not after a wrong argument, a task file with mistakes, a refusal."""
    try:
        failed = state.result(raise_on_failure=False)
    except Exception:  # noqa: BLE001 - what is not known is tried again
        return True
    if isinstance(failed, SkyTaskError):
        return True
    name = type(failed).__name__
    if name == "ClusterDoesNotExist":
        return True
    if name == "ResourcesUnavailableError" and not getattr(failed, "failover_history", None):
        # No place was even asked: none fits, and none will in half a minute.
        return False
    return not (isinstance(failed, _LASTING) or name in _LASTING_NAMES)


def _run_name() -> str:
    """What the task run is called: the cluster's prefix, else the task file."""
    from prefect.runtime import task_run  # noqa: PLC0415 - of the run that is about to begin

    told = task_run.parameters or {}
    return f"{told.get('cluster_prefix') or told.get('yaml_path') or 'sky'}-{(task_run.id or '')[-4:]}"


@task(
    name="run_sky_task",
    task_run_name=_run_name,
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAY_S,
    retry_condition_fn=worth_a_retry,
)
def run_sky_task(
    base_path: str,
    yaml_path: str,
    envs_override: dict[str, Any] | None = None,
    git_branch: str | None = None,
    cluster_prefix: str | None = None,
    down_on_completion: bool = True,
    api_server_endpoint: str | None = None,
    *,
    secrets_override: dict[str, Any] | None = None,
    credentials: SkyCredentials | str | None = None,
) -> str:
    """Run a task file on a cluster of its own, follow its log, and take the cluster down. Returns the cluster's name.

    base_path: a folder of this machine, or the URL of a git repository; relative paths of the task are meant from it.
    yaml_path: the task file below it. envs_override, secrets_override: variables by name; values become texts.
    git_branch: branch, tag or commit. cluster_prefix: what the cluster's name begins with (else the task's name).
    down_on_completion: False keeps a cluster that came up, whatever becomes of the job.
    api_server_endpoint, credentials: which server, and a block or its name; see `prefect_sky.endpoints`.
    Raises SkyTaskError for a job that did not succeed, ValueError for a task file with mistakes.
    """
    known = _loaded(credentials)
    with serving(api_server_endpoint, known), opened(base_path, git_branch) as folder:
        path = folder / yaml_path
        wanted = read_task(
            path.read_text(encoding="utf-8"), folder, envs=envs_override, secrets=secrets_override, source=str(path)
        )
        return run_one(wanted, cluster_prefix, keep=not down_on_completion)


def run_one(wanted: sky.Task, prefix: str | None, *, keep: bool = False) -> str:
    """Run a task of the SDK inside a Prefect task: log, artifact and cancellation as `run_sky_task` has them."""
    name = prefix or wanted.name or "prefect"
    cluster = cluster_name(name)
    logger = run_logger()
    logger.info("Launching '%s' on cluster '%s'", wanted.name or name, cluster)
    began = time.monotonic()
    try:
        outcome = run_to_completion(wanted, cluster, say=logger.info, check=watcher(), keep=keep)
    except BaseException as ended:
        outcome = getattr(ended, "outcome", None) or Outcome(cluster)
        if isinstance(ended, Exception):
            outcome.status = "FAILED" if outcome.status in ("CANCELLED", "SUCCEEDED") else outcome.status
            _report(name, wanted, outcome, time.monotonic() - began, repr(ended) if outcome.job_id is None else "")
        raise
    _report(name, wanted, outcome, time.monotonic() - began, "")
    return cluster


def _report(name: str, wanted: sky.Task, outcome: Outcome, seconds: float, why: str) -> None:
    from prefect_sky.reports import report  # noqa: PLC0415 - the artifact is the last thing that a run needs

    report(name, wanted, outcome, seconds, why)


def _loaded(credentials: SkyCredentials | str | None) -> SkyCredentials | None:
    if not isinstance(credentials, str):
        return credentials
    from prefect_sky.credentials import SkyCredentials as Block  # noqa: PLC0415 - blocks cost time to import

    loaded = Block.load(credentials)
    assert isinstance(loaded, Block)
    return loaded


def run_logger() -> Any:
    """The logger of the run, whose lines the server keeps; a plain one outside of runs."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("prefect_sky")


def cluster_name(prefix: str) -> str:
    """A name that another attempt of this task run has again, and nobody else has."""
    context = TaskRunContext.get()
    seed = str(context.task_run.id) if context is not None else uuid.uuid4().hex
    slug = re.sub(r"[^A-Za-z0-9-]+", "-", prefix).strip("-")[:40].strip("-") or "prefect"
    slug = slug if slug[0].isalpha() else f"p-{slug}"
    return f"{slug}-{hashlib.blake2s(seed.encode(), digest_size=5).hexdigest()}".lower()


def watcher() -> Callable[[], None]:
    """A function that raises TerminationSignal once the run that it was made in has been called off.

    A task in the main thread is interrupted by Prefect itself. One in a thread is not: what its task runner sets
    then is looked at, and, for flows that nobody supervises, the state that the server has of the flow run.
    """
    context, flow = TaskRunContext.get(), FlowRunContext.get()
    if context is None:
        return lambda: None
    events = getattr(getattr(flow, "task_runner", None), "_cancel_events", None)
    event = events.get(context.task_run.id) if isinstance(events, Mapping) else None
    flow_run_id = context.task_run.flow_run_id
    due = time.monotonic() + _STATE_S

    def check() -> None:
        nonlocal due
        if event is not None and event.is_set():
            raise TerminationSignal(signal.SIGTERM)
        if flow_run_id is not None and time.monotonic() > due:
            due = time.monotonic() + _STATE_S
            if _called_off(flow_run_id):
                raise TerminationSignal(signal.SIGTERM)

    return check


def _called_off(flow_run_id: uuid.UUID) -> bool:
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - cyclic in Prefect when loaded early

    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run_id).state
    except Exception:  # noqa: BLE001 - a server that does not answer just now has called nothing off
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def results_of(futures: Iterable[PrefectFuture[Any]]) -> list[Any]:
    """Wait for all futures and return their values in order. Raises one SkyTaskError that names all that failed.

    Futures that nobody looks at do not fail a flow in Prefect 3; this is how to look at them.
    """
    values: list[Any] = []
    failures: list[str] = []
    for future in list(futures):
        try:
            values.append(future.result())
        except Exception as failed:  # noqa: BLE001 - told together, when all have ended
            first = (str(failed) or type(failed).__name__).splitlines()[0]
            failures.append(f"  {type(failed).__name__}: {first}")
    if failures:
        raise SkyTaskError(f"{len(failures)} of {len(failures) + len(values)} tasks failed:\n" + "\n".join(failures))
    return values


@task
def generate_bucket_uuid() -> str:
    """A fresh word for the name of a bucket."""
    return uuid.uuid4().hex[:12]


@task(persist_result=False, cache_policy=NO_CACHE)
def get_secret(name: str) -> str:
    """The value of a Prefect Secret block. It is neither logged nor kept by Prefect."""
    from prefect.blocks.system import Secret  # noqa: PLC0415 - blocks cost time to import

    return str(Secret.load(name).get())  # type: ignore[union-attr]

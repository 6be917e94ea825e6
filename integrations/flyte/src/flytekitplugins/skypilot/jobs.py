"""All that is asked of the `sky` client, which is loaded here alone and on first use. Called by `connector`.

Nothing here waits for a machine: a launch is a request on record at the server, and each look asks how far it is. Every
function may be called from any thread, and again after this process or the server was restarted.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flytekitplugins.skypilot import phases

#: Seconds that a cancellation waits for a launch on a cluster that is up to have put its job there.
_LANDING_S = 8.0
#: Jobs whose numbers are remembered; those of others are asked for again.
_MOST_REMEMBERED = 10_000
#: Lines of a log that a failure's message is taken from.
_TAIL = 40


@dataclass(frozen=True)
class Handle:
    """A job as it can be found again: by the request that launched it, or by the name that it alone has."""

    request_id: str
    job_name: str
    cluster_name: str | None
    managed: bool
    job_id: int | None = None


@dataclass(frozen=True)
class State:
    """How far a job is. message: in plain words. lost: the cluster is not there any more, so the files must tell."""

    phase: int
    message: str
    job_id: int | None = None
    lost: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return self.phase in phases.OVER


_numbers: dict[str, int] = {}
_lock = threading.Lock()


def sky() -> Any:
    """The client. Raises ImportError that says what to install."""
    try:
        import sky as client  # noqa: PLC0415 - `import flytekit` must work where it is missing or broken
    except Exception as error:
        raise ImportError(
            f"flytekitplugins-skypilot needs the client of the sky server where tasks are submitted: "
            f"pip install altostratus ({type(error).__name__}: {error})"
        ) from error
    if not hasattr(client, "launch"):
        raise ImportError(
            f"'sky' is {getattr(client, '__file__', None) or 'an empty folder'}, not the client of the sky server: "
            "pip install altostratus, or look what else is called sky on the path"
        )
    return client


def submit(task: Any, name: str, cluster: str | None, **options: Any) -> Handle:
    """Put a launch on record; it goes on without this process. options: those of `sky.launch`, for a cluster alone."""
    client = sky()
    if cluster is None:
        return Handle(str(client.jobs.launch(task, name=name)), name, None, managed=True)
    return Handle(str(client.launch(task, cluster_name=cluster, **options)), name, cluster, managed=False)


def find(name: str, cluster: str | None) -> Handle | None:
    """The job of that name that is on record already, so that the same task is not begun twice."""
    client = sky()
    if cluster is None:
        records, *_ = client.get(client.jobs.queue_v2(name_match=name))
        for record in records:
            if record["job_name"] == name:
                return Handle("", name, None, managed=True, job_id=int(record["job_id"]))
        return None
    number = _in_queue(client, name, cluster)
    return None if number is None else Handle("", name, cluster, managed=False, job_id=number)


def look(handle: Handle) -> State:
    """How far a job is, without waiting."""
    client = sky()
    number, state = _number(client, handle)
    if number is None:
        return state or State(phases.INITIALIZING, "being launched")
    return _managed(client, number) if handle.managed else _on_cluster(client, handle, number)


def end(handle: Handle, *, own_cluster: bool = False) -> None:
    """Cancel a job, wherever it has come to; quiet where there is nothing left to cancel.

    A cluster that has a name stays for those who share it; one that was made for this job alone goes.
    """
    client = sky()
    number, state = _number(client, handle)
    if state is not None and not state.over:
        number = _called_off(client, handle)
    try:
        if handle.managed:
            if number is not None:
                client.get(client.jobs.cancel(job_ids=[number]))
        elif number is not None:
            status = client.get(client.job_status(handle.cluster_name, [number])).get(number)
            if status is not None and not status.is_terminal():
                client.get(client.cancel(handle.cluster_name, job_ids=[number]))
    except (client.exceptions.ClusterDoesNotExist, client.exceptions.ClusterNotUpError):
        pass
    if own_cluster:
        remove(handle)


def remove(handle: Handle) -> None:
    """Have the cluster of a job taken down; does not wait for it."""
    client = sky()
    if handle.cluster_name is not None and client.get(client.status([handle.cluster_name])):
        client.down(handle.cluster_name)


def log_tail(handle: Handle, number: int, lines: int = _TAIL) -> list[str]:
    """The last lines of a job's log, or all of them with 0; none where there is no log any more."""
    client = sky()
    taken = io.StringIO()
    try:
        if handle.managed:
            client.jobs.tail_logs(job_id=number, follow=False, tail=lines, output_stream=taken)
        else:
            client.tail_logs(handle.cluster_name, number, follow=False, tail=lines, output_stream=taken)
    except client.exceptions.SkyError:
        return []
    return taken.getvalue().splitlines()


def told(handle: Handle, number: int) -> str:
    """The command by which a person reads the job's log."""
    return f"sky jobs logs {number}" if handle.managed else f"sky logs {handle.cluster_name} {number}"


# --- parts -----------------------------------------------------------------------------------------------------------


def _number(client: Any, handle: Handle) -> tuple[int | None, State | None]:
    """The job's number; else the state of the launch that has not come so far."""
    if handle.job_id is not None:
        return handle.job_id, None
    known = _numbers.get(handle.request_id)
    if known is not None:
        return known, None
    records = client.api_status([handle.request_id], all_status=True) if handle.request_id else []
    if not records:
        # The server keeps requests for some time only, jobs for longer.
        found = find(handle.job_name, handle.cluster_name)
        if found is None:
            return None, State(phases.RETRYABLE, "the server knows neither the launch nor the job any more", lost=True)
        return found.job_id, None
    record = records[0]
    status = record["status"].value
    if status == "SUCCEEDED":
        number = _numbered(record["return_value"])
        if number is not None:
            _remember(handle.request_id, number)
        return number, None
    return None, _launch_state(client, handle, status)


def _launch_state(client: Any, handle: Handle, status: str) -> State:
    if status == "CANCELLED":
        return State(phases.ABORTED, "the launch was cancelled")
    if status != "FAILED":
        where = handle.cluster_name or "a cluster of its own"
        return State(phases.INITIALIZING, f"being launched on {where}; sky api logs {handle.request_id[:8]} tells more")
    try:
        client.get(handle.request_id)
    except client.exceptions.ResourcesUnavailableError as error:
        return State(phases.RETRYABLE, f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - whatever the server failed with is the task's own message
        return State(phases.FAILED, f"{type(error).__name__}: {error}")
    return State(phases.FAILED, "the launch failed")


def _numbered(value: Any) -> int | None:
    if not isinstance(value, dict):
        return None
    ids = value.get("job_ids")
    found = ids[0] if ids else value.get("job_id")
    return None if found is None else int(found)


def _remember(request_id: str, number: int) -> None:
    with _lock:
        if len(_numbers) >= _MOST_REMEMBERED:
            _numbers.clear()
        _numbers[request_id] = number


def _managed(client: Any, number: int) -> State:
    records, *_ = client.get(client.jobs.queue_v2(job_ids=[number]))
    if not records:
        return State(phases.RETRYABLE, f"managed job {number} is not on record any more", number, lost=True)
    record = records[0]
    status = record["status"]
    message = record.get("failure_reason") or f"managed job {number} is {status.value}"
    return State(phases.of_managed(status), message, number)


def _on_cluster(client: Any, handle: Handle, number: int) -> State:
    cluster = handle.cluster_name
    try:
        status = client.get(client.job_status(cluster, [number])).get(number)
    except (client.exceptions.ClusterDoesNotExist, client.exceptions.ClusterNotUpError) as error:
        return State(phases.RETRYABLE, f"cluster {cluster} was lost before the task ended: {error}", number, lost=True)
    if status is None:
        return State(phases.RETRYABLE, f"cluster {cluster} does not know job {number} any more", number, lost=True)
    return State(phases.of_job(status), f"job {number} on {cluster} is {status.value}", number)


def _in_queue(client: Any, name: str, cluster: str) -> int | None:
    try:
        jobs: Iterable[Any] = client.get(client.queue(cluster))
    except (client.exceptions.ClusterDoesNotExist, client.exceptions.ClusterNotUpError):
        return None
    return next((int(job["job_id"]) for job in jobs if job["job_name"] == name and job["job_id"] is not None), None)


def _called_off(client: Any, handle: Handle) -> int | None:
    """Call a launch off; the number of its job if it had come so far.

    On a cluster that is up a launch is a matter of seconds, and one that is called off would leave its job running.
    """
    up = [
        each for each in client.get(client.status([handle.cluster_name])) if each["status"].value == "UP"
    ] if handle.cluster_name else []  # fmt: skip
    if up or handle.managed:
        pause = threading.Event()
        for _ in range(int(_LANDING_S / 0.1)):
            number, state = _number(client, handle)
            if number is not None or (state is not None and state.over):
                return number
            pause.wait(0.1)
    client.api_cancel([handle.request_id])
    found = find(handle.job_name, handle.cluster_name)
    return None if found is None else found.job_id

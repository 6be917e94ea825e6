"""One launch from its beginning to its end, in plain data: it passes from worker to triggerer and back.

Called by the operators (in a thread) and by the trigger (as coroutines). Knows the SDK and nothing of Airflow. What a
try began is named after it, so that another try finds it although nobody told it any number.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from airflow_sky.lines import Lines

#: Idle minutes after which a cluster of ours goes by itself, should nobody be left to take it down.
ORPHAN_MINUTES = 10
#: Seconds for which a server may be out of reach before a run is given up, and between looks.
PATIENCE_S = 1800.0
_PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
#: Exit codes of logs.
SUCCEEDED, NOT_FINISHED, CANCELLED = 0, 101, 103
_WORDS = {SUCCEEDED: "SUCCEEDED", 100: "FAILED", NOT_FINISHED: "LOST", 102: "LOST", CANCELLED: "CANCELLED"}
#: Errors that the same call would meet again, besides those of Python below.
_LASTING_NAMES = ("NotSupportedError", "InvalidClusterNameError", "UserRequestRejectedByPolicy", "BudgetExceededError")
_LASTING = (ValueError, TypeError, FileNotFoundError, PermissionError)

LAUNCH, EXEC, MANAGED = "launch", "exec", "managed"


@dataclass(frozen=True, slots=True)
class Work:
    """What a try began, or took over. `own`: its cluster is nobody else's, and goes at the end."""

    kind: str
    name: str
    cluster: str | None = None
    own: bool = False
    request_id: str = ""
    job_id: int | None = None
    #: An earlier try began it.
    taken_over: bool = False
    #: Only looked at: nothing of it is ended.
    foreign: bool = False

    @property
    def managed(self) -> bool:
        """Whether it is a managed job, which has a cluster of its own that nobody else looks after."""
        return self.kind == MANAGED

    def told(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_told(cls, told: Mapping[str, Any]) -> Work:
        """Back from plain data."""
        return cls(**{name: told[name] for name in cls.__slots__ if name in told})


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended. `error` is what kept the job from being run or followed: its class and its words."""

    work: Work
    exit_code: int | None = None
    status: str = "FAILED"
    reason: str = ""
    last_lines: list[str] = field(default_factory=list)
    error: str = ""
    error_text: str = ""
    lasting: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the job ended well."""
        return self.exit_code == SUCCEEDED

    @property
    def called_off(self) -> bool:
        """Whether somebody else ended it: then a try that only took it over begins anew."""
        return self.status == "CANCELLED" or self.error in ("RequestCancelled", "ClusterDoesNotExist")

    def told(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_told(cls, told: Mapping[str, Any]) -> Ended:
        """Back from plain data."""
        known = {name: told[name] for name in cls.__slots__ if name in told}
        return cls(**{**known, "work": Work.from_told(told["work"])})


# --- beginning -------------------------------------------------------------------------------------------------------


def submit(work: Work, tasks: Any, options: Mapping[str, Any]) -> Work:
    """Have it launched; returns as soon as the server has it on record."""
    import sky  # noqa: PLC0415 - DAG files are read where `sky` is never called

    if work.managed:
        request = sky.jobs.launch(tasks, work.name, **options)
        return replace(work, request_id=str(request))
    if getattr(tasks, "tasks", None) is not None or len(tasks) != 1:
        raise ValueError("This holds several tasks, and a cluster takes one; SkyManagedJobOperator runs pipelines.")
    task = tasks[0]
    if work.kind == EXEC:
        task.name = work.name
        return replace(work, request_id=str(sky.exec(task, work.cluster, **options)))
    if not work.own:
        task.name = work.name
    else:
        options = {"down": True, "idle_minutes_to_autostop": ORPHAN_MINUTES, **options}
    return replace(work, request_id=str(sky.launch(task, work.cluster, **options)))


def find(wanted: Sequence[Work]) -> Work | None:
    """What is left of the tries before, newest first: a run that goes on, or one that ended when nobody looked.

    What of an earlier try is of no more use, is ended.
    """
    for work in wanted:
        found = _find_managed(work) if work.managed else _find_own(work) if work.own else _find_job(work)
        if found is not None:
            return replace(found, taken_over=True)
    return None


def _find_own(work: Work) -> Work | None:
    """By its cluster, which bears the try's name; what runs there is ours."""
    import sky  # noqa: PLC0415 - loaded by now

    cluster = str(work.cluster)
    under_way = {each.name: str(each.request_id) for each in sky.api_status(cluster_name=cluster)}
    if "sky.down" in under_way:
        quietly(lambda: sky.get(under_way["sky.down"]))
        return None
    if "sky.launch" in under_way:
        return replace(work, request_id=under_way["sky.launch"])
    if not sky.get(sky.status([cluster])):
        return None
    jobs = quietly(lambda: sky.get(sky.queue(cluster))) or []
    if jobs and (not jobs[0].status.is_terminal() or jobs[0].status.value == "SUCCEEDED"):
        return replace(work, job_id=int(jobs[0].job_id))
    quietly(lambda: sky.get(sky.down(cluster)))
    return None


def _find_job(work: Work) -> Work | None:
    """By its name among the jobs of a cluster that others use as well."""
    import sky  # noqa: PLC0415 - loaded by now

    cluster = str(work.cluster)
    for each in sky.api_status(cluster_name=cluster):
        if each.name in ("sky.launch", "sky.exec"):
            # Which of them is ours is not told; a job that it brings is in the queue when it is over.
            quietly(partial(sky.get, each.request_id))
    for job in quietly(lambda: sky.get(sky.queue(cluster))) or []:
        if job.job_name == work.name and not job.status.is_terminal():
            return replace(work, job_id=int(job.job_id))
    return None


def _find_managed(work: Work) -> Work | None:
    import sky  # noqa: PLC0415 - loaded by now

    for each in sky.api_status():
        if each.name == "sky.jobs.launch" and f'"{work.name}"' in each.request_body:
            quietly(partial(sky.get, each.request_id))
    records, *_ = sky.get(sky.jobs.queue_v2(skip_finished=True, name_match=work.name))
    ours = [int(each.job_id) for each in records if each.job_name == work.name]
    return replace(work, job_id=max(ours)) if ours else None


# --- following -------------------------------------------------------------------------------------------------------


def follow(work: Work, lines: Lines, on_job: Callable[[Work], None], waiting: Callable[[float], bool]) -> Ended:
    """Tell what is said until the end. `waiting(seconds)` pauses, and says whether to go on; errors are an end too."""
    try:
        work = _patiently(lambda: _launched(work, lines), lines, waiting)
        on_job(work)
        if work.job_id is None:
            return Ended(work, SUCCEEDED, "SUCCEEDED")
        lines.begin()
        code = _patiently(lambda: _logs(work, lines), lines, waiting)
        lines.finish()
        return judged(work, code, lines)
    except Exception as failed:  # noqa: BLE001 - it travels as data, and is raised where the task is concluded
        return failure(work, failed, lines)


def _launched(work: Work, lines: Lines) -> Work:
    import sky  # noqa: PLC0415 - loaded by now

    if work.job_id is not None:
        return work
    ids, _ = sky.stream_and_get(work.request_id, output_stream=lines)
    return replace(work, job_id=None if ids is None else int(ids))


def _logs(work: Work, lines: Lines) -> int:
    import sky  # noqa: PLC0415 - loaded by now

    if work.managed:
        return int(sky.jobs.tail_logs(job_id=work.job_id, output_stream=lines))
    return int(sky.tail_logs(str(work.cluster), work.job_id, output_stream=lines))


class _Patience:
    """For how long a server may be out of reach: what it was told to do goes on without being watched."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._tries = 0

    def pause(self, failed: Exception, began: float) -> float:
        """Seconds until the next look. Raises what failed if that is no matter of waiting, or has lasted too long."""
        now = time.monotonic()
        if self._since is None or now - began > _PAUSES[-1] * 4:
            # It was followed for a while in between: this is another absence.
            self._since, self._tries = now, 0
        if not _out_of_reach(failed) or now - self._since > PATIENCE_S:
            raise failed
        self._tries += 1
        return _PAUSES[min(self._tries, len(_PAUSES)) - 1]


def _patiently(call: Callable[[], Any], lines: Lines, waiting: Callable[[float], bool]) -> Any:
    patience = _Patience()
    while True:
        began = time.monotonic()
        try:
            return call()
        except Exception as failed:
            if not waiting(patience.pause(failed, began)):
                raise
            lines.again()


async def afollow(work: Work, lines: Lines) -> Ended:
    """The same as a coroutine, which holds no thread while it waits. Being cancelled passes through."""
    try:
        work = await _apatiently(lambda: _alaunched(work, lines), lines)
        if work.job_id is None:
            return Ended(work, SUCCEEDED, "SUCCEEDED")
        lines.begin()
        code = await _apatiently(lambda: _alogs(work, lines), lines)
        lines.finish()
        return await asyncio.to_thread(judged, work, code, lines)
    except Exception as failed:  # noqa: BLE001 - it travels as data, and is raised where the task is concluded
        return failure(work, failed, lines)


async def _alaunched(work: Work, lines: Lines) -> Work:
    from sky.client import sdk_async  # noqa: PLC0415 - loaded by now

    if work.job_id is not None:
        return work
    ids, _ = await sdk_async.stream_and_get(work.request_id, output_stream=lines)
    return replace(work, job_id=None if ids is None else int(ids))


async def _alogs(work: Work, lines: Lines) -> int:
    from sky.client import sdk_async  # noqa: PLC0415 - loaded by now
    from sky.jobs.client import sdk_async as jobs_async  # noqa: PLC0415

    if work.managed:
        return int(await jobs_async.tail_logs(job_id=work.job_id, output_stream=lines))
    return int(await sdk_async.tail_logs(str(work.cluster), work.job_id, output_stream=lines))


async def _apatiently(call: Callable[[], Any], lines: Lines) -> Any:
    patience = _Patience()
    while True:
        began = time.monotonic()
        try:
            return await call()
        except Exception as failed:  # noqa: BLE001 - only one kind is waited out
            await asyncio.sleep(patience.pause(failed, began))
            lines.again()


def _out_of_reach(failed: Exception) -> bool:
    return type(failed).__name__ in ("ApiServerConnectionError", "ServerTemporarilyUnavailableError")


def judged(work: Work, code: int, lines: Lines) -> Ended:
    """How a job ended, by the exit code of its log and what the server says of it."""
    status, reason = _WORDS.get(code, "FAILED"), ""
    if code != SUCCEEDED:
        told = quietly(lambda: _told_of(work))
        status, reason = told if told is not None else (status, reason)
        if work.taken_over and work.own and quietly(lambda: _being_ended(work)):
            # Whoever ended the try before (a task that was cleared) was slower than this one was to find its cluster.
            status = "CANCELLED"
    return Ended(work, code, status, reason, lines.last)


def _being_ended(work: Work) -> bool:
    """Whether somebody has a cluster of ours taken down, or it is gone."""
    import sky  # noqa: PLC0415 - loaded by now

    cluster = str(work.cluster)
    under_way = [each.name for each in sky.api_status(cluster_name=cluster)]
    return "sky.down" in under_way or not sky.get(sky.status([cluster]))


def _told_of(work: Work) -> tuple[str, str] | None:
    import sky  # noqa: PLC0415 - loaded by now

    if work.managed:
        records, *_ = sky.get(sky.jobs.queue_v2(job_ids=[work.job_id]))
        ended = [each for each in records if each.status.is_terminal() and each.status.value != "SUCCEEDED"]
        return (str(ended[0].status.value), str(ended[0].get("failure_reason") or "")) if ended else None
    status = sky.get(sky.job_status(str(work.cluster), [int(work.job_id or 0)])).get(work.job_id)
    return (str(status.value), "") if status is not None and status.is_terminal() else None


def failure(work: Work, failed: BaseException, lines: Lines) -> Ended:
    """The end that an error makes."""
    lines.finish()
    notes = "\n".join(getattr(failed, "__notes__", ()))
    text = str(failed) or type(failed).__name__
    return Ended(
        work,
        last_lines=lines.last,
        error=type(failed).__name__,
        error_text=lines.scrubbed(f"{text}\n{notes}" if notes else text),
        lasting=is_lasting(failed),
    )


def is_lasting(failed: BaseException) -> bool:
    """Whether another try would meet the same: a mistake in the task, a refusal; not a want of machines."""
    name = type(failed).__name__
    if name == "ClusterDoesNotExist":
        return False
    return isinstance(failed, _LASTING) or name in _LASTING_NAMES


# --- ending ----------------------------------------------------------------------------------------------------------


def order_end(work: Work) -> None:
    """Tell the server to call it off, and do not wait for that. Harmless when it is over, or repeated."""
    import sky  # noqa: PLC0415 - loaded by now

    if work.foreign:
        return
    if work.request_id:
        quietly(lambda: sky.api_cancel([work.request_id], silent=True))
    if work.own:
        quietly(lambda: sky.down(str(work.cluster)))
        return
    found = work if work.job_id is not None else _job_of(work)
    if found is None:
        return
    if found.managed:
        quietly(lambda: sky.jobs.cancel(job_ids=[int(found.job_id or 0)]))
    else:
        quietly(lambda: sky.cancel(str(found.cluster), job_ids=[int(found.job_id or 0)]))


def _job_of(work: Work) -> Work | None:
    """A launch may have had its job on record before it could be called off: then it tells which."""
    import sky  # noqa: PLC0415 - loaded by now

    told = quietly(lambda: sky.get(work.request_id)) if work.request_id else None
    if told is not None:
        return None if told[0] is None else replace(work, job_id=int(told[0]))
    found: Work | None = quietly(lambda: _find_managed(work) if work.managed else _find_job(work))
    return found


def release(work: Work) -> None:
    """The run is over: its own cluster goes. Waits until it is gone, for only then its cost is final."""
    import sky  # noqa: PLC0415 - loaded by now

    if work.own and not work.foreign:
        with contextlib.suppress(_gone()):
            sky.get(sky.down(str(work.cluster)))


def order_release(work: Work) -> None:
    """The same without waiting."""
    import sky  # noqa: PLC0415 - loaded by now

    if work.own and not work.foreign:
        quietly(lambda: sky.down(str(work.cluster)))


def _gone() -> type[Exception]:
    import sky  # noqa: PLC0415 - loaded by now

    found: type[Exception] = sky.exceptions.ClusterDoesNotExist
    return found


def receipt(work: Work) -> tuple[str | None, float | None, str | None]:
    """Where it ran, what that has cost in USD, and on which cluster; None for what nobody knows.

    Of a cluster that others use as well, nobody knows what one job's part is.
    """
    import sky  # noqa: PLC0415 - loaded by now

    if work.managed:
        told = quietly(lambda: sky.jobs.receipt(work.job_id)) if work.job_id is not None else None
    else:
        told = quietly(lambda: sky.jobs.receipt(cluster=work.cluster))
    last = ((told.get("intervals") if told else None) or [{}])[-1]
    total = told.get("total") if told and (work.managed or work.own) else None
    cluster = last.get("cluster") if work.managed else work.cluster
    return last.get("place"), None if total is None else float(total), cluster


def quietly(call: Callable[[], Any]) -> Any:
    """What a call gives, None if it failed: of a clean-up the next step has to be made all the same."""
    try:
        return call()
    except Exception:  # noqa: BLE001 - what is not there, or failed already, needs no end
        return None

"""A task's whole life in one object: launched, followed, called off when asked, and nothing left behind.

What every orchestrator needs and each gets wrong in another place: the exit code counts, an exception anywhere ends
what was begun, and another thread may call it off at any moment. Used by the integrations, and by scripts.
"""

from __future__ import annotations

import threading
import time
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sky.core.errors import ApiServerConnectionError, JobError, JobExitCode, SkyError
from sky.kit.derived_ids import derived_id
from sky.kit.ids import short_token
from sky.sdk import clusters, managed_jobs, requests, schedules

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from sky.sdk.streams import Writer

T = TypeVar("T")

#: Idle minutes after which a cluster of ours goes by itself, should nobody be left to take it down.
ORPHAN_MINUTES = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `exit_code` is that of `sky logs`: 0, 100 (failed), 103 (cancelled) …

    `cost` is in USD, None where it is not known. `seconds` are those from the launch to the end.
    """

    exit_code: int
    status: str
    cluster_name: str | None
    job_id: int | None
    request_id: str
    infra: str | None
    cost: float | None
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether the job ended well."""
        return self.exit_code == JobExitCode.SUCCEEDED


class Run:
    """One run of a task: on a cluster of its own, which is gone at the end; on `cluster_name`; or as a managed job.

    exec: on `cluster_name` as it is, without making it ready or setting it up; it must be up. keep: leave the cluster;
    by default one that is named stays and any other goes. request_id: an id of the caller's own; a run that is made
    again with the same id and the same words takes up the one that is there. options: further arguments of `sky.launch`
    (of `sky.exec`, `sky.jobs.launch`). As a context manager, leaving it by an exception calls the run off.
    All methods may be called from several threads; each talks to the server that was chosen where the run was made.
    """

    def __init__(
        self,
        task: Any,
        *,
        cluster_name: str | None = None,
        name: str | None = None,
        managed: bool = False,
        exec: bool = False,
        keep: bool | None = None,
        request_id: str | None = None,
        **options: Any,
    ) -> None:
        if exec and (managed or cluster_name is None):
            raise ValueError("exec runs on a cluster that is there: give its cluster_name, and not managed")
        if managed and cluster_name is not None:
            raise ValueError("a managed job has a cluster of its own: give a name, not a cluster_name")
        self.managed, self.exec = managed, exec
        # Whoever comes again with the same id has to name the same cluster.
        mark = short_token(8) if request_id is None else derived_id("", request_id)[-8:]
        self.cluster_name = None if managed else cluster_name or f"{name or 'run'}-{mark}"
        self.keep = keep if keep is not None else cluster_name is not None
        self.request_id = ""
        self.job_id: int | None = None
        self._task, self._name, self._options = task, name, {**options, "request_id": request_id}
        self._began = time.monotonic()
        self._context = copy_context()
        self._called_off = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> str:
        """Have it launched; the request's id. Returns as soon as the server has it on record."""
        with self._lock:
            if not self.request_id:
                self._began = time.monotonic()
                self.request_id = str(self._here(self._submit))
        if self._called_off.is_set():
            self._call_off()
        return self.request_id

    def follow(self, output_stream: Writer | None = None, *, on_job: Callable[[int], None] | None = None) -> Outcome:
        """Wait for the end, and write what is said meanwhile. on_job: told the job's number once there is one.

        A job that failed is an outcome. Raises what its launch failed with; then, as after any other exception here,
        what was begun is called off before it is raised.
        """
        try:
            self.start()
            code = self._here(lambda: self._followed(output_stream, on_job))
        except BaseException:
            self.cancel()
            raise
        receipt = self._here(self._receipt)
        self.tidy()
        return self._outcome(code, receipt)

    def cancel(self) -> None:
        """Call it off: launch, job, and the cluster unless it is kept. Harmless when it is over, or repeated."""
        self._called_off.set()
        # Before the request is on record there is nothing to call off; `start` looks at the mark once there is.
        if self.request_id:
            self._call_off()

    def tidy(self) -> None:
        """Take the cluster down, unless it is kept. Harmless when it is gone."""
        if not self.keep and self.cluster_name is not None:
            self._quietly(lambda: requests.get(clusters.down(str(self.cluster_name))))

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.cancel()

    # --- parts ---------------------------------------------------------------------------------------------------

    def _here(self, call: Callable[[], T]) -> T:
        """Call with the server, the configuration and the trace of where the run was made."""
        return self._context.copy().run(call)

    def _submit(self) -> str:
        if self.managed:
            return managed_jobs.launch(self._task, self._name, **self._options)
        if self.exec:
            return clusters.exec(self._task, self.cluster_name, **self._options)
        options = dict(self._options)
        if not self.keep:
            # Should nobody be left to take it down, its own nodes do.
            options.setdefault("down", True)
            options.setdefault("idle_minutes_to_autostop", ORPHAN_MINUTES)
        return clusters.launch(self._task, self.cluster_name, **options)

    def _followed(self, stream: Writer | None, on_job: Callable[[int], None] | None) -> int:
        ids, _ = requests.stream_and_get(self.request_id, output_stream=stream)
        self.job_id = _number(ids)
        if self._called_off.is_set():
            self._call_off()
        if self.job_id is None:
            return int(JobExitCode.SUCCEEDED)
        if on_job is not None:
            on_job(self.job_id)
        if self.managed:
            return int(managed_jobs.tail_logs(job_id=self.job_id, output_stream=stream))  # type: ignore[arg-type]
        return int(clusters.tail_logs(str(self.cluster_name), self.job_id, output_stream=stream))

    def _call_off(self) -> None:
        self._quietly(lambda: requests.api_cancel(self.request_id))
        if self.cluster_name is not None and not self.keep:
            self.tidy()
        else:
            self._quietly(self._cancel_job)

    def _cancel_job(self) -> None:
        """The request may have had its job on record before it could be called off: then it tells which."""
        if self.job_id is None:
            self.job_id = _number(requests.get(self.request_id)[0])
        if self.job_id is None:
            return
        if self.managed:
            requests.get(managed_jobs.cancel(job_ids=[self.job_id]))
        else:
            requests.get(clusters.cancel(str(self.cluster_name), job_ids=[self.job_id]))

    def _quietly(self, call: Callable[[], object]) -> None:
        """What is not there, or failed already, needs no end; a server out of reach is another matter."""
        try:
            self._here(call)
        except ApiServerConnectionError:
            raise
        except (SkyError, ValueError):
            return

    def _receipt(self) -> Any:
        """What it has cost until now; None if nobody knows."""
        try:
            if self.managed:
                return schedules.receipt(self.job_id)
            return schedules.receipt(cluster=self.cluster_name)
        except (SkyError, ValueError):
            return None

    def _outcome(self, code: int, receipt: Any) -> Outcome:
        intervals = receipt.get("intervals") if receipt is not None else None
        return Outcome(
            exit_code=code,
            status=JobExitCode(code).name,
            cluster_name=intervals[-1]["cluster"] if self.managed and intervals else self.cluster_name,
            job_id=self.job_id,
            request_id=self.request_id,
            infra=intervals[-1]["place"] if intervals else None,
            cost=receipt.get("total") if receipt is not None else None,
            seconds=time.monotonic() - self._began,
        )


def _number(ids: Any) -> int | None:
    return None if ids is None else int(ids)


def run(task: Any, *, output_stream: Writer | None = None, check: bool = True, **options: Any) -> Outcome:
    """Run a task to its end and leave nothing behind; see `Run` for the options.

    Raises JobError when the job did not succeed, unless `check` is false; what its launch failed with, in any case.
    """
    made = Run(task, **options)
    outcome = made.follow(output_stream)
    if check and not outcome.succeeded:
        where = f"sky jobs logs {outcome.job_id}" if made.managed else f"sky logs {outcome.cluster_name}"
        hint = f"; its log: {where}" if made.managed or made.keep else ""
        raise JobError(f"Job {outcome.job_id} of {outcome.cluster_name} ended as {outcome.status}{hint}")
    return outcome

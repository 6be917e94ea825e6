"""One task from its launch to its end, and the cluster gone whatever happens in between. Knows nothing of Prefect.

Called by the tasks. A thread of its own makes the calls that block; whoever called only waits, in short steps, so that
an interruption (Ctrl-C, a signal, a cancelled run) is noticed at once and never in the middle of a call.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sky

#: Told what the run says, whole lines joined.
Say = Callable[[str], None]
#: Raises when the run is to end; asked several times a second.
Check = Callable[[], None]

#: Lines of the log that an error repeats, and characters of each.
LAST_LINES = 20
_LINE_CHARS = 500
#: Seconds between looks at whether the run is to end; lines that come meanwhile are told together.
STEP_S = 0.2
#: Lines and characters told together at most.
_MOST_LINES = 500
_MOST_CHARS = 100_000
#: Seconds that an interrupted run waits for its cluster to be gone. The server goes on with it in any case.
INTERRUPTED_S = 20.0
#: The same for a run that has ended.
ENDED_S = 1800.0
#: Interruptions of a clean-up after which nobody waits for it any more.
_MOST_INTERRUPTIONS = 3
#: Among the pieces: what follows is said by the job itself.
_JOB = object()
#: Seconds for which a call that is under way may go on when the run is interrupted.
_CALL_S = 30.0


class SkyTaskError(RuntimeError):
    """A job that did not succeed. `cluster`, `job_id`, `status`, `last_lines` say which, how and what it said last."""

    def __init__(self, message: str, cluster: str = "", job_id: int | None = None, status: str = "FAILED") -> None:
        super().__init__(message)
        self.cluster = cluster
        self.job_id = job_id
        self.status = status
        self.last_lines: list[str] = []


@dataclass(slots=True)
class Outcome:
    """What became of a run: seconds until it ran and until it had ended, dollars (None: not known)."""

    cluster: str
    job_id: int | None = None
    status: str = "CANCELLED"
    infra: str = ""
    resources: str = ""
    launch_s: float = 0.0
    run_s: float = 0.0
    cost: float | None = None
    gone: bool = False
    last_lines: list[str] = field(default_factory=list)


def run_to_completion(task: sky.Task, cluster: str, *, say: Say, check: Check, keep: bool = False) -> Outcome:
    """Launch, follow the log, and take the cluster down (unless `keep`), however it ends.

    Raises SkyTaskError, with the outcome as its `outcome`, for a job that did not succeed; what the launch failed with;
    what `check` raises, and KeyboardInterrupt, after the clean-up was handed to the server.
    """
    run = _Run(task, cluster, keep)
    try:
        run.start()
        run.wait(say, check)
        run.release(say, ENDED_S, check)
    except BaseException as ended:  # noqa: BLE001 - raised again below
        # A second Ctrl-C may come before the first line of the clean-up has run: what it breaks off is gone on with.
        # No call stands before the `try`, for interruptions are raised where one begins or ends.
        raised, interrupted = ended, 0
        while interrupted < _MOST_INTERRUPTIONS:
            try:
                run.release(say, _patience(ended) if not interrupted else 0.0)
                break
            except Exception:
                raise
            except BaseException as again:  # noqa: BLE001 - whatever the signal is turned into; raised below
                # A run that failed was not interrupted until now.
                raised, interrupted = again if isinstance(raised, Exception) else raised, interrupted + 1
        raised.outcome = run.outcome  # type: ignore[attr-defined]
        raise raised  # noqa: B904 - the one that was caught, or what came upon it, which has it as its context
    if run.outcome.status != "SUCCEEDED":
        failed = _failed(run.outcome, keep)
        failed.outcome = run.outcome  # type: ignore[attr-defined]
        raise failed
    return run.outcome


def _patience(ended: BaseException) -> float:
    return ENDED_S if isinstance(ended, Exception) else INTERRUPTED_S


def _failed(outcome: Outcome, keep: bool) -> SkyTaskError:
    last = "\n".join(f"  {line}" for line in outcome.last_lines)
    look = f"`sky logs {outcome.cluster} {outcome.job_id}`" if keep else "Give down_on_completion=False to look at it"
    message = (
        f"Job {outcome.job_id} on cluster '{outcome.cluster}' ended {outcome.status}. {look}. Its last lines:\n{last}"
        if last
        else f"Job {outcome.job_id} on cluster '{outcome.cluster}' ended {outcome.status} and said nothing. {look}."
    )
    failed = SkyTaskError(message, outcome.cluster, outcome.job_id, outcome.status)
    failed.last_lines = list(outcome.last_lines)
    return failed


class _Run:
    """A launch under way; `outcome` grows with it."""

    def __init__(self, task: sky.Task, cluster: str, keep: bool) -> None:
        self.outcome = Outcome(cluster)
        self._task = task
        self._keep = keep
        self._pieces: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._request: str | None = None
        self._launched = False
        self._interrupted = threading.Event()
        self._error: Exception | None = None
        self._order: Any = None
        self._given: threading.Thread | None = None
        self._waits: threading.Thread | None = None
        # The server that was chosen for this run is the context's; threads begin with an empty one.
        self._context = contextvars.copy_context()
        self._thread = threading.Thread(target=self._context.run, args=(self._act,), name=f"sky {cluster}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # --- the thread that makes the calls -----------------------------------------------------------------------------

    def _act(self) -> None:
        try:
            self._launch_and_follow()
        except Exception as failed:  # noqa: BLE001 - raised again where the run is waited for
            self._error = failed
        finally:
            self._pieces.put(None)

    def _launch_and_follow(self) -> None:
        import sky  # noqa: PLC0415 - flows are read where `sky` is never called

        outcome, began = self.outcome, time.monotonic()
        self._request = sky.launch(self._task, cluster_name=outcome.cluster, down=not self._keep)
        if self._interrupted.is_set():
            return
        outcome.job_id, handle = sky.stream_and_get(self._request, output_stream=self)
        self._launched = True
        outcome.launch_s = time.monotonic() - began
        if handle is not None:
            outcome.infra, outcome.resources = _place_of(handle)
        if outcome.job_id is None:
            # There was nothing to run: the cluster came up, and that was all.
            outcome.status = "SUCCEEDED"
            return
        self._pieces.put(_JOB)
        code = sky.tail_logs(outcome.cluster, outcome.job_id, follow=True, output_stream=self)
        outcome.run_s = time.monotonic() - began - outcome.launch_s
        outcome.status = _word_of(outcome.cluster, outcome.job_id, code)

    def write(self, text: str) -> None:
        """As a stream, for the SDK."""
        self._pieces.put(text)

    def flush(self) -> None:
        """As a stream, for the SDK."""

    # --- the thread that waits ---------------------------------------------------------------------------------------

    def wait(self, say: Say, check: Check) -> None:
        """Tell what is said until the thread has ended. Raises what it ended with, and what `check` raises."""
        rest, over = "", False
        while not over:
            check()
            text, over = self._taken()
            *lines, rest = (rest + text).split("\n")
            if over and rest:
                lines.append(rest)
            self._tell(lines, say)
        self.outcome.last_lines = list(self._last)
        if self._error is not None:
            raise self._error

    def _taken(self) -> tuple[str, bool]:
        """What came within a step, and whether that was all."""
        taken: list[str] = []
        until, size = time.monotonic() + STEP_S, 0
        while (left := until - time.monotonic()) > 0 and size < _MOST_CHARS:
            try:
                piece = self._pieces.get(timeout=left)
            except queue.Empty:
                break
            if piece is None:
                return "".join(taken), True
            if piece is _JOB:
                self._last.clear()
                continue
            taken.append(str(piece))
            size += len(taken[-1])
        return "".join(taken), False

    def _tell(self, lines: list[str], say: Say) -> None:
        # Of a bar that draws itself anew on its line, only how it looked last is worth keeping.
        shown = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
        shown = [line for line in shown if line.strip()]
        self._last.extend(line[:_LINE_CHARS] for line in shown)
        for at in range(0, len(shown), _MOST_LINES):
            say("\n".join(shown[at : at + _MOST_LINES]))

    # --- afterwards --------------------------------------------------------------------------------------------------

    def release(self, say: Say, patience: float, check: Check | None = None) -> None:
        """Call off what is under way and have the cluster go; kept clusters stay, if they ever came up.

        Waits `patience` seconds for that, or until `check` raises. To be called again if it was interrupted.
        The orders are given by a thread that a second interruption does not end, and that the interpreter waits for.
        Whether they are carried out is then the server's: it takes the cluster down even if this process is killed.
        """
        self._interrupted.set()
        if self._given is None:
            given = threading.Thread(target=self._copy().run, args=(self._give_orders,), name="sky clean-up")
            given.start()
            # Noted last: interrupted before, the orders are given twice, and the second time there is nothing to do.
            self._given = given
        self._given.join()
        if self._order is not None:
            if self._waits is None:
                waits = threading.Thread(target=self._copy().run, args=(self._see_it_gone,), daemon=True)
                waits.start()
                self._waits = waits
            until = time.monotonic() + patience
            while self._waits.is_alive() and time.monotonic() < until:
                self._waits.join(STEP_S)
                if check is not None:
                    check()
        if not self.outcome.gone and not (self._keep and self._launched):
            say(f"Cluster '{self.outcome.cluster}' may still be there: see `sky status`, `sky down`.")

    def _copy(self) -> contextvars.Context:
        return self._context.copy()

    def _give_orders(self) -> None:
        import sky  # noqa: PLC0415 - loaded by now

        cluster = self.outcome.cluster
        if not self._launched:
            self._call_off()
        if self._keep and self._launched:
            if self.outcome.status == "CANCELLED" and self.outcome.job_id is not None:
                _quietly(lambda: sky.cancel(cluster, job_ids=[self.outcome.job_id]))
            return
        self._order = _quietly(lambda: sky.down(cluster))

    def _call_off(self) -> None:
        """End a launch whose cluster is not there yet. What comes back with an error has ended."""
        import sky  # noqa: PLC0415 - loaded by now

        # The call that hands the launch over may be under way. It ends soon, or has brought nothing there.
        until = time.monotonic() + _CALL_S
        while self._request is None and self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(0.05)
        requests = [self._request] if self._request is not None else self._unknown()
        for request in requests:
            _quietly(partial(sky.api_cancel, [request], silent=True))
            _quietly(partial(sky.get, request))

    def _unknown(self) -> list[str]:
        """Launches of this cluster that the server may have taken although their answer never came."""
        import sky  # noqa: PLC0415 - loaded by now

        found = _quietly(lambda: sky.api_status(cluster_name=self.outcome.cluster))
        return [str(each.request_id) for each in found or ()]

    def _see_it_gone(self) -> None:
        import sky  # noqa: PLC0415 - loaded by now

        try:
            sky.get(self._order)
            self.outcome.gone = True
        except ValueError as unknown:
            # It is gone already: it ends itself after its last job, and a launch that is called off leaves none.
            self.outcome.gone = type(unknown).__name__ == "ClusterDoesNotExist"
        except Exception:  # noqa: BLE001 - said by the caller: the cluster may still be there
            return
        self.outcome.cost = _cost_of(self.outcome.cluster)


def _quietly(call: Callable[[], Any]) -> Any:
    """What a call of the clean-up gives, None if it failed: the next one has to be made all the same."""
    try:
        return call()
    except Exception:  # noqa: BLE001 - nothing of the clean-up may keep the rest from being done
        return None


def _place_of(handle: Any) -> tuple[str, str]:
    """Where a cluster is, and what it is, in the words of `sky status`."""
    import sky  # noqa: PLC0415 - loaded by now

    found = _quietly(lambda: sky.get(sky.status([handle.cluster_name])))
    if not found:
        return str(getattr(handle, "cloud", "") or ""), ""
    record = found[0]
    return str(record.get("infra") or record.get("cloud") or ""), str(record.get("resources_str") or "")


def _word_of(cluster: str, job_id: int, code: int) -> str:
    """How a job ended: SUCCEEDED, or the status behind the exit code where it can still be asked for."""
    import sky  # noqa: PLC0415 - loaded by now

    if code == 0:
        return "SUCCEEDED"
    told = _quietly(lambda: sky.get(sky.job_status(cluster, [job_id]))) or {}
    status = told.get(job_id)
    if status is not None and status.is_terminal():
        return str(status.value)
    return {100: "FAILED", 103: "CANCELLED"}.get(code, "LOST")


def _cost_of(cluster: str) -> float | None:
    import sky  # noqa: PLC0415 - loaded by now

    receipt = _quietly(lambda: sky.jobs.receipt(cluster=cluster))
    total = receipt.get("total") if receipt else None
    return float(total) if isinstance(total, int | float) else None

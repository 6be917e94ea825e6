"""One run of a task under a step of Dagster: followed to its end, called off with the step.

Called by the resource and the Pipes client. A thread of its own makes the calls that block, and the step's thread only
waits: so an interruption arrives at once and never in the middle of a call, when nobody knows what the server has
already taken on.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dagster import DagsterExecutionInterruptedError, Failure, MetadataValue

if TYPE_CHECKING:
    import sky
    from dagster import AssetExecutionContext, OpExecutionContext

    from dagster_sky.messages import LogLines

_ENV_TOKEN = "SKYPILOT_SERVICE_ACCOUNT_TOKEN"  # noqa: S105 - the name of a variable
#: Seconds between looks at whether the run has ended; signals are noticed meanwhile.
_STEP_S = 0.2
#: Seconds that an interrupted step waits for its cluster to be gone; Dagster kills a step that stays longer. The server
#: goes on with it in any case.
_INTERRUPTED_S = 20.0
#: Interruptions that a clean-up outlasts.
_MOST_INTERRUPTIONS = 5
#: Pieces of the log that wait for the step's thread at most.
_MOST_PIECES = 1000
#: Errors of the SDK that no repetition mends, by name: the classes are not loaded before something runs.
_FINAL = frozenset({
    "InvalidSkyPilotConfigError", "NotSupportedError", "ResourcesMismatchError", "PermissionDeniedError",
    "ApiServerAuthenticationError", "InvalidClusterNameError", "BudgetExceededError", "StorageSpecError",
    "UserRequestRejectedByPolicy", "NoCloudAccessError",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class SkyResult:
    """How a run ended: see `sky.Outcome`. `cost` in USD, None where it is not known; `seconds` from the launch on."""

    status: str
    exit_code: int
    cluster_name: str | None
    job_id: int | None
    request_id: str
    infra: str | None
    cost: float | None
    seconds: float

    @property
    def metadata(self) -> dict[str, MetadataValue[Any]]:
        """For a materialization or an output; what is not known is left out."""
        names = {"cluster_name": "cluster", "cost": "cost_usd"}
        found = {names.get(name, name): value for name, value in asdict(self).items() if name != "exit_code"}
        return {f"sky/{name}": _shown(value) for name, value in found.items() if value is not None}


def _shown(value: str | float) -> MetadataValue[Any]:
    if isinstance(value, str):
        return MetadataValue.text(value)
    return MetadataValue.int(value) if isinstance(value, int) else MetadataValue.float(value)


@contextmanager
def serving(endpoint: str | None, token: str | None) -> Iterator[None]:
    """Send the calls of this block, in this thread, to that server; without an endpoint, where the SDK sends them."""
    if endpoint is None:
        if token is not None:
            raise ValueError("A token without an endpoint: say which API server it is for.")
        yield
        return
    import sky  # noqa: PLC0415 - definitions are loaded where nothing runs

    with sky.using_endpoint(endpoint, token or os.environ.get(_ENV_TOKEN)):
        yield


@contextmanager
def telling() -> Iterator[None]:
    """Errors of the SDK that no repetition mends end the step for good, whatever its retry policy."""
    try:
        yield
    except Exception as failed:
        if type(failed).__name__ in _FINAL:
            raise Failure(f"{type(failed).__name__}: {failed}", allow_retries=False) from failed
        raise


def complete(
    context: OpExecutionContext | AssetExecutionContext, run: sky.Run, lines: LogLines, check: bool = True
) -> SkyResult:
    """Follow a run to its end. Raises Failure, with metadata, for a job that did not succeed (unless `check` is false).

    What the launch failed with is raised as it is; whatever is raised, the run has been called off before.
    """
    thread = _Following(context, run, lines)
    thread.start()
    try:
        thread.wait()
    except BaseException:
        _insist(thread.call_off)
        raise
    finally:
        lines.close()
    result = _result(thread.outcome())
    if check and result.exit_code != 0:
        raise _failure(result, run, lines)
    return result


def _insist(call: Callable[[], None]) -> None:
    """Dagster may interrupt a step twice within a second: what one breaks off is gone on with."""
    for _ in range(_MOST_INTERRUPTIONS):
        try:
            return call()
        except (KeyboardInterrupt, DagsterExecutionInterruptedError):
            continue
    return None


class _Following(threading.Thread):
    """The thread that makes the calls of one run. What is said goes to the step's own thread, which Dagster expects."""

    def __init__(self, context: OpExecutionContext | AssetExecutionContext, run: sky.Run, lines: LogLines) -> None:
        # Not waited for by an interpreter that ends: once called off, what is left is the server's to do.
        super().__init__(name="sky run", daemon=True)
        self._context, self._run, self._lines = context, run, lines
        # Bounded: a step that is slow to take its lines slows the reading of the log, and no memory fills up.
        self._pieces: queue.Queue[str | int] = queue.Queue(_MOST_PIECES)
        self._off = threading.Event()
        self._until = 0.0
        self._clean_up: threading.Thread | None = None
        self._outcome: sky.Outcome | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._outcome = self._run.follow(self, on_job=self._put)
        except BaseException as failed:  # noqa: BLE001 - raised again where the run is waited for
            self._error = failed

    def write(self, text: str) -> None:
        """As a stream, for the SDK."""
        self._put(text)

    def flush(self) -> None:
        """As a stream, for the SDK."""

    def _put(self, piece: str | int) -> None:
        while not self._off.is_set():
            try:
                self._pieces.put(piece, timeout=_STEP_S)
            except queue.Full:
                continue
            return

    def wait(self) -> None:
        """Pass on what is said until the run has ended."""
        while True:
            # Asked before the look: what was said before the end is there then.
            alive = self.is_alive()
            try:
                piece = self._pieces.get(timeout=_STEP_S if alive else 0.001)
            except queue.Empty:
                if not alive:
                    return
                continue
            if isinstance(piece, str):
                self._lines.write(piece)
            else:
                where = "as a managed job" if self._run.managed else f"on cluster {self._run.cluster_name}"
                self._context.log.info(f"Sky job {piece} {where}, request {self._run.request_id}.")

    def outcome(self) -> sky.Outcome:
        if self._error is not None:
            raise self._error
        assert self._outcome is not None  # the thread has ended with one of the two
        return self._outcome

    def call_off(self) -> None:
        """Have it ended, by a thread that a second interruption does not end and that the interpreter waits for."""
        if not self._off.is_set():
            self._until = time.monotonic() + _INTERRUPTED_S
            self._off.set()
            self._context.log.info("Interrupted: the Sky job is called off.")
        if self._clean_up is None:
            # Should the launch be under way, the thread that follows sees afterwards that it is called off.
            clean_up = threading.Thread(target=self._cancel, name="sky clean-up")
            clean_up.start()
            self._clean_up = clean_up
        self._clean_up.join(max(0.0, self._until - time.monotonic()))
        self.join(max(0.0, self._until - time.monotonic()))

    def _cancel(self) -> None:
        try:
            self._run.cancel()
        except Exception as failed:  # noqa: BLE001 - what interrupted the step is raised, and this is told
            self._context.log.warning(f"The Sky job could not be called off: {failed}. See `sky status`.")


def _result(outcome: sky.Outcome) -> SkyResult:
    return SkyResult(
        outcome.status, outcome.exit_code, outcome.cluster_name, outcome.job_id, outcome.request_id, outcome.infra,
        outcome.cost, round(outcome.seconds, 3),
    )  # fmt: skip


def _failure(result: SkyResult, run: sky.Run, lines: LogLines) -> Failure:
    last = "\n".join(f"  {line}" for line in lines.last)
    if run.managed:
        look = f" Its log: `sky jobs logs {result.job_id}`."
    else:
        look = f" Its log: `sky logs {result.cluster_name} {result.job_id}`." if run.keep else ""
    return Failure(
        f"Sky job {result.job_id} on {result.cluster_name} ended {result.status}.{look} Its last lines:\n{last}",
        metadata={**result.metadata, "sky/last_lines": MetadataValue.text("\n".join(lines.last))},
    )

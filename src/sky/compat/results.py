"""`sky.core` of other versions: functions named as those of the SDK, which return results instead of request ids."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from sky.core.errors import not_supported
from sky.sdk import clusters
from sky.sdk.requests import get


def _finished(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def run(*args: Any, **kwargs: Any) -> Any:
        return get(call(*args, **kwargs))

    return run


status = _finished(clusters.status)
start = _finished(clusters.start)
stop = _finished(clusters.stop)
down = _finished(clusters.down)
autostop = _finished(clusters.autostop)
queue = _finished(clusters.queue)
cancel = _finished(clusters.cancel)
job_status = _finished(clusters.job_status)
cost_report = _finished(clusters.cost_report)
endpoints = _finished(clusters.endpoints)
launch = _finished(clusters.launch)
exec = _finished(clusters.exec)
# These return their value themselves in the SDK, too.
tail_logs = clusters.tail_logs
download_logs = clusters.download_logs


class Optimizer:
    """`sky.optimizer.Optimizer`, whose one method is a call of the SDK here."""

    @staticmethod
    def optimize(*_args: Any, **_kwargs: Any) -> Any:
        """Raise NotSupportedError: plans are made by the server."""
        raise not_supported(
            "Optimizer.optimize()", "the client", instead="sky.optimize(dag) asks the server for a plan."
        )

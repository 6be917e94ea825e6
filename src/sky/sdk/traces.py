"""The client's part of a trace: which span a call belongs to, and spans of its own where an endpoint is named.

A program that uses OpenTelemetry itself has its own spans: calls are made within the one that is open there, and
nothing more is recorded here. Called by `sdk.transport` for every call, and by the command line around a command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager

from sky.kit.tracing import CURRENT, ENV_PARENT, TRACING, Span, span, traceparent_of

#: Seconds that a command waits at its end for its spans to be taken.
_PATIENCE_S = 1.0


def call_span(method: str, target: str) -> AbstractContextManager[Span | None]:
    """A span around one call to the server."""
    path = target.partition("?")[0]
    # What stands below is an id or a hash: names of spans are few.
    if path.startswith("/api/uploads/"):
        path = "/api/uploads"
    return span(f"{method} {path}", parent=_above() or None, kind="client", root=True)


def command_span(words: str) -> AbstractContextManager[Span | None]:
    """A span around a whole command, recorded if the environment names who takes it. Raises ValueError."""
    if TRACING.recorder is None:
        import logging  # noqa: PLC0415 - as below

        from sky.wire import telemetry  # noqa: PLC0415 - for those alone who want traces

        TRACING.recorder = telemetry.recorder("sky", os.environ, {}, patience=_PATIENCE_S)
        # That nobody takes spans is no news to who typed the command.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return span(words, parent=traceparent_of(os.environ.get(ENV_PARENT)), root=True)


def headers() -> Mapping[str, str]:
    """The header that says within which span a call is made; none where it is within none."""
    above = CURRENT.get() or _above()
    return {"traceparent": above} if above else {}


def _above() -> str:
    """The span of the program around us: its own library's, or that of who started this process."""
    if CURRENT.get():
        return CURRENT.get()
    library = sys.modules.get("opentelemetry.trace")
    if library is not None:
        own = library.get_current_span().get_span_context()
        if own.is_valid:
            return f"00-{own.trace_id:032x}-{own.span_id:016x}-{int(own.trace_flags):02x}"
    return traceparent_of(os.environ.get(ENV_PARENT))

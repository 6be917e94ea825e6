"""Where the time of a call goes: spans, told to whoever records them. Without a recorder nothing is measured at all.

A span is known by its *traceparent*, the text that W3C Trace Context gives it; it travels in a header of that name, in
the record of a request and in the specification of a job, so that one trace goes from the client to the process on the
node. `wire.telemetry` has the recorder; clients, the server and the engine open spans.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

#: The header of a call, and the variable of a process that was started within a trace.
HEADER, ENV_PARENT = "traceparent", "TRACEPARENT"
_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
#: Rows that somebody is known to wait for, at most.
_MOST_AWAITED = 10_000

Value = str | int | float | bool


class Span(Protocol):
    """Something that is under way."""

    @property
    def traceparent(self) -> str: ...

    def name(self, name: str) -> None:
        """Call it otherwise, as more is known."""
        ...

    def note(self, **attributes: Value) -> None:
        """Say more of it. Never anything that a user said to a task: spans leave the server."""
        ...

    def end(self, error: BaseException | None = None) -> None: ...


class Recorder(Protocol):
    """Who takes spans down."""

    def begin(self, name: str, parent: str, kind: str, attributes: Mapping[str, Value]) -> Span: ...

    def ended(
        self, name: str, parent: str, begun: float, end: float, attributes: Mapping[str, Value], *, failed: bool
    ) -> None:
        """A span that was measured elsewhere; times in seconds since the epoch."""
        ...

    def close(self) -> None: ...


class Tracing:
    """This process's recorder, if it has one."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None
        #: By row, the span of who has asked something of it and waits.
        self._awaited: dict[str, str] = {}

    @property
    def on(self) -> bool:
        """Whether anybody listens."""
        return self.recorder is not None

    def hand_over(self, id: str) -> None:
        """What is done next about the row `id` belongs to the span that is open here."""
        parent = CURRENT.get()
        if self.recorder is not None and parent:
            if len(self._awaited) >= _MOST_AWAITED:
                self._awaited.clear()
            self._awaited[id] = parent

    def awaited(self, id: str) -> str:
        """The span that the row was handed over by; empty if by none."""
        return self._awaited.get(id, "")

    def at_rest(self, id: str) -> None:
        """What comes of the row from now on, nobody waits for."""
        self._awaited.pop(id, None)


TRACING = Tracing()
#: The traceparent of the span that is open here; empty where there is none.
CURRENT: ContextVar[str] = ContextVar("sky_traceparent", default="")
_NOTHING: AbstractContextManager[None] = nullcontext()


def traceparent_of(text: object) -> str:
    """The text if it is a traceparent, else an empty one: what comes from outside may be anything."""
    return text if isinstance(text, str) and _FORM.fullmatch(text) else ""


def span(
    name: str, *, parent: str | None = None, kind: str = "internal", root: bool = False, **attributes: Value
) -> AbstractContextManager[Span | None]:
    """A span for the time of a block, within `parent` (by default the one that is open here).

    Without a parent nothing is recorded, unless it may be the `root` of a trace. `kind` is internal, server or client.
    """
    recorder = TRACING.recorder
    if recorder is None:
        return _NOTHING
    above = CURRENT.get() if parent is None else parent
    if not above and not root:
        return _NOTHING
    return _open(recorder, name, above, kind, attributes)


@contextmanager
def _open(
    recorder: Recorder, name: str, parent: str, kind: str, attributes: Mapping[str, Value]
) -> Iterator[Span | None]:
    made = recorder.begin(name, parent, kind, attributes)
    mark = CURRENT.set(made.traceparent)
    try:
        yield made
    except BaseException as failed:
        made.end(failed)
        raise
    else:
        made.end()
    finally:
        CURRENT.reset(mark)

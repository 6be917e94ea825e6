"""Which request a piece of work is for: set where the work begins, read by whoever writes a log line about it."""

from contextvars import ContextVar

#: The request's id; empty for work that is nobody's.
REQUEST: ContextVar[str] = ContextVar("sky_request", default="")

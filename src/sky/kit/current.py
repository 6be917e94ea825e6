"""Which request a piece of work is for, and whether somebody waits for its answer: set where the work begins.

Read by whoever writes a log line about it, and by the store, which keeps a way free for those who wait.
"""

from contextvars import ContextVar

#: The request's id; empty for work that is nobody's.
REQUEST: ContextVar[str] = ContextVar("sky_request", default="")
#: Whether it is a call, to be answered at once.
CALL: ContextVar[bool] = ContextVar("sky_call", default=False)

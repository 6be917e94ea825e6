"""The same as coroutines; re-exports only."""

from sky.sdk.asynchronous_jobs import *  # noqa: F403 - its `__all__` is the list
from sky.sdk.asynchronous_jobs import __all__  # noqa: F401

"""Every call of the asynchronous SDK, under the name that existing programs import; re-exports only."""

from sky.sdk.asynchronous import *  # noqa: F403 - its `__all__` is the list
from sky.sdk.asynchronous import __all__  # noqa: F401

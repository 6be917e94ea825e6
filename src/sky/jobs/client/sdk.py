"""The calls of managed jobs under the name that existing programs import; re-exports only."""

from sky.jobs import *  # noqa: F403 - its `__all__` is the list
from sky.jobs import __all__  # noqa: F401

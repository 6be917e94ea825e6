"""Where programs import the calls of managed jobs from; re-exports only."""

from sky.compat.finding import beside

__getattr__ = beside("sky.jobs.client")

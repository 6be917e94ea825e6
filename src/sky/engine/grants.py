"""What a managed job may be given so that it can call the server itself: an endpoint and a token of its own.

Asked by `managed_jobs`; the adapter is `server.job_access`.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from sky.core.model.managed_jobs import ManagedJob


class Given(NamedTuple):
    """Variables that anybody may see, and those that are secrets."""

    envs: Mapping[str, str] = {}
    secrets: Mapping[str, str] = {}


class Grants(Protocol):
    """Access of managed jobs to the server; attempts have their own."""

    async def give(self, job: ManagedJob, *, wanted: bool) -> Given:
        """What the attempt under way is given; nothing where that is not wanted, by its task or the configuration."""
        ...

    async def take_back(self, job: ManagedJob) -> None:
        """Nothing that the attempt was given opens anything any more."""
        ...


class Nothing:
    """Jobs are given nothing."""

    async def give(self, job: ManagedJob, *, wanted: bool) -> Given:
        """Nothing."""
        return Given()

    async def take_back(self, job: ManagedJob) -> None:
        """There is nothing to take back."""

"""What is remembered of pools, and of who has their workers. Adapter: `store.pools`."""

from collections.abc import Mapping
from typing import Protocol

from sky.core.lifecycle.machine import Step
from sky.core.model.pools import Pool, Standing
from sky.core.ports.rows import Rows


class PoolRows(Rows[Pool], Protocol):
    """Pools, and which job has which of their workers. Adapter: `store.pools`.

    A claim is made and given up under the key of a job's attempt. Only a worker that is READY by the pool's last commit
    and that nobody has can be claimed; what a pool commits never touches a claim.
    """

    async def open(self, step: Step[Pool], now: float) -> tuple[Pool, bool]:
        """Record a pool; if one of its name has not ended, that one and False."""
        ...

    async def by_name(self, name: str) -> Pool | None:
        """The pool of this name that has not ended."""
        ...

    async def living(self) -> list[Pool]:
        """Those that have not ended, by name."""
        ...

    async def take(self, pool_id: str, key: str) -> str | None:
        """The worker that the key has or, if it has none, one that it has from now on; None where none is free."""
        ...

    async def claimed_by(self, key: str) -> str | None:
        """The worker that a key has."""
        ...

    async def holder(self, worker: str) -> str | None:
        """The key that has a worker."""
        ...

    async def give_back(self, key: str) -> str | None:
        """Give up a claim; the id of the pool if it waits for that, since the worker is to go."""
        ...

    async def condemn(self, key: str) -> str | None:
        """Say that the worker that a key has must not be used any more; the id of its pool. The claim stays."""
        ...

    async def free(self) -> Mapping[str, int]:
        """How many workers can be claimed now, by pool; pools without any are left out."""
        ...

    async def claims(self, pool_id: str) -> Mapping[str, str]:
        """Workers that somebody has, each with the key."""
        ...

    async def situation(self, pool_id: str) -> Standing:
        """All that is on record beside a pool."""
        ...

    async def stray_claims(self) -> list[str]:
        """Keys of claims that belong to no job's attempt of now."""
        ...

    async def stray_clusters(self) -> list[str]:
        """Ids of living clusters that were some pool's and that it does not know any more."""
        ...

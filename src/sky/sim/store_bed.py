"""What the tests of every store stand on: two servers on one store, and things to put into it.

Used by `store_contract` and `user_contract`, and by the test modules that run them on a database.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle.machine import Step
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.offers import Offer, Placement
from sky.core.model.requests import Request
from sky.core.model.statuses import JobStatus, RequestStatus
from sky.core.ports import Claim, Store

PLACE = Placement(Offer("a", "r", None, "t", 1, 1, 0.5), 1, 1, 1)


@dataclass(frozen=True, slots=True)
class Side:
    """One server: its view of the store, and its clock."""

    store: Store
    now: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Bed:
    """A store under test, empty, as two servers see it; `passes` lets time pass, which may be by setting a clock.

    Where only one process can own a store, both sides are the same. `lease_s` is long enough to do something under it
    and short enough to wait for.
    """

    one: Side
    two: Side
    passes: Callable[[float], Awaitable[None]]
    lease_s: float = 10.0

    async def claimed(self, side: Side | None = None, holder: str = "t1") -> Claim[Cluster]:
        """The one cluster that is due."""
        side = side or self.one
        (claim,) = await side.store.clusters.claim(side.now(), self.lease_s, holder, 5)
        return claim

    async def none(self, side: Side) -> None:
        """Nothing can be claimed."""
        same(await side.store.clusters.claim(side.now(), self.lease_s, "nobody", 5), [])

    async def commit(self, claim: Claim[Cluster], after: Cluster, now: float) -> Claim[Cluster]:
        """Write a cluster as it is to be, and let go of it."""
        seen = cluster_life.Due()
        done = await self.one.store.clusters.commit(claim, Step(after, ()), seen, now=now, due_at=now)
        await self.one.store.clusters.release(done)
        return done

    async def opened(self, id: str = "c1", name: str = "one") -> Cluster:
        """A cluster on record with its first order."""
        drawn = replace(cluster(id, name), created_at=self.one.now())
        made, _ = await self.one.store.clusters.open(cluster_life.opening(drawn), self.one.now())
        return made

    async def until_claimed(self, side: Side, token: str) -> Claim[Cluster]:
        """The cluster once it can be had, which takes a lease at most."""
        for _ in range(100):
            found = await side.store.clusters.claim(side.now(), self.lease_s, token, 5)
            if found:
                return found[0]
            await self.passes(self.lease_s / 20)
        raise AssertionError("the lease of a holder that does nothing never passed on")


def cluster(id: str = "c1", name: str = "one", phase: Phase = Phase.PROVISIONING, owner: str | None = None) -> Cluster:
    """One that is being brought up."""
    made = Cluster(id, name, "u", "default", phase, 0, 1.0, 1.0, 1, candidates=(PLACE,), request_id=f"r-{id}")
    return replace(made, owner=owner)


def job(id: str, cluster_id: str = "c1") -> Job:
    """One that has not been delivered."""
    return Job(id, cluster_id, "one", f"r-{id}", "u", JobPhase.SYNCING, JobStatus.INIT, 0, 1.0)


def request(id: str, name: str = "launch", cluster_name: str | None = None, created_at: float = 1.0) -> Request:
    """One that was just asked for."""
    return Request(id, name, "u", RequestStatus.PENDING, 0, created_at, {}, cluster_name)


def same(found: object, wanted: object) -> None:
    """Raise AssertionError unless what was found is what was wanted."""
    if found != wanted:
        raise AssertionError(f"found {found!r}, wanted {wanted!r}")


def true(holds: bool, what: str) -> None:
    """Raise AssertionError unless it holds."""
    if not holds:
        raise AssertionError(what)

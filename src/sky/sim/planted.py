"""Bugs that are put into the control plane on purpose, one at a time: a net that does not find them has holes.

`python -m sky.sim hunt` and the tests switch them on; nothing else may.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

from sky.core.lifecycle import billing
from sky.core.lifecycle.managed_events import Seen
from sky.core.model.clusters import Phase
from sky.core.model.managed_jobs import Stage
from sky.core.policy import job_groups
from sky.engine.managed_jobs import ManagedJobWork
from sky.engine.provision import Provisioner
from sky.engine.sweep import Sweep
from sky.server.fleet import HeadAgent
from sky.sim.replica import REPLICA, Died
from sky.sim.world import Disk
from sky.store import clusters as stored_clusters
from sky.store.clusters import SqlClusters
from sky.store.leases import LeasedRows


@contextmanager
def lease_not_checked() -> Iterator[None]:
    """Whoever commits may do so, also when somebody else has gone on with the row."""
    real = LeasedRows.commit

    async def commit(self: Any, claim: Any, step: Any, event: object, **named: Any) -> Any:
        current = await self.get(claim.entity.id)
        async with self._db.write() as tx:
            await tx.change(
                self._sql.hold, ids=[claim.entity.id], token=claim.token, until=claim.expires, now=named["now"]
            )
        at = replace(claim, entity=replace(claim.entity, version=current.version if current else claim.entity.version))
        return await real(self, at, step, event, **named)

    with mock.patch.object(LeasedRows, "commit", commit):
        yield


@contextmanager
def order_not_recorded() -> Iterator[None]:
    """What is about to be done is in memory alone."""
    real = LeasedRows._give

    async def give(self: Any, tx: Any, entity: Any, orders: Any) -> Any:
        given = await real(self, tx, entity, orders)
        await tx.change(self._sql.forget_orders, id=entity.id)
        return given

    with mock.patch.object(LeasedRows, "_give", give):
        yield


@contextmanager
def machines_asked_anew() -> Iterator[None]:
    """Machines are asked for under another key after a crash, so that there are two of each."""
    real = Provisioner._ask
    times: list[None] = []

    def ask(self: Any, cluster: Any, key: str, *given: Any, **named: Any) -> Any:
        times.append(None)
        return real(self, cluster, f"{key}+{len(times)}", *given, **named)

    with mock.patch.object(Provisioner, "_ask", ask):
        yield


@contextmanager
def sweep_forgotten() -> Iterator[None]:
    """Nobody compares what is listed with what is on record."""

    async def once(self: object) -> list[str]:
        return []

    with mock.patch.object(Sweep, "once", once):
        yield


@contextmanager
def end_not_carried_out() -> Iterator[None]:
    """A machine counts as ended although its provider did not answer, and the sweep that would find it is late."""
    real = Provisioner.end

    async def end(self: Any, site: Any) -> None:
        with suppress(Exception):
            await real(self, site)

    with mock.patch.object(Provisioner, "end", end), sweep_forgotten():
        yield


@contextmanager
def job_submitted_anew() -> Iterator[None]:
    """A submission that is repeated after a lost answer is a second job."""
    real = HeadAgent.submit
    # Of each world by itself: keys are the same when a seed is played again.
    worlds: WeakKeyDictionary[asyncio.AbstractEventLoop, Counter[str]] = WeakKeyDictionary()

    async def submit(self: Any, key: str, spec: Mapping[str, object]) -> Any:
        times = worlds.setdefault(asyncio.get_running_loop(), Counter())
        times[key] += 1
        return await real(self, key if times[key] == 1 else f"{key}-{times[key]}", spec)

    with mock.patch.object(HeadAgent, "submit", submit):
        yield


@contextmanager
def letter_read_too_early() -> Iterator[None]:
    """A letter is struck off before what follows from it is on record."""
    real = LeasedRows.reload

    async def reload(self: Any, claim: Any) -> Any:
        after = await real(self, claim)
        async with self._db.write() as tx:
            for letter in after.letters:
                await tx.change(self._sql.read_letter, number=letter.id)
        return replace(after, letters=())

    with mock.patch.object(LeasedRows, "reload", reload):
        yield


@contextmanager
def bill_left_open() -> Iterator[None]:
    """What a cluster had goes on to cost money in the ledger."""

    def booked(*step: Any) -> Any:
        return billing.booked(*step)._replace(ended=())

    with mock.patch.object(stored_clusters, "booked", booked):
        yield


@contextmanager
def bill_written_apart() -> Iterator[None]:
    """The ledger is written a moment after the commit that it follows from, by a process that may be dead by then."""
    commit, beside = SqlClusters.commit, SqlClusters.beside

    async def apart(self: Any, claim: Any, step: Any, event: object, **named: Any) -> Any:
        after = await commit(self, claim, step, event, **named)
        await asyncio.sleep(2.0)
        replica = REPLICA.get()
        if replica is not None and replica.dead:
            raise Died
        async with self._db.write() as tx:
            await beside(self, tx, claim.entity, after.entity, named["now"])
        return after

    async def nothing(*_: object) -> None:
        pass

    with mock.patch.object(SqlClusters, "commit", apart), mock.patch.object(SqlClusters, "beside", nothing):
        yield


@contextmanager
def told_before_it_is_safe() -> Iterator[None]:
    """Who is answered may be told of what the next power failure takes back."""

    async def durable(self: object) -> None:
        pass

    with mock.patch.object(Disk, "durable", durable):
        yield


@contextmanager
def lost_cluster_forgotten() -> Iterator[None]:
    """A managed job that was lost is begun anew, and what is left of where it ran is not ended."""
    real = ManagedJobWork._let_go

    async def let_go(self: Any, job: Any, order: object) -> Any:
        if job.stage is Stage.CLEARING and job.pool_id is None:
            return Seen(Phase.TERMINATED, ever_up=True)
        return await real(self, job, order)

    with mock.patch.object(ManagedJobWork, "_let_go", let_go):
        yield


@contextmanager
def dependency_ignored() -> Iterator[None]:
    """Whatever a managed job waits for counts as having come."""
    with mock.patch.object(job_groups, "waits", lambda awaited, statuses: job_groups.Waits(())):
        yield


PLANTED: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    each.__name__.replace("_", " "): each
    for each in (
        lease_not_checked, order_not_recorded, machines_asked_anew, sweep_forgotten, end_not_carried_out,
        job_submitted_anew, letter_read_too_early, bill_left_open, bill_written_apart, told_before_it_is_safe,
        lost_cluster_forgotten, dependency_ignored,
    )
}  # fmt: skip

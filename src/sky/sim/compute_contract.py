"""What every provider keeps: the promises of `core.ports.Compute` and its optional parts, as tests.

A provider's test module subclasses `ComputeContract` and gives a fixture `place` that yields a `Place`. The tests are
plain coroutines, so that this module needs no test framework; a provider of another distribution uses it alike.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sky.core.model.clusters import Instance, InstanceState
from sky.core.ports import Compute, CreateAsk, EndsItself, Identified, ReplacesNodes, Stoppable

#: Seconds for what a place takes its time for: a listing that lags, a machine that stops.
_PATIENCE_S = 60.0
_LIVING = (InstanceState.PENDING, InstanceState.RUNNING, InstanceState.STOPPING, InstanceState.STOPPED)


@dataclass(frozen=True, slots=True)
class Place:
    """A provider under test. `ask(cluster_id, nodes)` is a request that it can grant; `most` nodes at a time.

    `tag` keeps the clusters of tests that run side by side apart. `shut_down` ends a machine from inside, as
    `shutdown -h now` does, where that can be done.
    """

    compute: Compute
    ask: Callable[[str, int], CreateAsk]
    most: int = 2
    tag: str = "t"
    shut_down: Callable[[Instance], Awaitable[None]] | None = None

    def cluster(self, what: str) -> str:
        """A cluster id of this test's own."""
        return f"{what}-{self.tag}"

    async def living(self, cluster_id: str) -> list[Instance]:
        """What is there of a cluster, by rank."""
        found = await self.compute.list(cluster_id)
        return sorted((each for each in found if each.state in _LIVING), key=lambda each: each.rank)

    async def until(self, cluster_id: str, holds: Callable[[list[Instance]], bool]) -> list[Instance]:
        """Look until something holds; listing may lag."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                if holds(found := await self.living(cluster_id)):
                    return found
                await asyncio.sleep(0.05)


class ComputeContract:
    """See the module."""

    async def test_created_nodes_run_and_can_be_told_apart(self, place: Place) -> None:
        """All ranks, each with an id, an address and a way to it."""
        id_made = place.cluster("made")
        made = list(await place.compute.create(place.ask(id_made, place.most)))
        _same([each.rank for each in made], list(range(place.most)))
        _same([each.state for each in made], [InstanceState.RUNNING] * place.most)
        _same([each.id for each in made], [f"{id_made}-{rank}" for rank in range(place.most)])
        _true(len({each.ip for each in made}) == place.most, "each node has an address of its own", made)
        _true(all(each.reach.get("kind") for each in made), "each node can be reached", made)
        listed = await place.until(id_made, lambda found: len(found) == place.most)
        _same([each.id for each in listed], [each.id for each in made])

    async def test_create_is_idempotent_by_key(self, place: Place) -> None:
        """The same key gives the same machines: a repeat after a crash costs nothing."""
        id_again = place.cluster("again")
        ask = place.ask(id_again, 1)
        first, second = list(await place.compute.create(ask)), list(await place.compute.create(ask))
        _same([(each.id, each.machine) for each in second], [(each.id, each.machine) for each in first])
        _same(len(await place.living(id_again)), 1)

    async def test_terminate_removes_all_and_may_be_repeated(self, place: Place) -> None:
        """Also of what never was."""
        id_gone = place.cluster("gone")
        await place.compute.create(place.ask(id_gone, place.most))
        await place.compute.terminate(id_gone)
        await place.until(id_gone, lambda found: not found)
        await place.compute.terminate(id_gone)
        await place.compute.terminate("never-was")
        _same(list(await place.compute.list("never-was")), [])

    async def test_clusters_do_not_mix(self, place: Place) -> None:
        """Ending one leaves the other."""
        id_one = place.cluster("one")
        id_two = place.cluster("two")
        await place.compute.create(place.ask(id_one, 1))
        await place.compute.create(place.ask(id_two, 1))
        ids = {each.cluster_id for each in await place.compute.list() if each.state in _LIVING}
        _true({id_one, id_two} <= ids, "both are listed", sorted(ids))
        await place.compute.terminate(id_one)
        await place.until(id_one, lambda found: not found)
        _same([each.id for each in await place.living(id_two)], [f"{id_two}-0"])

    async def test_a_cluster_grows_and_shrinks(self, place: Place) -> None:
        """Nodes are added beside those that are there, and ended by rank."""
        id_size = place.cluster("size")
        (before,) = await place.compute.create(place.ask(id_size, 1))
        more = place.ask(id_size, place.most)
        grown = await place.compute.create(replace(more, key=f"{id_size}:2", ranks=tuple(range(1, place.most))))
        _same([each.id for each in grown], [f"{id_size}-{rank}" for rank in range(place.most)])
        _same((grown[0].id, grown[0].machine), (before.id, before.machine))
        await place.compute.terminate(id_size, ranks=range(1, place.most))
        left = await place.until(id_size, lambda found: len(found) == 1)
        _same((left[0].id, left[0].machine), (before.id, before.machine))

    async def test_a_node_that_is_gone_is_made_anew_beside_the_others(self, place: Place) -> None:
        """Where the place says that it can: by rank, once for a key, whichever rank it is."""
        id_gang, offer = place.cluster("gang"), place.ask("x", place.most).placement
        if not isinstance(place.compute, ReplacesNodes) or place.compute.irreplaceable(offer, {}) or place.most < 2:
            return
        made = await place.compute.create(place.ask(id_gang, place.most))
        await place.compute.terminate(id_gang, ranks=[0])
        again = replace(place.ask(id_gang, place.most), key=f"{id_gang}:2", ranks=(0,))
        whole = await place.compute.create(again)
        _same([each.id for each in whole], [each.id for each in made])
        _same([each.machine for each in whole[1:]], [each.machine for each in made[1:]])
        _same(await place.compute.create(again), whole)

    async def test_stop_keeps_what_start_brings_back(self, place: Place) -> None:
        """Where the place can stop machines: the same ones run again."""
        id_stop = place.cluster("stop")
        if not isinstance(place.compute, Stoppable):
            return
        made = await place.compute.create(place.ask(id_stop, 1))
        stopped = await place.compute.stop(id_stop)
        _same([each.id for each in stopped], [each.id for each in made])
        await place.until(id_stop, lambda found: _states(found) == [InstanceState.STOPPED])
        again = await place.compute.start(id_stop)
        _same([(each.id, each.machine) for each in again], [(each.id, each.machine) for each in made])
        _same(_states(again), [InstanceState.RUNNING])

    async def test_a_machine_that_shuts_itself_down_ends_or_stops_as_told(self, place: Place) -> None:
        """Where the place can be told: what was said last counts, for all of a cluster's machines."""
        id_off = place.cluster("itself")
        if not isinstance(place.compute, EndsItself):
            return
        await place.compute.end_on_shutdown("never-was", True)
        made = await place.compute.create(place.ask(id_off, place.most))
        for ends in (True, True, False):
            await place.compute.end_on_shutdown(id_off, ends)
        if place.shut_down is None:
            return
        await place.shut_down(made[-1])
        await place.until(id_off, lambda found: InstanceState.STOPPED in _states(found))
        await place.compute.start(id_off) if isinstance(place.compute, Stoppable) else None
        await place.compute.end_on_shutdown(id_off, True)
        for each in await place.living(id_off):
            await place.shut_down(each)
        await place.until(id_off, lambda found: not found)

    async def test_a_cancelled_creation_can_be_ended_whole(self, place: Place) -> None:
        """At any moment of it."""
        id_off = place.cluster("off")
        for delay in (0.0, 0.02, 0.3):
            creating = asyncio.ensure_future(place.compute.create(place.ask(id_off, place.most)))
            await asyncio.sleep(delay)
            creating.cancel()
            with suppress(asyncio.CancelledError):
                await creating
            await place.compute.terminate(id_off)
            await place.until(id_off, lambda found: not found)

    async def test_who_asks_is_the_same_each_time(self, place: Place) -> None:
        """Where the place knows who asks."""
        if isinstance(place.compute, Identified):
            who = await place.compute.identity()
            _true(bool(who), "an identity is a text", who)
            _same(await place.compute.identity(), who)


def _states(instances: Sequence[Instance]) -> list[InstanceState]:
    return [each.state for each in instances]


def _same(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"found {found!r}, wanted {wanted!r}")


def _true(holds: bool, what: str, found: Any) -> None:
    if not holds:
        raise AssertionError(f"{what}; found {found!r}")

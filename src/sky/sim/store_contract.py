"""What every store keeps: the promises of `core.ports.Store`, as tests.

A test module subclasses `StoreContract` and gives a fixture `bed` that yields a `Bed`. The tests are plain coroutines,
so that this module needs no test framework. Two holders stand for two servers, whose clocks differ.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import TypeVar

from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import jobs as job_life
from sky.core.lifecycle import requests as request_life
from sky.core.lifecycle.machine import Step
from sky.core.model.catalog import Market
from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase
from sky.core.model.jobs import JobPhase
from sky.core.model.ledger import Question, Settlement
from sky.core.model.outcomes import Outcome, OutcomeKind
from sky.core.model.statuses import RequestStatus
from sky.core.ports import Claim, LeaseLost
from sky.sim.managed_job_contract import ManagedJobContract
from sky.sim.pool_contract import PoolContract
from sky.sim.store_bed import PLACE, Bed, Side, cluster, job, request, same, true
from sky.sim.user_contract import UserContract

_DAY = 86400.0

T = TypeVar("T")


class LeaseContract:
    """Who holds a row, alone writes it."""

    async def test_a_new_row_is_due_with_its_orders(self, bed: Bed) -> None:
        """Under a key that is the same at every repeat."""
        await bed.opened()
        claim = await bed.claimed()
        same([standing.order for standing in claim.orders], [cluster_life.Provision(PLACE)])
        same([standing.key for standing in claim.orders], ["cluster:c1:0:0"])

    async def test_a_held_row_is_given_to_nobody_else(self, bed: Bed) -> None:
        """Whatever the other's clock says."""
        await bed.opened()
        await bed.claimed()
        await bed.none(bed.two)
        await bed.none(bed.one)

    async def test_a_lease_passes_on_when_it_runs_out(self, bed: Bed) -> None:
        """And who held it can neither write nor renew."""
        await bed.opened()
        first = await bed.claimed()
        second = await bed.until_claimed(bed.two, "t2")
        same([standing.key for standing in second.orders], [standing.key for standing in first.orders])
        same(await bed.one.store.clusters.renew({"c1": first.token}, bed.one.now(), bed.lease_s), {})
        await _lost(self._commit(bed, bed.one, first))
        await bed.one.store.clusters.release(first)  # harmless
        await self._commit(bed, bed.two, second)

    async def test_what_is_short_is_claimed_before_launches_that_are_due_for_longer(self, bed: Bed) -> None:
        """However many they are."""
        for number in range(5):
            await bed.one.store.requests.open(request(f"launch-{number}", created_at=1.0), bed.one.now())
        await bed.passes(0.01)
        await bed.one.store.requests.open(request("down-1", "down"), bed.one.now())
        claimed = await bed.two.store.requests.claim(bed.two.now(), bed.lease_s, "t", 2)
        same([claim.entity.id for claim in claimed], ["down-1", "launch-0"])

    async def test_renewed_leases_hold(self, bed: Bed) -> None:
        """For longer than they would have, all that are held; and who holds on hears who has letters."""
        rows, claims = bed.one.store.clusters, []
        for number in (1, 2):
            await bed.opened(f"c{number}", f"n{number}")
            claims.append(await bed.claimed(holder=f"t{number}"))
        await bed.two.store.clusters.post("c2", cluster_life.Due(), bed.two.now())
        held = {"c1": "t1", "c2": "t2", "c3": "t1"}
        for _ in range(4):
            await bed.passes(bed.lease_s / 3)
            same(await rows.renew(held, bed.one.now(), bed.lease_s), {"c1": False, "c2": True})
            await bed.none(bed.two)
        await self._commit(bed, bed.one, claims[0])

    async def test_a_released_row_is_free_at_once(self, bed: Bed) -> None:
        """For the other too."""
        await bed.opened()
        await bed.one.store.clusters.release(await bed.claimed())
        await bed.claimed(bed.two, "t2")

    async def test_a_commit_needs_the_version_that_was_claimed(self, bed: Bed) -> None:
        """Of two steps from one state, one counts."""
        await bed.opened()
        claim = await bed.claimed()
        await self._commit(bed, bed.one, claim)
        await _lost(self._commit(bed, bed.one, claim))

    async def test_rows_that_the_caller_is_busy_with_are_left_out(self, bed: Bed) -> None:
        """Also beyond the limit."""
        for number in range(3):
            await bed.opened(f"c{number}", f"n{number}")
        rows, now = bed.one.store.clusters, bed.one.now()
        same([each.entity.id for each in await rows.claim(now, 5, "t", 1, but_not={"c0", "c1"})], ["c2"])
        same(await rows.claim(now, 5, "t", 1, but_not={"c0", "c1"}), [])

    async def test_many_claimers_share_out_the_rows(self, bed: Bed) -> None:
        """Each row goes to one of them."""
        for number in range(20):
            await bed.opened(f"c{number:02}", f"n{number}")

        async def claim(side: Side, token: str) -> list[str]:
            found: list[str] = []
            while got := await side.store.clusters.claim(side.now(), 60, token, 3):
                found += [each.entity.id for each in got]
            return found

        got = await asyncio.gather(*(claim((bed.one, bed.two)[n % 2], f"t{n}") for n in range(6)))
        # One that finds all due rows just being claimed by others may give up early: the rest is there for later.
        rest = await claim(bed.one, "rest")
        same(sorted(id for each in (*got, rest) for id in each), [f"c{number:02}" for number in range(20)])

    async def test_orders_stand_are_replaced_or_done(self, bed: Bed) -> None:
        """As the step says."""
        await bed.opened()
        rows = bed.one.store.clusters
        stands = await self._commit(bed, bed.one, await bed.claimed())
        same([standing.order for standing in stands.orders], [cluster_life.Provision(PLACE)])
        step = Step(stands.entity, (cluster_life.StopNodes(), cluster_life.Observe()))
        other = await rows.commit(stands, step, cluster_life.StopAsked(), now=bed.one.now(), due_at=None)
        same([standing.order for standing in other.orders], [cluster_life.StopNodes(), cluster_life.Observe()])
        done = other.orders[0].key
        step = Step(other.entity)
        left = await rows.commit(other, step, cluster_life.Due(), now=bed.one.now(), due_at=None, done=done)
        same([standing.order for standing in left.orders], [cluster_life.Observe()])
        await rows.release(left)
        again = await bed.claimed(bed.two, "t2")
        same([standing.order for standing in again.orders], [cluster_life.Observe()])

    async def test_it_is_known_when_the_next_row_is_to_be_had(self, bed: Bed) -> None:
        """By its due time and its lease, whichever is later."""
        rows = bed.one.store.clusters
        same(await rows.due_in(bed.one.now(), 5.0), 5.0)
        await bed.opened()
        true(await rows.due_in(bed.one.now(), 5.0) <= 0, "a new row is due at once")
        claim = await bed.claimed()
        same(await rows.due_in(bed.one.now(), 0.5), 0.5)
        true(0.5 < await rows.due_in(bed.one.now(), 99.0) <= bed.lease_s, "a held row is free when its lease runs out")
        now = bed.one.now()
        resting = replace(claim.entity, phase=Phase.UP)
        claim = await rows.commit(claim, Step(resting, ()), cluster_life.Due(), now=now, due_at=now + 50.0)
        await rows.release(claim)
        true(40.0 < await rows.due_in(bed.two.now(), 99.0) <= 50.0, "a row that rests is due at its time")
        await rows.post("c1", cluster_life.Due(), bed.one.now())
        true(await rows.due_in(bed.two.now(), 5.0) <= 0, "a letter makes it due")

    async def test_a_quiet_row_waits_for_its_time(self, bed: Bed) -> None:
        """By the clock of who set it."""
        await bed.opened()
        claim = await bed.claimed()
        quiet, now = Step(claim.entity, ()), bed.one.now()
        rows = bed.one.store.clusters
        claim = await rows.commit(claim, quiet, cluster_life.Due(), now=now, due_at=now + bed.lease_s)
        await rows.release(claim)
        await bed.none(bed.one)
        await bed.none(bed.two)
        await bed.passes(bed.lease_s * 1.1)
        claim = await bed.claimed(bed.two, "t2")
        claim = await bed.two.store.clusters.commit(
            claim, Step(claim.entity, ()), cluster_life.Due(), now=bed.two.now(), due_at=None
        )
        await bed.two.store.clusters.release(claim)
        await bed.passes(bed.lease_s)
        await bed.none(bed.one)

    async def _commit(self, bed: Bed, side: Side, claim: Claim[Cluster]) -> Claim[Cluster]:
        step = Step(claim.entity)
        return await side.store.clusters.commit(claim, step, cluster_life.Due(), now=side.now(), due_at=None)


class MemoryContract:
    """What one has written itself it need not read again; what others wrote since then it does."""

    async def test_what_another_wrote_since_is_what_is_read(self, bed: Bed) -> None:
        """By id, in a claim, and among all that live."""
        await bed.opened()
        one, two = bed.one.store.clusters, bed.two.store.clusters
        for turn in range(3):
            for side, other in ((bed.one, two), (bed.two, one)):
                claim = await bed.claimed(side, f"t{turn}")
                step = Step(replace(claim.entity, reason=f"{turn} of {side.store is bed.one.store}"), ())
                event = cluster_life.Due()
                wrote = await side.store.clusters.commit(claim, step, event, now=side.now(), due_at=side.now())
                await side.store.clusters.release(wrote)
                for rows in (one, two):
                    same(await rows.get("c1"), wrote.entity)
                    same(await rows.living(), [wrote.entity])
                seen = (await other.claim(side.now() + 1, 0.0, "look", 1))[0]
                same((seen.entity.reason, seen.entity.version), (wrote.entity.reason, wrote.entity.version))
                await other.release(seen)


class LetterContract:
    """What is posted is read, once and in order."""

    async def test_letters_are_read_in_the_order_they_came(self, bed: Bed) -> None:
        """And are gone with the commit that read them."""
        await bed.opened()
        claim = await bed.claimed()
        posted = [cluster_life.StopAsked(), cluster_life.DownAsked(), cluster_life.DownAsked(purge=True)]
        numbers = [await side.store.clusters.post("c1", event, side.now()) for side, event in _dealt(bed, posted)]
        claim = await bed.one.store.clusters.reload(claim)
        same([letter.event for letter in claim.letters], posted)
        same([letter.id for letter in claim.letters], numbers)
        claim = await bed.one.store.clusters.commit(
            claim, Step(claim.entity, ()), posted[0], now=bed.one.now(), due_at=None, letters=numbers[:2]
        )
        same([letter.event for letter in claim.letters], posted[2:])
        same([await bed.two.store.clusters.heeded(number) for number in numbers], [True, True, False])
        same(await bed.two.store.clusters.standing("c1"), ())

    async def test_standing_orders_are_told_to_anybody(self, bed: Bed) -> None:
        """Until they are carried out, and in the order in which they were given."""
        await bed.opened()
        claim = await bed.claimed()
        given = (cluster_life.Observe(), cluster_life.StopNodes())
        step = Step(claim.entity, given)
        await bed.one.store.clusters.commit(claim, step, cluster_life.Due(), now=bed.one.now(), due_at=None)
        same(await bed.two.store.clusters.standing("c1"), given)
        same(await bed.two.store.clusters.standing("nobody"), ())

    async def test_a_letter_makes_a_resting_row_due(self, bed: Bed) -> None:
        """Also one that comes while it is held."""
        await bed.opened()
        claim = await bed.claimed()
        await bed.two.store.clusters.post("c1", cluster_life.DownAsked(), bed.two.now())
        rows = bed.one.store.clusters
        claim = await rows.commit(
            claim, Step(claim.entity, ()), cluster_life.Due(), now=bed.one.now(), due_at=bed.one.now() + _DAY
        )
        await rows.release(claim)
        again = await bed.claimed(bed.two, "t2")
        same([letter.event for letter in again.letters], [cluster_life.DownAsked()])
        quiet = Step(again.entity, ())
        numbers = [letter.id for letter in again.letters]
        again = await bed.two.store.clusters.commit(
            again, quiet, cluster_life.DownAsked(), now=bed.two.now(), due_at=None, letters=numbers
        )
        await bed.two.store.clusters.release(again)
        await bed.none(bed.one)
        await bed.one.store.clusters.post("c1", cluster_life.Due(), bed.one.now())
        same([letter.event for letter in (await bed.claimed(bed.two, "t3")).letters], [cluster_life.Due()])

    async def test_no_letter_is_lost_between_a_commit_and_a_post(self, bed: Bed) -> None:
        """Posted while the row is being put to rest, it is read all the same."""
        await bed.opened()
        for turn in range(10):
            claim = await bed.until_claimed(bed.one, f"t{turn}")
            numbers = [letter.id for letter in claim.letters]
            rested, number = await asyncio.gather(
                bed.one.store.clusters.commit(
                    claim,
                    Step(claim.entity, ()),
                    cluster_life.Due(),
                    now=bed.one.now(),
                    due_at=None,
                    letters=numbers,
                ),
                bed.two.store.clusters.post("c1", cluster_life.Due(), bed.two.now()),
            )
            await bed.one.store.clusters.release(rested)
            found = await bed.claimed(bed.two, f"u{turn}")
            same([letter.id for letter in found.letters], [number])
            await bed.two.store.clusters.release(found)

    async def test_two_who_post_to_the_same_rows_do_not_wait_for_each_other(self, bed: Bed) -> None:
        """Whatever order they name them in; each row has the letters of both."""
        ids = [f"c{number}" for number in range(10)]
        for id in ids:
            await bed.opened(id, id)
        sides = (bed.one, bed.two) * 4
        posts = (
            side.store.clusters.post_all(ids if at % 3 else ids[::-1], cluster_life.Due(), side.now())
            for at, side in enumerate(sides)
        )
        await asyncio.gather(*posts)
        claims = await bed.one.store.clusters.claim(bed.one.now(), 60, "t", 20)
        same({claim.entity.id: [letter.event for letter in claim.letters] for claim in claims},
             {id: [cluster_life.Due()] * len(sides) for id in ids})  # fmt: skip

    async def test_what_is_posted_once_is_posted_once(self, bed: Bed) -> None:
        """By however many, at once or later; all hear the number of the first letter."""
        await bed.opened()
        event = cluster_life.DownAsked()
        posts = (side.store.clusters.post("c1", event, side.now(), once="down:c1") for side in (bed.one, bed.two) * 4)
        numbers = set(await asyncio.gather(*posts))
        same(len(numbers), 1)
        claim = await bed.claimed()
        same([letter.id for letter in claim.letters], list(numbers))


class RecordContract:
    """What is on record, and how it is found."""

    async def test_one_living_cluster_has_a_name(self, bed: Bed) -> None:
        """Also of several that are opened in one moment; a name is free again when its cluster has ended."""
        sides = (bed.one, bed.two) * 3
        opened = await asyncio.gather(
            *(
                side.store.clusters.open(cluster_life.opening(cluster(f"c{n}", "one", owner="o")), side.now())
                for n, side in enumerate(sides)
            )
        )
        same(sum(fresh for _, fresh in opened), 1)
        (id,) = {made.id for made, _ in opened}
        found = await bed.two.store.clusters.by_name("one")
        same(found and found.id, id)
        claim = await bed.claimed()
        gone = replace(claim.entity, phase=Phase.TERMINATED, ended_at=5.0)
        event = cluster_life.NodesTerminated()
        await bed.one.store.clusters.commit(claim, Step(gone, ()), event, now=bed.one.now(), due_at=None)
        following = cluster_life.opening(cluster("next", "one", owner="o"))
        again, made = await bed.two.store.clusters.open(following, bed.two.now())
        same((again.id, made), ("next", True))
        same([each.id for each in await bed.one.store.clusters.living()], ["next"])
        same([each.id for each in await bed.two.store.clusters.living_of(["next", id, "unknown"])], ["next"])
        same([each.id for who in ("o", "p") for each in await bed.two.store.clusters.owned_by(who)], ["next"])
        same(sorted(each.id for each in await bed.one.store.clusters.since(4.0)), sorted(["next", id]))
        same([each.id for each in await bed.one.store.clusters.since(6.0)], ["next"])

    async def test_a_request_is_recorded_once(self, bed: Bed) -> None:
        """By its id, whoever sends it again."""
        opened = await asyncio.gather(
            *(side.store.requests.open(request("abc-1"), side.now()) for side in (bed.one, bed.two) * 4)
        )
        same(sum(fresh for _, fresh in opened), 1)
        same({made.id for made, _ in opened}, {"abc-1"})

    async def test_a_job_is_recorded_once_per_request(self, bed: Bed) -> None:
        """Whoever asks."""
        drawn = [replace(job(f"j{number}"), request_id="r") for number in range(6)]
        opened = await asyncio.gather(
            *(side.store.jobs.open(job_life.opening(each), side.now()) for side, each in _dealt(bed, drawn))
        )
        same(sum(fresh for _, fresh in opened), 1)
        same(len({made.id for made, _ in opened}), 1)
        (first, *_), found = (made for made, _ in opened), await bed.two.store.jobs.by_request("r")
        same(found, first)

    async def test_requests_are_found_by_the_beginning_of_their_id(self, bed: Bed) -> None:
        """At most ten, and by nothing else."""
        for id in ("ab-1", "ab-2", "Ab-3", "a%-4", "a_-5", *(f"many-{n:02}" for n in range(12))):
            await bed.one.store.requests.open(request(id), bed.one.now())
        find = bed.two.store.requests.find
        same(sorted(each.id for each in await find("ab")), ["ab-1", "ab-2"])
        same([each.id for each in await find("a%")], ["a%-4"])
        same([each.id for each in await find("a_")], ["a_-5"])
        same([each.id for each in await find("ab-1")], ["ab-1"])
        same(await find("nothing"), [])
        same(len(await find("many")), 10)

    async def test_recent_requests_come_newest_first(self, bed: Bed) -> None:
        """Open ones, of one cluster, and as many as asked for."""
        requests = bed.one.store.requests
        for number in range(4):
            name = ("one", "two")[number % 2]
            await requests.open(request(f"r-{number}", "stop", name, float(number)), bed.one.now())
        (claim,) = [
            each for each in await requests.claim(bed.one.now(), 5, "t", 9) if each.entity.id == "r-3"
        ]  # fmt: skip
        over = replace(claim.entity, status=RequestStatus.SUCCEEDED, finished_at=9.0)
        await requests.commit(claim, Step(over, ()), request_life.Finished(None), now=bed.one.now(), due_at=None)
        recent = bed.two.store.requests.recent
        everything = await recent(finished=True, cluster_name=None, limit=None)
        same([each.id for each in everything], ["r-3", "r-2", "r-1", "r-0"])
        same([each.id for each in await recent(finished=False, cluster_name=None, limit=2)], ["r-2", "r-1"])
        same([each.id for each in await recent(finished=True, cluster_name="two", limit=None)], ["r-3", "r-1"])
        same([each.id for each in await recent(finished=False, cluster_name="two", limit=None)], ["r-1"])

    async def test_what_was_written_is_what_is_read(self, bed: Bed) -> None:
        """Every text, whatever is in it."""
        odd = "ü \u2028 \U0001f600 '; DROP TABLE clusters; -- %s $1 \\ \t\n\x00 end"
        drawn = replace(cluster("odd", "o" * 300), user=odd, task_config={"run": odd, "n": [1.5, None, True]})
        made, _ = await bed.one.store.clusters.open(Step(drawn, (), odd), bed.one.now())
        same(made, drawn)
        same(await bed.two.store.clusters.get("odd"), drawn)
        (entry,) = await bed.two.store.stories.read("cluster", "odd")
        same(entry.text.split("\n")[0], odd.split("\n", maxsplit=1)[0])
        asked = replace(request("long-" + "x" * 100, cluster_name="n" * 5000), body={"x": odd})
        await bed.one.store.requests.open(asked, bed.one.now())
        found = await bed.two.store.requests.get(asked.id)
        same(found and (found.body, found.cluster_name), ({"x": odd}, "n" * 5000))

    async def test_jobs_are_found_by_cluster_and_number(self, bed: Bed) -> None:
        """Newest first."""
        jobs = bed.one.store.jobs
        for number in range(3):
            drawn = replace(job(f"j{number}"), job_id=number, created_at=float(number))
            await jobs.open(Step(drawn, ()), bed.one.now())
        found = await bed.two.store.jobs.by_number("c1", 1)
        same(found and found.id, "j1")
        same(await bed.two.store.jobs.by_number("c2", 1), None)
        same([each.id for each in await bed.two.store.jobs.of_cluster("c1")], ["j2", "j1", "j0"])

    async def test_jobs_without_their_cluster_are_told(self, bed: Bed) -> None:
        """Gone, stopped, or never there; not those that have ended."""
        clusters, jobs, now = bed.one.store.clusters, bed.one.store.jobs, bed.one.now()
        for phase in (Phase.UP, Phase.STOPPED, Phase.TERMINATED):
            await clusters.open(Step(cluster(phase.value, phase.value, phase), ()), now)
            await jobs.open(Step(job(f"of-{phase.value}", phase.value), ()), now)
            await jobs.open(Step(replace(job(f"over-{phase.value}", phase.value), phase=JobPhase.DONE), ()), now)
        await jobs.open(Step(job("of-none", "none"), ()), now)
        for asked, found in ((None, ["of-STOPPED", "of-TERMINATED", "of-none"]), (["UP", "none"], ["of-none"])):
            same(sorted(each.id for each in await bed.two.store.jobs.bereft(asked)), found)

    async def test_stories_are_told_in_order(self, bed: Bed) -> None:
        """Of one thing or of all that had the name; from a line on; the last one with words."""
        await bed.opened()
        claim = await bed.claimed()
        rows = bed.one.store.clusters
        for text in ("first", "", "second"):
            claim = await rows.commit(
                claim, Step(claim.entity, None, text), cluster_life.Due(), now=bed.one.now(), due_at=None
            )
        stories = bed.two.store.stories
        told = await stories.read("cluster", "one")
        same([entry.text for entry in told], ["asked for 1x t on a/r", "first", "second"])
        same(await stories.read("cluster", "c1"), told)
        same([entry.text for entry in await stories.read("cluster", "c1", after=told[0].seq)], ["first", "second"])
        same([entry.text for entry in await stories.read("cluster", "c1", limit=1)], [told[0].text])
        last = await stories.last_of_each("cluster", ["c1", "c2"])
        same({id: entry.text for id, entry in last.items()}, {"c1": "second"})
        same(await stories.last_of_each("cluster", []), {})
        same(await stories.read("job", "one"), [])

    async def test_values_are_replaced(self, bed: Bed) -> None:
        """By whoever comes last; never lost between two."""
        same(await bed.one.store.get_value("v"), None)
        await bed.one.store.set_value("v", "1")
        await bed.two.store.set_value("v", "2")
        same(await bed.one.store.get_value("v"), "2")
        await asyncio.gather(*(side.store.set_value("w", str(n)) for n, side in enumerate((bed.one, bed.two) * 4)))
        true(await bed.one.store.get_value("w") in set("01234567"), "one of those that were set")

    async def test_outcomes_are_kept_in_order_for_a_while(self, bed: Bed) -> None:
        """With a revision that says that one was added here."""
        drawn = Outcome(100.0, "aws", "r", "z", "t", Market.SPOT, OutcomeKind.REFUSED, 2, "no room")
        before = bed.one.store.outcomes.revision
        await bed.one.store.outcomes.add(drawn)
        later = drawn._replace(at=200.0, zone=None, kind=OutcomeKind.GRANTED)
        await bed.two.store.outcomes.add(later)
        true(bed.one.store.outcomes.revision != before, "the revision changed")
        same(list(await bed.two.store.outcomes.since(0.0)), [drawn, later])
        same(list(await bed.one.store.outcomes.since(150.0)), [later])
        much_later = drawn._replace(at=100.0 + 31 * _DAY)
        await bed.one.store.outcomes.add(much_later)
        same(list(await bed.one.store.outcomes.since(0.0)), [much_later])


class CareContract:
    """What is forgotten, and who does what for all."""

    async def test_what_is_over_is_forgotten(self, bed: Bed) -> None:
        """Ended requests with their stories and notes; what lives, or tells how something living came up, is kept."""
        store, now = bed.one.store, bed.one.now()
        await store.clusters.open(Step(replace(cluster("c1"), request_id="kept"), ()), now)
        for id, status, at in (
            ("old", RequestStatus.SUCCEEDED, 10.0),
            ("new", RequestStatus.FAILED, 90.0),
            ("kept", RequestStatus.SUCCEEDED, 10.0),
        ):
            await store.requests.open(request(id), now)
            (claim,) = await store.requests.claim(bed.one.now(), 60, id, 1)
            over = replace(claim.entity, status=status, finished_at=at)
            await store.requests.commit(claim, Step(over, ()), request_life.Finished(None), now=now, due_at=None)
            await store.set_value(f"request-cluster:{id}", "c")
        await store.requests.open(request("open"), now)
        same(list(await bed.two.store.forget(50.0, 0.0)), ["old"])
        same(list(await bed.two.store.forget(50.0, 0.0)), [])
        same(await store.requests.get("old"), None)
        same(await store.stories.read("request", "old"), [])
        same(await store.get_value("request-cluster:old"), None)
        left = [await store.requests.get(id) is not None for id in ("new", "kept", "open")]
        same(left, [True, True, True])
        same(await store.get_value("request-cluster:new"), "c")

    async def test_clusters_stay_on_record_and_their_jobs_go(self, bed: Bed) -> None:
        """So that it can be told what they cost."""
        store, now = bed.one.store, bed.one.now()
        gone = replace(cluster("gone", phase=Phase.TERMINATED), ended_at=10.0)
        await store.clusters.open(Step(gone, (), "told"), now)
        await store.clusters.open(Step(cluster("lives"), (), "told"), now)
        for id in ("gone", "lives"):
            await store.jobs.open(Step(job(f"j-{id}", id), (), "told"), now)
            await store.set_value(f"heard:{id}", "7")
        while await store.forget(0.0, 50.0):
            pass
        same(await store.clusters.get("gone"), gone)
        same([await store.jobs.get(id) is not None for id in ("j-gone", "j-lives")], [False, True])
        same([len(await store.stories.read("cluster", id)) for id in ("gone", "lives")], [0, 1])
        same([await store.get_value(f"heard:{id}") for id in ("gone", "lives")], [None, "7"])

    async def test_uploads_of_what_is_open_are_in_use(self, bed: Bed) -> None:
        """Of requests and of jobs."""
        asked = replace(request("r1"), body={"uploads": {".": "m1"}})
        await bed.one.store.requests.open(asked, bed.one.now())
        waits = replace(job("j1"), uploads={".": "m2"})
        over = replace(job("j2"), uploads={".": "m3"}, phase=JobPhase.DONE)
        for each in (waits, over):
            await bed.one.store.jobs.open(Step(each, ()), bed.one.now())
        same(set(await bed.two.store.manifests_in_use()), {"m1", "m2"})

    async def test_a_duty_is_one_holder_s(self, bed: Bed) -> None:
        """Until it lets go, or its lease runs out."""
        one, two, lease = bed.one, bed.two, bed.lease_s
        held = await asyncio.gather(
            *(side.store.duties.hold(["sweep"], f"h{n}", side.now(), lease) for n, side in enumerate((one, two) * 3))
        )
        (holder,) = [f"h{n}" for n, duties in enumerate(held) if duties == {"sweep"}]
        same(await two.store.duties.hold(["other", "sweep"], "h9", two.now(), lease), {"other"})
        same(await one.store.duties.hold(["sweep"], holder, one.now(), lease), {"sweep"})
        true(not await two.store.duties.hold(["sweep"], "other", two.now(), lease), "not taken")
        await two.store.duties.let_go("sweep", "other")
        true(not await two.store.duties.hold(["sweep"], "other", two.now(), lease), "not taken")
        await one.store.duties.let_go("sweep", holder)
        same(await two.store.duties.hold(["sweep"], "other", two.now(), lease), {"sweep"})
        for _ in range(100):
            if await one.store.duties.hold(["sweep"], holder, one.now(), lease):
                break
            await bed.passes(lease / 20)
        true(not await two.store.duties.hold(["sweep"], "other", two.now(), lease), "passed on")

    async def test_duties_that_somebody_has_are_told(self, bed: Bed) -> None:
        """By the beginning of their names."""
        duties = bed.one.store.duties
        for name in ("worker:b", "worker:a", "sweep"):
            await duties.hold([name], "h", bed.one.now(), bed.lease_s)
        same(list(await bed.two.store.duties.held("worker:", bed.two.now())), ["worker:a", "worker:b"])
        await bed.passes(bed.lease_s * 1.1)
        await duties.hold(["worker:c"], "h", bed.one.now(), bed.lease_s)
        same(list(await bed.two.store.duties.held("worker:", bed.two.now())), ["worker:c"])
        await duties.tidy("worker:", bed.one.now())
        same(list(await duties.held("worker:", bed.one.now())), ["worker:c"])
        same(await bed.one.store.get_value("duty:worker:a"), None)


class LedgerContract:
    """What is billed is on record with the step that made it so."""

    async def test_lines_are_written_with_the_commit(self, bed: Bed) -> None:
        """Or not at all."""
        now = bed.one.now()
        opened = await bed.opened()
        claim = await bed.claimed()
        node = Instance("c1-0", "c1", 0, InstanceState.RUNNING, "", machine="i-1", since=now - 5)
        up = replace(opened, instances=(node,), phase=Phase.UP)
        await bed.commit(claim, up, now)
        (line,) = await bed.two.store.ledger.lines(Question())
        same((line.entry.resource, line.entry.began, line.entry.ended), ("i-1", now - 5, None))
        # The claim is of before the commit: neither the row nor the ledger take it.
        await _lost(bed.commit(claim, replace(up, instances=()), now))
        same(list(await bed.two.store.ledger.lines(Question(ended=True))), [line])
        again = await bed.commit(await bed.claimed(), replace(up, phase=Phase.TERMINATED), now + 20)
        same(again.entity.alive, False)
        same(list(await bed.two.store.ledger.lines(Question())), [])
        (over,) = await bed.two.store.ledger.lines(Question(ended=True, cluster="one", owner="u", since=now + 19))
        same((over.number, over.entry.ended), (line.number, now + 20))
        for asked in (Question(True, "two"), Question(True, owner="x"), Question(True, cloud="x"),
                      Question(True, since=now + 30)):  # fmt: skip
            same(list(await bed.one.store.ledger.lines(asked)), [])
        extra = over.entry._replace(resource="i-2", began=now, ended=now + 1)
        for _ in range(2):
            await bed.one.store.ledger.settle(Settlement(((line.number, now - 7, now + 18),), (extra,)))
        settled = [each.entry for each in await bed.two.store.ledger.of_clusters(["c1", "c2"])]
        same([(each.resource, each.began, each.ended) for each in settled],
              [("i-1", now - 7, now + 18), ("i-2", now, now + 1)])  # fmt: skip


class StoreContract(
    LeaseContract,
    LetterContract,
    MemoryContract,
    RecordContract,
    LedgerContract,
    CareContract,
    UserContract,
    ManagedJobContract,
    PoolContract,
):
    """All of it."""


def _dealt(bed: Bed, things: Sequence[T]) -> list[tuple[Side, T]]:
    return [((bed.one, bed.two)[number % 2], each) for number, each in enumerate(things)]


async def _lost(work: Awaitable[object]) -> None:
    try:
        await work
    except LeaseLost:
        return
    raise AssertionError("the lease is lost, and the write was accepted")

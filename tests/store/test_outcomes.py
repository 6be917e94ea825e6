"""Outcomes come back in order, are bounded in age, and survive the file being closed."""

import asyncio

from sky.core.model.catalog import Market
from sky.core.model.outcomes import Outcome, OutcomeKind
from sky.store.sqlite import SqliteStore

DAY = 86400.0


def outcome(at: float, kind: OutcomeKind = OutcomeKind.GRANTED, zone: str | None = "z1") -> Outcome:
    return Outcome(at, "aws", "us-east-1", zone, "p4d.24xlarge", Market.SPOT, kind, 2, "no room")


def test_what_was_added_is_read_back_oldest_first(tmp_path):
    async def story() -> None:
        store = SqliteStore(tmp_path / "state.db")
        first, second = outcome(100.0), outcome(50.0, OutcomeKind.REFUSED, zone=None)
        before = store.outcomes.revision
        await store.outcomes.add(first)
        await store.outcomes.add(second)
        assert store.outcomes.revision != before
        await store.close()
        again = SqliteStore(tmp_path / "state.db")
        assert await again.outcomes.since(0) == [first, second]
        assert await again.outcomes.since(60) == [first]
        await again.close()

    asyncio.run(story())


def test_what_is_a_month_old_is_forgotten():
    async def story() -> None:
        store = SqliteStore()
        await store.outcomes.add(outcome(10.0))
        await store.outcomes.add(outcome(10.0 + 31 * DAY))
        assert [each.at for each in await store.outcomes.since(0)] == [10.0 + 31 * DAY]
        await store.close()

    asyncio.run(story())

"""Wake-ups: none is missed between two looks, and whoever joins carries them elsewhere."""

import asyncio

from sky.kit.signals import Signals


async def test_a_change_between_two_looks_is_not_missed():
    signals = Signals()
    with signals.watch("a") as watch:
        signals.notify("a")
        assert await watch.changed(0)
        assert not await watch.changed(0.01)
    signals.notify("a")


async def test_who_joins_hears_what_is_notified_and_not_what_only_rings():
    signals, carried = Signals(), []
    signals.join(carried.append)
    with signals.watch("a") as watch:
        signals.notify("a")
        signals.ring("b")
        assert carried == ["a"]
        assert await watch.changed(0)
    signals.join(None)
    signals.notify("a")
    assert carried == ["a"]


async def test_everybody_is_woken_when_some_may_have_been_missed():
    signals = Signals()
    assert signals.hears_all
    with signals.watch("a") as one, signals.watch("b") as two:
        signals.heard(all_of_them=False)
        assert not signals.hears_all
        assert [await one.changed(0), await two.changed(0)] == [True, True]


async def test_who_is_woken_looks_up_without_a_change():
    signals = Signals()
    with signals.watch("a") as watch:
        waits = asyncio.ensure_future(watch.changed(10))
        await asyncio.sleep(0)
        watch.wake()
        assert not await waits
        assert not watch.taken()
        signals.notify("a")
        assert watch.taken()
        assert not watch.taken()


async def test_of_a_family_it_is_known_who_changed():
    signals = Signals()
    with signals.names("cluster") as news:
        assert news.whose() is None, "to begin with anybody may have"
        assert news.whose() == []
        for topic in ("cluster:b", "cluster:a", "clusters", "clusters:c", "cluster:b"):
            signals.notify(topic)
        assert await news.changed(0)
        assert news.whose() == ["b", "a"]
        assert not await news.changed(0)
        signals.ring("cluster:a")
        signals.ring("cluster")
        assert news.whose() is None, "somebody of the family"
        signals.heard(all_of_them=True)
        assert news.whose() is None, "some may have been missed"
    signals.notify("cluster:a")
    assert news.whose() == [], "who left hears no more"

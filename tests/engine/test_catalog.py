"""Prices in use stay young by themselves, as the configuration says; requests for more are carried out."""

import pytest

from sky.core.errors import CommandError
from sky.core.model.catalog import Refreshed, RefreshState
from sky.engine.catalog import CatalogCare
from sky.kit.clock import SystemClock


class Catalogs:
    """Notes what it is asked for."""

    def __init__(self, refreshable=("aws", "gcp"), fails=False):
        self.asked = []
        self._refreshable = refreshable
        self.fails = fails

    def refreshable(self):
        return self._refreshable

    async def refresh(self, clouds, if_older_s, say, *, accept=False):
        self.asked.append((list(clouds), if_older_s, accept))
        if self.fails:
            raise CommandError(3, "sky catalog refresh", "another refresh of this catalog is under way", None)
        return [Refreshed(cloud, RefreshState.YOUNG, "", 0, 0) for cloud in clouds]


class OnceClock(SystemClock):
    """Ends a loop at its second round."""

    class Over(Exception):
        pass

    def __init__(self):
        self.slept = []

    async def sleep(self, seconds):
        self.slept.append(seconds)
        if len(self.slept) > 1:
            raise self.Over


def care(catalogs, enabled, section=None, clock=None):
    async def of():
        return frozenset(enabled)

    return CatalogCare(catalogs, of, clock or SystemClock(), lambda: section or {})


async def test_only_what_is_enabled_and_can_be_asked():
    catalogs = Catalogs()
    await care(catalogs, ["aws", "local"]).look()
    assert catalogs.asked == [(["aws"], 7 * 3600.0, False)]


async def test_nothing_is_asked_without_an_enabled_cloud():
    catalogs = Catalogs()
    await care(catalogs, ["local"]).look()
    assert catalogs.asked == []


@pytest.mark.parametrize(
    ("section", "asked"),
    [({"refresh": False}, []), ({"refresh": True}, [7.0]), ({"older_than_hours": 2}, [2.0]), ({}, [7.0])],
)
async def test_the_configuration_decides(section, asked):
    catalogs = Catalogs()
    await care(catalogs, ["aws"], section).look()
    assert [older / 3600 for _, older, _ in catalogs.asked] == asked


async def test_a_refresh_that_fails_is_tried_again_later():
    catalogs, clock = Catalogs(fails=True), OnceClock()
    with pytest.raises(OnceClock.Over):
        await care(catalogs, ["aws"], clock=clock).run()
    assert len(catalogs.asked) == len(clock.slept) == 2
    assert clock.slept[0] > 60


async def test_a_request_passes_everything_on_and_tells_states_as_words(plane, monkeypatch):
    catalogs = Catalogs()
    monkeypatch.setattr(plane.catalogs, "refresh", catalogs.refresh)
    body = {"clouds": ["aws", "gcp"], "if_older_s": 60.0, "accept": True}
    request = await plane.submit("catalog_refresh", body, user="u")
    ended = await plane.wait(request.id, 20)
    assert catalogs.asked == [(["aws", "gcp"], 60.0, True)]
    assert [each["state"] for each in ended.result] == ["young", "young"]
    assert set(ended.result[0]) == {"cloud", "state", "detail", "offers", "quarantined"}

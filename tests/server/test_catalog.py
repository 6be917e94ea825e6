"""The server's catalog: what it answers from when files are missing or wrong, and refreshes as their own processes."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from sky.core.errors import CommandError, CredentialsRejected, ProviderDown
from sky.core.model.catalog import InstanceType, Market, Place, Price, Quality, Query, RefreshState, Source
from sky.providers.registry import Registry
from sky.server.catalog import CatalogHome
from sky.server.refreshing import Order, refresh
from sky.store.catalog.generations import Generations

NOW = 1_790_000_000.0


@pytest.fixture
def section():
    return {}


@pytest.fixture
def home(tmp_path, section):
    registry = Registry(tmp_path, lambda cloud: {}, {}, tmp_path)
    return CatalogHome(tmp_path / "catalog", registry, lambda: section)


@pytest.fixture
async def silent_place():
    """A place that takes calls and never answers; the value is its URL and an event that is set by a call."""
    called = asyncio.Event()
    writers = []

    async def serve(reader, writer):
        writers.append(writer)
        called.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", called
    server.close()
    for each in writers:
        each.close()
    await server.wait_closed()


def children():
    """Pids of our children."""
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    return {int(pid) for pid in task.read_text().split()}


# --- what is answered from -------------------------------------------------------------------------------------------


def test_without_any_catalog_there_is_an_empty_one(home, tmp_path):
    home._generations = Generations(tmp_path / "catalog", None)
    empty = home.current()
    assert (empty.generation, list(empty.summary()), list(empty.offers(Query()))) == ("empty", [], [])
    assert home.current() is empty, "made once"
    assert not (tmp_path / "catalog").exists(), "and not left lying about"


def test_the_seed_answers_where_nothing_can_be_written(home, tmp_path):
    (tmp_path / "catalog").write_text("a file where the folder should be")
    offers = home.current().offers(Query(accelerator="A100", accelerator_count=8.0))
    assert next(offers).accelerators == {"A100": 8}


def test_overrides_lie_where_the_configuration_says(home, section, tmp_path):
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "a.toml").write_text('[[deny]]\ninfra = "aws"\n')
    assert not home.overrides().denials
    section["folder"] = str(folder)
    assert [each.source for each in home.overrides().denials] == [f"{folder}/a.toml:1"]
    (folder / "a.toml").write_text('[[deny]]\ninfra = "gcp"\n[[deny]]\ninfra = "aws"\n')
    assert len(home.overrides().denials) == 2


def test_what_can_be_asked(home):
    assert {"aws", "azure", "gcp", "vultr"} <= set(home.refreshable())
    assert "local" not in home.refreshable()


# --- a refresh as a process ------------------------------------------------------------------------------------------


async def test_a_cancelled_refresh_leaves_no_process_and_the_lock_is_free(home, section, silent_place):
    url, called = silent_place
    section["sources"] = {"vultr": {"endpoint": url}}
    before = children()
    running = asyncio.ensure_future(home.refresh(["vultr"], None, lambda text: None))
    await asyncio.wait_for(called.wait(), 60)
    (child,) = children() - before
    with pytest.raises(CommandError, match="another refresh of this catalog is under way"):
        await home.refresh(["vultr"], None, lambda text: None)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not Path(f"/proc/{child}").exists()
    section["sources"] = {"vultr": {"endpoint": "ftp://nowhere"}}
    (outcome,) = await home.refresh(["vultr"], None, lambda text: None)
    assert (outcome.state, "endpoint: found 'ftp://nowhere'" in outcome.detail) == (RefreshState.FAILED, True)


async def test_what_it_broke_off_for_is_told(home, tmp_path):
    (tmp_path / "catalog").write_text("a file where the folder should be")
    with pytest.raises(CommandError, match=r"the refresh broke off: .*Error: .*catalog"):
        await home.refresh(["nebius"], None, lambda text: None)


async def test_a_place_that_cannot_be_asked_says_so(home):
    found = await home.refresh(["nebius", "kubernetes"], None, lambda text: None)
    assert {each.cloud: each.state for each in found} == dict.fromkeys(
        ["kubernetes", "nebius"], RefreshState.SOURCELESS
    )


# --- one refresh -----------------------------------------------------------------------------------------------------


class _Place:
    def __init__(self, source):
        self.source = source

    def price_source(self):
        return self.source


class Sources:
    """As the registry, with sources of our own."""

    def __init__(self, **sources):
        self.sources = sources

    def places(self):
        return sorted(self.sources)

    def manifest(self, cloud):
        return _Place(self.sources[cloud])


def sells(cloud, usd, fetched=NOW):
    def rows(web, ask):
        url = f"https://{cloud}.example"
        yield InstanceType(cloud, "m.4", 4.0, 16.0)
        yield Place(cloud, "r", None)
        yield Price(cloud, "m.4", "r", None, Market.ON_DEMAND, usd, Quality.LIVE, fetched, url)
        yield Source(cloud, url, fetched, 1)

    return rows


def fails(error):
    def rows(web, ask):
        raise error
        yield

    return rows


def run(folder, sources, now=NOW, **order):
    told = []
    refresh(Order(folder, order.pop("clouds", None), order.pop("older", None), {}, **order), sources, now, told.append)
    return {each["cloud"]: each for each in told if "cloud" in each}, [each["say"] for each in told if "say" in each]


def test_one_that_breaks_does_not_hold_up_the_others(tmp_path):
    sources = Sources(
        one=sells("one", 0.2),
        down=fails(ProviderDown("answered 503")),
        locked=fails(CredentialsRejected("needs a key")),
        defect=fails(ZeroDivisionError("division by zero")),
        none=None,
    )
    outcomes, said = run(tmp_path, sources)
    assert {cloud: each["state"] for cloud, each in outcomes.items()} == {
        "one": "refreshed", "down": "failed", "locked": "locked", "defect": "failed",
    }  # fmt: skip
    assert outcomes["defect"]["detail"] == "defect in its reader: ZeroDivisionError: division by zero"
    assert "one: 1 prices read" in " ".join(said)
    catalog = Generations(tmp_path).reader()
    assert [each.price_hourly for each in catalog.offers(Query(clouds=frozenset(["one"])))] == [0.2]
    assert run(tmp_path, sources, clouds=["none"])[0]["none"]["state"] == "sourceless"


def test_what_is_young_is_not_asked(tmp_path):
    run(tmp_path, Sources(one=sells("one", 0.2)))
    asked = Sources(one=fails(AssertionError("asked all the same")))
    outcomes, _ = run(tmp_path, asked, now=NOW + 1800, older=3600.0)
    assert (outcomes["one"]["state"], outcomes["one"]["detail"]) == ("young", "read 30 min ago")
    outcomes, _ = run(tmp_path, Sources(one=sells("one", 0.3, NOW + 7200)), now=NOW + 7200, older=3600.0)
    assert outcomes["one"]["state"] == "refreshed"


def test_an_order_crosses_as_json():
    order = Order(Path("/c"), ["aws"], 60.0, {"aws": {"endpoint": "http://x"}}, accept=True)
    assert Order.decode(order.encode().decode()) == order
    assert json.loads(order.encode())["clouds"] == ["aws"]

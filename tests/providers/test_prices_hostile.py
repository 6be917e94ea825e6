"""What becomes of a bad answer: a failure with the document's name or sound rows, never anything else."""

import contextlib
import json
import math

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from price_places import BANDWIDTH, EC2, KEYED, PLACES, RETAIL, TRANSFERS, graphql, source, stocked
from price_world import RECORDED, World

from sky.core.errors import CredentialsRejected, ProviderDown, ProviderFailure, RequestInvalid, Throttled
from sky.core.model.catalog import Egress, InstanceType, Place, Price, Source, Unchanged
from sky.providers.web import PublicWeb

#: Documents without which the rest is still told.
OPTIONAL = {"/spot-advisor-data.json", TRANSFERS, BANDWIDTH}
DOCUMENTS = [(place, path) for place in sorted(PLACES) for path in PLACES[place][1] if path not in OPTIONAL]


def gather(world, web, place, **config):
    return list(source(place)(web, world.ask(**config)))


def sound(rows):
    """Assert that every row has the types and the bounds that the catalog builds on."""
    for row in rows:
        assert isinstance(row, InstanceType | Price | Place | Egress | Source | Unchanged)
        if isinstance(row, InstanceType):
            assert all(type(each) is float and 0 < each < 1e6 for each in (row.cpus, row.memory_gib))
            assert type(row.accelerator_count) is float and (row.accelerator is None) == (row.accelerator_count == 0)
            assert row.accelerator_memory_gib is None or 0 < row.accelerator_memory_gib <= 2048
            assert math.isfinite(row.local_disk_gb) and row.arch in ("x86_64", "arm64")
        if isinstance(row, Egress):
            assert type(row.usd_per_gb) is float and 0 < row.usd_per_gb <= 10
        if isinstance(row, Price):
            assert type(row.price) is float and 0 < row.price <= 10_000
            assert row.zone is None or row.zone
        for name in (getattr(row, field, None) for field in ("name", "instance_type", "region", "zone", "accelerator")):
            assert name is None or (isinstance(name, str) and name.isprintable() and 0 < len(name) <= 120)


def outcome(world, web, place, **config):
    """Rows that are sound, or None for a failure of the kind that sources may raise."""
    try:
        rows = gather(world, web, place, **config)
    except ProviderFailure:
        return None
    sound(rows)
    return rows


WRONG = {
    "html": ((200, {"Content-Type": "text/html"}, b"<html><title>Sign in</title></html>"), ProviderDown),
    "object": ((200, {"Content-Type": "application/json"}, b"{}"), ProviderDown),
    "list": ((200, {"Content-Type": "application/json"}, b"[]"), ProviderDown),
    "empty": ((200, {}, b""), ProviderDown),
    "binary": ((200, {}, b"\x00\xff" * 5000), ProviderDown),
    "404": ((404, {}, b"gone"), RequestInvalid),
    "401": ((401, {}, b"who?"), CredentialsRejected),
    "429": ((429, {"Retry-After": "9"}, b""), Throttled),
    "503": ((503, {}, b""), ProviderDown),
}


@pytest.mark.parametrize(
    ("place", "path", "wrong"),
    # An empty list of what is in stock is a good answer.
    [(*each, wrong) for each in DOCUMENTS for wrong in WRONG if not (wrong == "list" and "availability?" in each[1])],
)
def test_a_wrong_document_is_a_failure_that_names_it(world, web, home, place, path, wrong):
    stocked(world, place, home)
    world.answers[path], failure = WRONG[wrong]
    with pytest.raises((failure, CredentialsRejected) if "token" in path else failure) as raised:
        sound(gather(world, web, place))
    assert place in str(raised.value) or "127.0.0.1" in str(raised.value)
    if failure is Throttled:
        assert raised.value.retry_after == 9


@pytest.mark.parametrize(("place", "path"), [each for each in DOCUMENTS if each[0] != "runpod"])
def test_a_document_cut_in_the_middle_is_a_failure(world, web, home, place, path):
    stocked(world, place, home)
    world.cut(path)
    with pytest.raises(ProviderDown, match="in the middle of the document"):
        gather(world, web, place)


@pytest.mark.parametrize("place", sorted(set(PLACES) - {"runpod"}))
def test_a_document_that_stalls_is_a_failure(world, home, place):
    stocked(world, place, home)
    world.stall(next(path for path in PLACES[place][1] if path not in OPTIONAL))
    with pytest.raises(ProviderDown, match="nothing arrived"):
        gather(world, PublicWeb(timeout_s=20, stall_s=0.2), place)


class Narrow:
    """A web that reads less: bounds that the sources ask for are far above what a test should send."""

    def __init__(self, web, at_most):
        self._web, self._at_most = web, at_most

    def get(self, url, **asked):
        return self._web.get(url, **{**asked, "at_most": self._at_most})


@pytest.mark.parametrize("place", sorted(PLACES))
def test_a_document_beyond_the_bound_is_a_failure(world, web, home, place):
    stocked(world, place, home)
    with pytest.raises(ProviderDown, match="larger than the 20 bytes"):
        gather(world, Narrow(web, 20), place)


@pytest.mark.parametrize("place", KEYED)
def test_without_a_key_nothing_is_asked(world, web, home, place):
    with pytest.raises(CredentialsRejected) as raised:
        gather(world, web, place)
    assert world.asked == []
    assert place in str(raised.value) and "~/." in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"\n\n", b"a b\n"])
@pytest.mark.parametrize("place", KEYED)
def test_a_key_file_without_a_key_says_so(world, web, home, place, content):
    for file in PLACES[place][2]:
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_bytes(content)
    with pytest.raises(CredentialsRejected):
        gather(world, web, place)


@pytest.mark.parametrize("place", KEYED)
def test_a_refused_key_is_never_said(world, web, home, place):
    stocked(world, place, home)
    for path in PLACES[place][1]:
        world.answers[path] = lambda handler, body: (
            403, {}, " ".join([*handler.headers.values(), body.decode()]).encode()
        )  # fmt: skip
    with pytest.raises(CredentialsRejected) as raised:
        gather(world, web, place)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("config", [{"endpoint": 7}, {"endpoint": "file:///etc"}, {"regions": "x"}, {"regions": [1]}])
@pytest.mark.parametrize("place", sorted(PLACES))
def test_a_senseless_configuration_is_refused(world, web, home, place, config):
    stocked(world, place, home)
    with pytest.raises(RequestInvalid, match=r"endpoint|regions"):
        gather(world, web, place, **config)


@pytest.mark.parametrize(
    "link",
    ["https://169.254.169.254/latest/meta-data", "http://127.0.0.1:1/", "file:///etc/passwd", "http://[", "//x/y"],
)
def test_a_page_cannot_send_the_next_question_elsewhere(world, web, home, link):
    stocked(world, "azure", home)
    document = json.loads((RECORDED / "azure-1.json").read_text())
    world.json(RETAIL, {**document, "NextPageLink": link})
    with pytest.raises(ProviderDown, match="end of its pages"):
        gather(world, web, "azure")


@pytest.mark.parametrize(("place", "path"), [("aws", TRANSFERS), ("azure", BANDWIDTH)])
@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_prices_of_machines_do_not_depend_on_those_of_transfers(world, web, home, place, path, wrong):
    stocked(world, place, home)
    before = [row for row in gather(world, web, place) if isinstance(row, Price)]
    world.answers[path], _ = WRONG[wrong]
    rows = gather(world, web, place)
    assert [row for row in rows if isinstance(row, Price)] == before
    assert not any(isinstance(row, Egress) for row in rows)


def test_pages_in_a_circle_end(world, web, home):
    stocked(world, "azure", home)
    world.answers["/api/retail/prices?$filter=x&$skip=1000"] = world.answers[RETAIL]
    with pytest.raises(ProviderDown, match="end of its pages"):
        gather(world, web, "azure")


def test_a_list_with_most_rows_unreadable_fails_as_a_whole(world, web, home):
    stocked(world, "vast", home)
    offers = json.loads((RECORDED / "vast.json").read_text())["offers"]
    world.json("/api/v0/bundles/", {"offers": [*offers, *[{**offers[0], "dph_total": -1}] * 20]})
    with pytest.raises(ProviderDown, match="20 and 0 cannot, the first about 'H100 SXM'"):
        gather(world, web, "vast")


def test_one_unreadable_row_costs_one_row(world, web, home):
    stocked(world, "vast", home)
    before = [row for row in gather(world, web, "vast") if isinstance(row, Price)]
    offers = json.loads((RECORDED / "vast.json").read_text())["offers"]
    world.json("/api/v0/bundles/", {"offers": [{**offers[0], "gpu_name": "x" * 10_000}, None, *offers]})
    assert [row for row in gather(world, web, "vast") if isinstance(row, Price)] == before


@pytest.mark.parametrize(
    "price", ["-1", "0", "nan", "inf", "1e999", "9" * 400, "", "free", "0x10", "1_0", "10001", "٣"]
)
def test_a_senseless_price_is_no_price(world, web, home, price):
    stocked(world, "aws", home)
    world.recorded(f"{EC2}/us-east-1/index.csv", "aws-us-east-1.csv", {'"22.5"': f'"{price}"'})
    rows = gather(world, web, "aws")
    assert not any(isinstance(row, Price) and row.instance_type == "p4d.24xlarge" for row in rows)
    assert any(isinstance(row, Price) and row.instance_type == "m5.xlarge" for row in rows)


@pytest.mark.parametrize("name", ["x" * 121, "a\tb", "\u202ereversed", "", "'; drop table offer", "-rf", "naïve"])
def test_a_senseless_name_is_no_name(world, web, home, name):
    stocked(world, "hyperbolic", home)
    document = json.loads((RECORDED / "hyperbolic.json").read_text())
    good = document["vms"][0]
    for field in ("InstanceType", "Region"):
        world.json("/v2/skypilot/catalog", {"vms": [good, {**good, field: name}]})
        rows = gather(world, web, "hyperbolic")
        sound(rows)
        assert len([row for row in rows if isinstance(row, Price)]) == 1


# --- random documents ------------------------------------------------------------------------------------------------

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.just([]), st.just({}),
    st.lists(st.integers(), max_size=3), st.just(10**400), st.just("1e308"), st.just("-0.0"), st.just([[{}]]),
    st.just({"name": None, "value": []}), st.sampled_from(["0.5", "12 GiB", "\x00", "NaN", "Linux", "a" * 5000]),
)  # fmt: skip


def spots(document, here=()):
    """Every place inside a document, as the way to it."""
    yield here
    if isinstance(document, dict):
        for key, value in document.items():
            yield from spots(value, (*here, key))
    if isinstance(document, list):
        for at, value in enumerate(document):
            yield from spots(value, (*here, at))


def changed(document, way, value):
    if not way:
        return value
    if isinstance(document, dict) and way[0] in document:
        return {**document, way[0]: changed(document[way[0]], way[1:], value)}
    if isinstance(document, list) and isinstance(way[0], int) and way[0] < len(document):
        return [changed(each, way[1:], value) if at == way[0] else each for at, each in enumerate(document)]
    return document


@contextlib.contextmanager
def a_world():
    made = World()
    try:
        yield made
    finally:
        made.close()


FUZZ = settings(
    max_examples=60, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@pytest.mark.parametrize(
    ("place", "path"), [(p, d) for p in sorted(PLACES) for d, name in PLACES[p][1].items() if name and ".json" in name]
)
def test_random_values_give_sound_rows_or_a_failure(home, place, path):
    with a_world() as world:
        stocked(world, place, home)
        good = json.loads((RECORDED / PLACES[place][1][path]).read_text().replace("ENDPOINT", world.url))
        ways = list(spots(good))
        web = PublicWeb(timeout_s=20, stall_s=10)

        @FUZZ
        @given(st.lists(st.tuples(st.sampled_from(ways), ODD), min_size=1, max_size=4))
        def fuzz(changes):
            document = good
            for way, value in changes:
                document = changed(document, way, value)
            world.json(path, document)
            outcome(world, web, place)

        fuzz()


def test_random_values_in_a_graph_give_sound_rows_or_a_failure(home, tmp_path, monkeypatch):
    good = json.loads((RECORDED / "runpod-stock.json").read_text())
    ways = list(spots(good))
    with a_world() as world:
        web = PublicWeb(timeout_s=20, stall_s=10)
        answer = graphql("runpod-places.json", "runpod-stock.json")

        @FUZZ
        @given(st.lists(st.tuples(st.sampled_from(ways), ODD), min_size=1, max_size=4))
        def fuzz(changes):
            document = good
            for way, value in changes:
                document = changed(document, way, value)

            def stock(handler, body):
                if b"query Places" in body:
                    return answer(handler, body)
                return 200, {}, json.dumps(document).encode()

            world.answers["/graphql"] = stock
            outcome(world, web, "runpod")

        fuzz()


@pytest.mark.parametrize(
    ("place", "path", "name"),
    [
        ("aws", f"{EC2}/us-east-1/index.csv", "aws-us-east-1.csv"),
        ("aws", TRANSFERS, "aws-transfers.csv"),
        ("gcp", "/machine-types-regions.csv", "gcp.csv"),
    ],
)
def test_random_tables_give_sound_rows_or_a_failure(home, place, path, name):
    good = (RECORDED / name).read_text()
    with a_world() as world:
        stocked(world, place, home)
        web = PublicWeb(timeout_s=20, stall_s=10)

        @FUZZ
        @given(
            st.lists(st.tuples(st.integers(0, len(good)), st.integers(0, 12), st.text(max_size=12)), max_size=6),
        )
        def fuzz(changes):
            text = good
            for at, length, put in changes:
                text = text[:at] + put + text[at + length :]
            world.answers[path] = (200, {}, text.encode("utf-8", "surrogatepass"))
            outcome(world, web, place)

        fuzz()

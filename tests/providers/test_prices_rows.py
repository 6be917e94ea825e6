"""What becomes of a good answer: for every place the exact types and prices, in the right units."""

import tracemalloc

import pytest
from price_places import EC2, PLACES, RATES, SCALEWAY, source, stocked

from sky.core.errors import ProviderDown
from sky.core.model.catalog import Egress, InstanceType, Market, Place, Price, Quality, Source, Unchanged
from sky.providers.documents import Reading

OD, SPOT = Market.ON_DEMAND, Market.SPOT


@pytest.fixture
def told(world, web, home):
    """Asks a place that answers well; `told(place, **config)` is the rows."""

    def ask(place, known=(), **config):
        stocked(world, place, home)
        return list(source(place)(web, world.ask(known, **config)))

    return ask


def types(rows):
    return {
        row.name: (row.cpus, row.memory_gib, row.accelerator, row.accelerator_count, row.accelerator_memory_gib)
        for row in rows
        if isinstance(row, InstanceType)
    }


def prices(rows):
    found = [row for row in rows if isinstance(row, Price)]
    made = {(row.instance_type, row.zone or row.region, row.market): row.price for row in found}
    assert len(made) == len(found), "a price was told twice"
    return made


def egress(rows):
    return {(row.region, row.to): row.usd_per_gb for row in rows if isinstance(row, Egress)}


def attribute(rows, name):
    return {getattr(row, name) for row in rows if isinstance(row, Price)}


@pytest.mark.parametrize("place", sorted(PLACES))
def test_rows_are_in_order_and_say_where_they_are_from(told, world, place):
    rows = told(place)
    cloud = {each.cloud for each in rows}
    assert cloud == {place}
    sources = {row.url: row for row in rows if isinstance(row, Source)}
    places = {(row.region, row.zone) for row in rows if isinstance(row, Place)}
    for row in rows:
        if isinstance(row, Price):
            assert row.source in sources and row.observed == world.ask().now
            assert (row.region, row.zone) in places
        if isinstance(row, Egress):
            assert row.source in sources
    assert sum(row.rows for row in sources.values()) == len(prices(rows)) + len(egress(rows))
    assert prices(rows)
    assert all("secret" not in repr(row) for row in rows)
    assert isinstance(rows[-1], Source)
    assert attribute(rows, "currency") == {"USD"}
    assert not any(isinstance(row, Unchanged) for row in rows)


def test_aws(told):
    rows = told("aws")
    assert types(rows) == {
        "m5.xlarge": (4, 16, None, 0, None),
        "p4d.24xlarge": (96, 1152, "A100", 8, 40),
        "t4g.micro": (2, 1, None, 0, None),
        "m5.metal": (96, 384, None, 0, None),
    }
    assert prices(rows) == {
        ("m5.xlarge", "us-east-1", OD): 0.2,
        ("p4d.24xlarge", "us-east-1", OD): 22.5,
        ("t4g.micro", "us-east-1", OD): 0.0084,
        ("trn1.32xlarge", "us-east-1", OD): 21.0,
        ("m5.xlarge", "us-east-1", SPOT): 0.071,
    }
    assert egress(rows) == {
        ("us-east-1", "eu-west-1"): 0.02,
        ("us-east-1", "internet"): 0.09,
        ("us-east-1", "zone"): 0.01,
    }
    shapes = {row.name: row for row in rows if isinstance(row, InstanceType)}
    assert (shapes["p4d.24xlarge"].local_disk_gb, shapes["p4d.24xlarge"].local_disk_kind) == (8000, "nvme")
    assert (shapes["p4d.24xlarge"].network_gbps, shapes["t4g.micro"].arch) == (400, "arm64")
    assert shapes["t4g.micro"].features == {"burstable"} and shapes["m5.metal"].features == {"metal"}
    spot = next(row for row in rows if isinstance(row, Price) and row.market is SPOT)
    assert spot.interruption == pytest.approx(1 - 0.925 ** (1 / 730))
    assert spot.quality is Quality.LIVE


def test_aws_finds_columns_by_name(told, world, web, home):
    before = prices(told("aws"))
    status, headers, body = world.answers[f"{EC2}/us-east-1/index.csv"]
    head, *table = body.decode().split('"OfferCode","AmazonEC2"\n')
    turned = "\n".join(
        ",".join([cells[0], *cells[:0:-1]]) for cells in (_cells(line) for line in table[0].splitlines())
    )
    world.answers[f"{EC2}/us-east-1/index.csv"] = (status, headers, f"{head}{turned}\n".encode())
    assert prices(source("aws")(web, world.ask())) == before


def _cells(line):
    return ['"' + cell + '"' for cell in line.strip('"').split('","')]


def test_aws_asks_only_for_the_regions_that_are_wanted(told, world):
    rows = told("aws", regions=["eu-west-1"])
    assert prices(rows) == {}
    assert not any("us-east-1" in target for _, target, _, _ in world.asked)


def test_aws_tells_spot_prices_also_where_the_advisor_is_silent(told, world, web, home):
    told("aws")
    world.answers["/spot-advisor-data.json"] = (503, {}, b"")
    rows = list(source("aws")(web, world.ask()))
    assert prices(rows)["m5.xlarge", "us-east-1", SPOT] == 0.071
    assert all(row.interruption is None for row in rows if isinstance(row, Price))


def test_azure(told):
    rows = told("azure")
    assert types(rows) == {"Standard_D4s_v5": (4, 16, None, 0, None)}
    assert egress(rows) == {("eastus", "internet"): 0.087}
    assert prices(rows) == {
        ("Standard_D4s_v5", "eastus", OD): 0.2,
        ("Standard_D4s_v5", "eastus", SPOT): 0.04,
        ("Standard_D4s_v5", "westeurope", OD): 0.23,
        ("Standard_ND96isr_H100_v5", "eastus", OD): 98.0,
    }


def test_azure_is_the_same_whatever_the_order_of_pages_and_items(told, world, web, home):
    before = prices(told("azure"))
    import json

    first, second = (path for path in world.answers if path.startswith("/api/retail") and "Bandwidth" not in path)
    pages = [json.loads(world.answers[path][2]) for path in (first, second)]
    link = pages[0]["NextPageLink"]
    for page in pages:
        page["Items"].reverse()
    world.json(first, {**pages[1], "NextPageLink": link})
    world.json(second, {**pages[0], "NextPageLink": None})
    assert prices(source("azure")(web, world.ask())) == before


def test_gcp(told):
    rows = told("gcp")
    assert types(rows) == {
        "n1-standard-8": (8, 30, None, 0, None),
        "a2-highgpu-8g": (96, 680, "A100", 8, 40),
        "g2-standard-24": (24, 96, "L4", 2, 24),
        "t2a-standard-1": (1, 4, None, 0, None),
        "e2-micro": (2, 1, None, 0, None),
    }
    assert prices(rows) == {
        ("n1-standard-8", "us-central1", OD): 0.4,
        ("n1-standard-8", "us-central1", SPOT): 0.08,
        ("a2-highgpu-8g", "us-central1", OD): 29.5,
        ("a2-highgpu-8g", "us-central1", SPOT): 14.2,
        ("g2-standard-24", "europe-west4", OD): 2.1,
        ("t2a-standard-1", "us-central1", OD): 0.04,
        ("t2a-standard-1", "us-central1", SPOT): 0.01,
        ("a9-strangegpu-8g", "us-central1", OD): 80.0,
        ("a9-strangegpu-8g", "us-central1", SPOT): 30.0,
        ("e2-micro", "us-central1", OD): 0.0084,
        ("e2-micro", "us-central1", SPOT): 0.0025,
    }
    assert Place("gcp", "us-central1", "us-central1-b") in rows
    assert Place("gcp", "europe-west4", None, None, "NL") in rows


def test_gcp_prices_attached_gpus_with_their_hosts(told, world, web, home):
    told("gcp")
    world.recorded("/v1/services/6F81-5844-456A/skus", "gcp-skus.json")
    rows = list(source("gcp")(web, world.ask(api_key="secret-google-1")))
    assert types(rows)["n1-standard-8+T4:1"] == (8, 30, "T4", 1, 16)
    found = prices(rows)
    assert found["n1-standard-8+T4:1", "us-central1", OD] == pytest.approx(0.75)
    assert found["n1-standard-8+T4:4", "us-central1", SPOT] == pytest.approx(0.48)
    assert found["n1-standard-8+V100:1", "us-central1", OD] == pytest.approx(2.88)
    assert ("n1-standard-8+V100:1", "us-central1", SPOT) not in found
    assert not any("P100" in named for named, _, _ in found)
    asked = next(asked for asked in world.asked if asked[1].startswith("/v1/services"))
    assert "secret" not in asked[1] and "secret-google-1" in asked[2].values()


def test_oci(told):
    rows = told("oci", regions=["us-ashburn-1", "uk-london-1"])
    shapes = types(rows)
    assert shapes["BM.GPU.H100.8"] == (224, 2048, "H100", 8, 80)
    assert shapes["VM.GPU2.1"] == (24, 72, "P100", 1, 16)
    assert shapes["VM.Standard.E4.Flex$_4_16"] == (4, 16, None, 0, None)
    assert "VM.Standard.E4.Flex$_12_48" not in shapes
    found = prices(rows)
    assert found["BM.GPU.H100.8", "uk-london-1", OD] == 80
    assert ("BM.GPU.H100.8", "uk-london-1", SPOT) not in found
    assert found["VM.GPU2.1", "us-ashburn-1", OD] == pytest.approx(1.2)
    assert found["VM.Standard.E4.Flex$_4_16", "us-ashburn-1", OD] == pytest.approx(0.05 + 0.024)
    assert found["VM.Standard.E4.Flex$_4_16", "us-ashburn-1", SPOT] == pytest.approx(0.037)
    assert egress(rows) == {("us-ashburn-1", "internet"): 0.0085, ("uk-london-1", "internet"): 0.0085}
    halves = {row.quality for row in rows if isinstance(row, Price) and row.market is SPOT}
    assert halves == {Quality.DERIVED}


def test_ovhcloud(told):
    rows = told("ovhcloud")
    assert types(rows) == {"b3-8": (2, 8, None, 0, None), "l4-180": (45, 180, "L4", 2, 24)}
    assert prices(rows) == {
        ("b3-8", "GRA11", OD): pytest.approx(0.0635),
        ("b3-8", "DE1", OD): pytest.approx(0.0635),
        ("b3-8", "EU-WEST-LZ-BRU-A", OD): pytest.approx(0.076),
        ("l4-180", "GRA9", OD): pytest.approx(1.875),
    }
    assert attribute(rows, "quality") == {Quality.DERIVED}


def test_ovhcloud_in_the_currency_of_another_subsidiary(told, world, web, home):
    told("ovhcloud")
    path = "/1.0/order/catalog/public/cloud?ovhSubsidiary=CA"
    world.recorded(path, "ovhcloud.json", {'"EUR"': '"CAD"'})
    rows = list(source("ovhcloud")(web, world.ask(subsidiary="CA")))
    assert prices(rows)["l4-180", "GRA9", OD] == pytest.approx(1.5 * 1.25 / 1.5)
    world.recorded(path, "ovhcloud.json", {'"EUR"': '"USD"'})
    rows = list(source("ovhcloud")(web, world.ask(subsidiary="CA")))
    assert prices(rows)["l4-180", "GRA9", OD] == 1.5
    assert attribute(rows, "quality") == {Quality.LIST}
    world.recorded(path, "ovhcloud.json", {'"EUR"': '"XXX"'})
    with pytest.raises(ProviderDown, match="no rate between XXX and USD"):
        list(source("ovhcloud")(web, world.ask(subsidiary="CA")))


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "12.5", "0.0001", "1e3", "", "9" * 30])
def test_a_rate_that_cannot_be_true_is_refused(told, world, web, home, rate):
    told("hetzner")
    world.recorded(RATES, "rates.xml", {"1.2500": rate})
    with pytest.raises(ProviderDown, match="no rate between EUR and USD"):
        list(source("hetzner")(web, world.ask()))


@pytest.mark.parametrize(
    ("said", "gib", "bare"),
    [("A100 SXM4", 80, "A100"), ("A100-80G-PCIE", 80, "A100"), ("RTX A6000 48GB", 48, "RTX A6000"),
     ("H100_80GB", 80, "H100"), ("H100 SXM", 80, "H100 SXM"), ("V100-32GB", None, "V100-32GB"), ("L4", 24, "L4"),
     ("L40S (compute mode)", None, "L40S"), ("80GB", 80, "80GB")],
)  # fmt: skip
def test_a_device_is_named_without_its_memory(world, said, gib, bare):
    reading = Reading("x", "https://x.example/", world.ask(), Quality.LIST)
    (made,) = reading.type("t", 1, 1, accelerator=said, count=1, device_gib=gib)
    assert made.accelerator == bare


def test_runpod(told):
    rows = told("runpod")
    assert types(rows) == {
        "1x_H100-SXM_SECURE": (20, 125, "H100 SXM", 1, 80),
        "2x_H100-SXM_SECURE": (40, 250, "H100 SXM", 2, 80),
        "1x_A100-80GB_SECURE": (8, 117, "A100", 1, 80),
    }
    found = prices(rows)
    assert found["2x_H100-SXM_SECURE", "US-GA-1", OD] == pytest.approx(5.4)
    assert found["2x_H100-SXM_SECURE", "EUR-IS-1", SPOT] == pytest.approx(3.0)
    assert ("1x_A100-80GB_SECURE", "US-GA-1", SPOT) not in found
    assert {(row.region, row.zone) for row in rows if isinstance(row, Price)} == {("US", "US-GA-1"), ("IS", "EUR-IS-1")}


def test_vast(told):
    rows = told("vast")
    assert types(rows) == {
        "4x-H100_SXM-64-516096": (64, 504, "H100 SXM", 4, 79.6),
        "1x-RTX_4090-10-41984": (10, 41, "RTX 4090", 1, 24.0),
    }
    assert prices(rows) == {
        ("4x-H100_SXM-64-516096", "SE", OD): 7.9,
        ("4x-H100_SXM-64-516096", "SE", SPOT): 4.0,
        ("4x-H100_SXM-64-516096", "US", OD): 8.2,
        ("1x-RTX_4090-10-41984", "FR", OD): 0.35,
    }


def test_vultr(told):
    rows = told("vultr")
    assert types(rows) == {
        "vc2-1c-1gb": (1, 1, None, 0, None),
        "vcg-a16-3c-32g-8vram": (3, 32, "A16", 0.5, 16),
        "vbm-256c-2048gb-8-mi300x-gpu": (256, pytest.approx(2267.5, abs=0.1), "MI300X", 8, 192),
    }
    assert prices(rows) == {
        ("vc2-1c-1gb", "ewr", OD): 0.007,
        ("vc2-1c-1gb", "ams", OD): 0.007,
        ("vcg-a16-3c-32g-8vram", "ewr", OD): 0.24,
        ("vbm-256c-2048gb-8-mi300x-gpu", "ord", OD): pytest.approx(10.0),
    }


def test_scaleway(told):
    rows = told("scaleway", regions=["fr-par"])
    assert types(rows) == {"DEV1-S": (2, 2, None, 0, None), "H100-2-80G": (48, 480, "H100-PCIe", 2, 80)}
    assert len(SCALEWAY) == 9
    assert {row.zone for row in rows if isinstance(row, Price)} == {"fr-par-1", "fr-par-2", "fr-par-3"}
    assert prices(rows)["H100-2-80G", "fr-par-2", OD] == pytest.approx(6.875)
    assert attribute(rows, "quality") == {Quality.DERIVED}


def test_lambda(told, world):
    rows = told("lambda")
    assert types(rows) == {"gpu_8x_h100_sxm5": (208, 1800, "H100", 8, 80), "gpu_1x_gh200": (64, 432, "GH200", 1, 96)}
    assert prices(rows) == {
        ("gpu_8x_h100_sxm5", "us-west-1", OD): 31.92,
        ("gpu_8x_h100_sxm5", "us-east-1", OD): 31.92,
    }
    assert {row.name: row.arch for row in rows if isinstance(row, InstanceType)}["gpu_1x_gh200"] == "arm64"
    assert world.asked[0][2]["Authorization"] == "Bearer secret-lambda-1"


def test_digitalocean(told):
    rows = told("do")
    assert types(rows) == {"s-1vcpu-1gb": (1, 1, None, 0, None), "gpu-h100x8-640gb": (160, 1920, "h100", 8, 80)}
    assert prices(rows)["gpu-h100x8-640gb", "nyc2", OD] == 23.92


def test_hetzner(told):
    rows = told("hetzner")
    assert types(rows) == {"cx23": (2, 4, None, 0, None), "cax11": (2, 4, None, 0, None)}
    assert prices(rows) == {
        ("cx23", "fsn1", OD): pytest.approx(0.0075),
        ("cx23", "hel1", OD): pytest.approx(0.00775),
        ("cax11", "fsn1", OD): pytest.approx(0.00825),
    }
    assert attribute(rows, "quality") == {Quality.DERIVED}


def test_shadeform(told):
    rows = told("shadeform")
    assert types(rows) == {"hyperstack_A100-80Gx2": (60, 240, "A100", 2, 80)}
    assert prices(rows) == {("hyperstack_A100-80Gx2", "canada-1", OD): 2.85}


def test_verda(told, world):
    rows = told("verda")
    assert types(rows)["8A100.176V"] == (176, 1480, "A100", 8, 80)
    assert prices(rows) == {
        ("8A100.176V", "FIN-01", OD): 10.32,
        ("8A100.176V", "FIN-03", OD): 10.32,
        ("8A100.176V", "FIN-01", SPOT): 4.13,
        ("CPU.4V", "FIN-01", OD): 0.05,
    }
    assert world.asked[1][2]["Authorization"] == "Bearer tok-abcdefgh"


def test_cudo(told):
    rows = told("cudo")
    assert types(rows) == {
        "sapphire-rapids-h100_1x8v16gb": (8, 16, "H100 SXM", 1, None),
        "sapphire-rapids-h100_1x8v32gb": (8, 32, "H100 SXM", 1, None),
        "sapphire-rapids-h100_1x12v24gb": (12, 24, "H100 SXM", 1, None),
        "sapphire-rapids-h100_1x12v48gb": (12, 48, "H100 SXM", 1, None),
        "epyc-milan_0x2v4gb": (2, 4, None, 0, None),
        "epyc-milan_0x2v8gb": (2, 8, None, 0, None),
        "epyc-milan_0x4v8gb": (4, 8, None, 0, None),
    }
    assert prices(rows)["sapphire-rapids-h100_1x8v32gb", "us-santaclara-1", OD] == pytest.approx(2.144)


def test_seeweb(told):
    rows = told("seeweb")
    assert types(rows) == {"ECS2GPU3": (16, 120, "A100", 2, 80), "eCS1": (1, 1, None, 0, None)}
    assert prices(rows)["ECS2GPU3", "it-mi2", OD] == pytest.approx(4.75)


def test_mithril_tells_the_last_price_and_no_floor(told):
    rows = told("mithril")
    assert types(rows) == {"h100-8x": (192, 1536, "H100", 8, 80)}
    assert prices(rows) == {("h100-8x", "us-central1-b", SPOT): 13.6}


def test_primeintellect(told):
    rows = told("primeintellect")
    assert types(rows) == {
        "lambdalabs__8xH100_80GB__208__1800": (208, 1800, "H100", 8, 80),
        "crusoecloud__CPU_NODE__2__8": (2, 8, None, 0, None),
    }
    assert prices(rows) == {
        ("lambdalabs__8xH100_80GB__208__1800", "US - us-south-2", OD): pytest.approx(24.1),
        ("crusoecloud__CPU_NODE__2__8", "US - us-east1-a", OD): 0.1,
    }


def test_hyperbolic(told):
    assert prices(told("hyperbolic")) == {("1x-H100-16-128", "default", OD): 1.49}


def test_fluidstack(told):
    rows = told("fluidstack")
    assert types(rows) == {}
    assert prices(rows)["H100_SXM5_80GB::8", "norway_2_eu", OD] == pytest.approx(23.12)


@pytest.mark.parametrize(
    ("place", "path", "region"),
    [("aws", f"{EC2}/us-east-1/index.csv", "us-east-1"), ("aws", "/spot.json", None),
     ("gcp", "/machine-types-regions.csv", None), ("lambda", "/api/v1/instance-types", None),
     ("ovhcloud", "/1.0/order/catalog/public/cloud?ovhSubsidiary=IE", None)],
)  # fmt: skip
def test_what_did_not_change_is_not_read_again(told, world, web, home, place, path, region):
    told(place)
    status, headers, body = world.answers[path]

    def answer(handler, _):
        if handler.headers.get("If-None-Match") == '"1"':
            return 304, {"ETag": '"1"'}, b""
        return status, {**headers, "ETag": '"1"'}, body

    world.answers[path] = answer
    known = [row for row in source(place)(web, world.ask()) if isinstance(row, Source)]
    assert [row.etag for row in known if row.url == world.url + path] == ['"1"']
    again = list(source(place)(web, world.ask(known)))
    assert Unchanged(place, world.url + path, region) in again
    assert not any(isinstance(row, Price) and row.source == world.url + path for row in again)


def test_everything_may_arrive_zipped(told, world, web, home):
    before = told("gcp")
    world.zipped("/machine-types-regions.csv")
    assert list(source("gcp")(web, world.ask())) == before


def test_the_list_of_a_region_is_never_in_memory(told, world, web, home):
    told("aws")
    head, _, _ = world.answers[f"{EC2}/us-east-1/index.csv"][2].decode().rpartition('"E1"')
    other = head.splitlines()[-1].replace('"Shared"', '"Dedicated"') + "\n"
    piece = (other * 500).encode()
    pieces = 120

    def answer(handler, _):
        size = len(head.encode()) + len(piece) * pieces
        handler.send_response(200)
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        handler.wfile.write(head.encode())
        for _ in range(pieces):
            handler.wfile.write(piece)

    world.answers[f"{EC2}/us-east-1/index.csv"] = answer
    assert len(piece) * pieces > 8 * 2**20
    tracemalloc.start()
    try:
        rows = sum(isinstance(row, Price) for row in source("aws")(web, world.ask()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 5
    assert peak < 4 * 2**20
